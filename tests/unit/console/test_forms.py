"""Forms, query strings and uploads, and where the log-in leads on to."""

import re

import falcon
import pytest
from falcon.testing import create_req
from hypothesis import given
from hypothesis import strategies as st

from app.console import forms
from app.console.guard import HOME, safe_next
from app.http.problems import Problem
from tests.support.tables import for_each


def posted(body: bytes, content_type: str = "application/x-www-form-urlencoded", **headers: str) -> falcon.Request:
    return create_req(method="POST", path="/admin/cards", body=body, headers={"Content-Type": content_type, **headers})


def multipart(*parts: bytes, boundary: str = "x") -> falcon.Request:
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
    return posted(body, f"multipart/form-data; boundary={boundary}")


FIELD = b'Content-Disposition: form-data; name="csrf"\r\n\r\nabc'
FILE = b'Content-Disposition: form-data; name="file"; filename="../../etc/passwd"\r\n\r\nid\n\x00\xff'


def test_a_form_keeps_repeated_fields_and_empty_values() -> None:
    form = forms.read_form(posted(b"id=A&id=B&note=&batch=%E5%8D%A1+1"), 1000)
    assert form.all("id") == ["A", "B"]
    assert form.one("note") == ""
    assert form.one("batch") == "卡 1"
    assert form.one("missing") == ""


def refused(request: falcon.Request, size: int = 10_000, *, takes_files: bool = False) -> str:
    """The status with which a form is refused."""
    with pytest.raises(Problem) as problem:
        forms.read_form(request, size, takes_files=takes_files)
    return problem.value.status


@for_each("body", [b"a=%00", b"a=%ff", b"a=\xff", b"a=%ed%a0%80", b"&".join([b"a=1"] * 5001)])
def test_a_form_that_postgresql_cannot_store_is_refused(body: bytes) -> None:
    assert refused(posted(body), 100_000) == falcon.HTTP_400


def test_a_repeated_single_field_is_refused() -> None:
    with pytest.raises(Problem, match="several values"):
        forms.read_form(posted(b"by=1d&by=2d"), 1000).one("by")


def test_a_number_is_read_only_if_it_can_be_stored() -> None:
    for text, number in (("0", 0), (" 7 ", 7), ("9" * 18, 10**18 - 1)):
        assert forms.Form({"id": [text]}).number("id") == number
    for text in ("", "-1", "1.5", "x", "\u0661", "\u00b2", "9" * 19):
        assert forms.Form({"id": [text]}).number("id") is None
    assert forms.Form().number("id") is None


def test_a_form_that_is_too_large_or_of_another_type_is_refused_before_it_is_read() -> None:
    assert refused(posted(b"a=" + b"1" * 1000), 1000) == falcon.HTTP_413
    assert refused(posted(b"{}", "application/json")) == falcon.HTTP_415
    request = multipart(FIELD)  # on a page without files
    assert refused(request) == falcon.HTTP_415
    assert request.bounded_stream.read(3) == b"--x", "nothing of it was read"
    assert refused(multipart(FIELD, boundary="x;" + ";" * 200), takes_files=True) == falcon.HTTP_415
    unknown = multipart(FIELD)
    del unknown.env["CONTENT_LENGTH"]
    assert refused(unknown, takes_files=True) == falcon.HTTP_400


def test_an_uploaded_file_is_read_as_bytes_and_its_name_ignored() -> None:
    for name in (b"../../etc/passwd", ("卡" * 255).encode()):
        file = FILE.replace(b"../../etc/passwd", name)
        form = forms.read_form(multipart(FIELD, file), 10_000, takes_files=True)
        assert (form.one("csrf"), form.files) == ("abc", {"file": b"id\n\x00\xff"})


@for_each(
    "request_",
    [
        multipart(FIELD, boundary="y"),
        multipart(b"Content-Disposition: form-data\r\n\r\nabc"),
        multipart(b'Content-Disposition: form-data; name="a"\r\n\r\n\xff'),
        multipart(*[FIELD] * 9),
        multipart(b'Content-Disposition: form-data; name="' + b";" * 1_000 + b"\r\n\r\nabc"),
        posted(b"--x", "multipart/form-data"),
        posted(b"--x\r\n" + FIELD, "multipart/form-data; boundary=x"),
    ],
)
def test_a_broken_upload_is_refused(request_: falcon.Request) -> None:
    assert refused(request_, takes_files=True) == falcon.HTTP_400


LONGEST = "/admin/cards?q=" + "x" * 3_985  # of a request line


@for_each(
    "path",
    [
        "/admin/",
        "/admin/cards?status=active&after=17.ABC",
        "/admin/cards?note=a(b)!'*~&q=x//y..z",
        "/admin/card?id=A&back=/admin/cards%3Fq%3D1",
        "/admin/journal?kind=%E5%8D%A1",
        LONGEST,
    ],
)
def test_the_log_in_leads_on_to_the_consoles_own_pages(path: str) -> None:
    assert safe_next(path) == path


@for_each(
    "elsewhere",
    [
        *("", "https://evil.example/", "//evil.example/admin/", "/admin//evil.example", "/admin/\\evil", "/admin"),
        *("/v1/verify", "javascript:alert(1)", "/admin/\n/x", " /admin/", "/admin/../v1", "/\\evil.example"),
        *("/admin/\r\nLocation: https://evil.example", "/admin/%0d%0aSet-Cookie:%20evil=1", "/admin.evil.example"),
        *("/admin@evil.example", "\u2028/admin/", "/admin/\ud800", LONGEST + "x"),
    ],
)
def test_no_link_leads_from_the_log_in_to_another_site(elsewhere: str) -> None:
    assert safe_next(elsewhere) == HOME


@given(st.text())
def test_every_text_leads_to_a_page_of_the_console(text: str) -> None:
    assert safe_next(text).startswith("/admin/")
    assert not re.search(r"[\s\\]|//", safe_next(text))
