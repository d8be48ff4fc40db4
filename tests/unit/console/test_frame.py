import hashlib
import re
from pathlib import Path

import falcon
import pytest
from falcon.testing import create_req
from hypothesis import given
from hypothesis import strategies as st

from app.console import forms, rendering, words
from app.console.guard import HOME, safe_next
from app.console.static_files import StaticFiles
from app.domain.codes import CardStatus, Code, EventKind
from app.domain.operators import Role, Scope
from app.http.problems import Problem

VENDOR = Path(rendering.__file__).parent / "static/vendor"


def posted(body: bytes, content_type: str = "application/x-www-form-urlencoded", **headers: str) -> falcon.Request:
    return create_req(method="POST", path="/admin/cards", body=body, headers={"Content-Type": content_type, **headers})


def test_the_kept_libraries_are_the_ones_that_their_table_names() -> None:
    table = dict(
        re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.MULTILINE)
    )
    kept = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.*s")}
    assert table == kept
    assert {path.name.split(".")[0] for path in VENDOR.glob("*.LICENSE")} == {name.split(".")[0] for name in kept}


@pytest.mark.parametrize("value", [*CardStatus, *Code, *EventKind, *Role, *Scope])
def test_every_code_kind_state_role_and_scope_has_a_name_in_both_languages(value: str) -> None:
    assert words.word(value).zh != value
    assert not words.word(value).en.isupper()


@pytest.mark.parametrize(
    "path",
    [
        "/admin/",
        "/admin/cards?status=active&after=17.ABC",
        "/admin/cards?note=a(b)!'*~&q=x//y..z",
        "/admin/card?id=A&back=/admin/cards%3Fq%3D1",
        "/admin/journal?kind=%E5%8D%A1",
    ],
)
def test_the_log_in_leads_on_to_the_consoles_own_pages(path: str) -> None:
    assert safe_next(path) == path


@pytest.mark.parametrize(
    "elsewhere",
    [
        "",
        "https://evil.example/",
        "//evil.example/admin/",
        "/admin//evil.example",
        "/admin/\\evil",
        "/admin",
        "/v1/verify",
        "javascript:alert(1)",
        "/admin/\n/x",
        " /admin/",
        "/admin/../v1",
        "/\\evil.example",
        "/admin/\r\nLocation: https://evil.example",
        "/admin/%0d%0aSet-Cookie:%20evil=1",
        "/admin.evil.example",
        "/admin@evil.example",
        "\u2028/admin/",
        "/admin/\ud800",
    ],
)
def test_no_link_leads_from_the_log_in_to_another_site(elsewhere: str) -> None:
    assert safe_next(elsewhere) == HOME


@given(st.text())
def test_every_text_leads_to_a_page_of_the_console(text: str) -> None:
    assert safe_next(text).startswith("/admin/")
    assert not re.search(r"[\s\\]|//", safe_next(text))


def test_a_form_keeps_repeated_fields_and_empty_values() -> None:
    form = forms.read_form(posted(b"id=A&id=B&note=&batch=%E5%8D%A1+1"), 1000)
    assert form.all("id") == ["A", "B"]
    assert form.one("note") == ""
    assert form.one("batch") == "卡 1"
    assert form.one("missing") == ""


@pytest.mark.parametrize("body", [b"a=%00", b"a=%ff", b"a=\xff", b"a=%ed%a0%80", b"&".join([b"a=1"] * 5001)])
def test_a_form_that_postgresql_cannot_store_is_refused(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        forms.read_form(posted(body), 100_000)
    assert refused.value.status == falcon.HTTP_400


def test_a_repeated_single_field_is_refused() -> None:
    with pytest.raises(Problem, match="several values"):
        forms.read_form(posted(b"by=1d&by=2d"), 1000).one("by")


def test_a_form_that_is_too_large_is_refused_before_it_is_read() -> None:
    with pytest.raises(Problem) as refused:
        forms.read_form(posted(b"a=" + b"1" * 1000), 1000)
    assert refused.value.status == falcon.HTTP_413


def test_other_content_types_are_refused() -> None:
    with pytest.raises(Problem) as refused:
        forms.read_form(posted(b"{}", "application/json"), 1000)
    assert refused.value.status == falcon.HTTP_415


def multipart(*parts: bytes, boundary: str = "x") -> falcon.Request:
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
    return posted(body, f"multipart/form-data; boundary={boundary}")


FIELD = b'Content-Disposition: form-data; name="csrf"\r\n\r\nabc'
FILE = b'Content-Disposition: form-data; name="file"; filename="../../etc/passwd"\r\n\r\nid\n\x00\xff'


def test_an_uploaded_file_is_read_as_bytes_and_its_name_ignored() -> None:
    form = forms.read_form(multipart(FIELD, FILE), 10_000)
    assert form.one("csrf") == "abc"
    assert form.files == {"file": b"id\n\x00\xff"}


@pytest.mark.parametrize(
    "request_",
    [
        multipart(FIELD, boundary="y"),
        multipart(b"Content-Disposition: form-data\r\n\r\nabc"),
        multipart(b'Content-Disposition: form-data; name="a"\r\n\r\n\xff'),
        multipart(*[FIELD] * 65),
        posted(b"--x", "multipart/form-data"),
        posted(b"--x\r\n" + FIELD, "multipart/form-data; boundary=x"),
    ],
)
def test_a_broken_upload_is_refused(request_: falcon.Request) -> None:
    with pytest.raises(Problem) as refused:
        forms.read_form(request_, 10_000)
    assert refused.value.status == falcon.HTTP_400


def test_the_digest_in_an_address_is_the_file_s() -> None:
    files = StaticFiles()
    digest = hashlib.sha256((VENDOR / "htmx.min.js").read_bytes()).hexdigest()
    assert files.url("htmx.min.js") == f"/admin/static/htmx.min.js?v={digest[:12]}"
    assert files.get("../rendering.py") is None


def test_empty_parameters_are_left_out_of_urls() -> None:
    assert (
        rendering.url("/admin/cards", status=None, q="", batch="a b&c", page=0) == "/admin/cards?batch=a+b%26c&page=0"
    )


def test_control_and_bidirectional_characters_are_shown_escaped() -> None:
    assert rendering._harmless("a\u202eb\x1b") == "a\\u202eb\\x1b"  # noqa: SLF001
    assert str(rendering._lines(["<b>", "\u202e"])) == "&lt;b&gt;\n\\u202e"  # noqa: SLF001
