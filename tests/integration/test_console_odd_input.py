"""Odd input to every route of the console gets an answer, never an internal error."""

from collections.abc import Iterator, Mapping
from itertools import islice
from urllib.parse import urlencode

import pytest

from app.console.issue import MAX_ISSUED
from app.domain.codes import EventKind
from app.storage.models import Event
from tests.support.console import Browser, Seen, add_operator
from tests.support.console_scene import address_of, csrf_of, furnish, paths
from tests.support.service import Service

NO_TEXT = ("%00", "%ff", "%ED%A0%80", "%F4%90%80%80")
ODD = (
    "-1",
    "9" * 25,
    "99999-01-01",
    "0000-00-00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59.999999-14:00",
    "١٢٣",
    "00000000120000",
    "1e309",
    "%_\\'\"",
    "🂡" * 300,
    "99999999999999999999999.A",
    "-99999999999999.A",
    "9999-12-31.A.b",
    "17.A",
    "17.99999999999999999999999",
    ".A",
    ".1",
)
TAKE_MANY = {"/admin/cards/apply", "/admin/cards/confirm", "/admin/cards/export", "/admin/cards/import"}
"""The forms that take many cards, or a file. All forms are read in one place: the others get every body at night."""


def test_the_page_of_a_refused_log_in_repeats_no_long_text(service: Service) -> None:
    add_operator("olga")
    outsider = Browser(service)
    outsider.set_cookie(outsider.session_cookie.name, "anything")
    page = outsider.get("/admin/login")
    long = {"name": '"' * 60_000, "password": "wrong", "next": "/admin/cards?q=" + "x" * 5_000}
    refused = outsider.submit(page, "/admin/login", **long)
    assert refused.status == 403
    assert len(refused.text) < 2 * len(page.text) < 50_000


@pytest.mark.parametrize("odd", [ODD[::4], pytest.param(ODD, marks=pytest.mark.nightly)], ids=["some", "all"])
def test_no_odd_input_is_an_error_of_the_service(service: Service, odd: tuple[str, ...]) -> None:
    add_operator("olga")
    scene, log = furnish(["plain"]), service.log.stat().st_size
    outsider = Browser(service)
    asked_so_far, sent_so_far = set[str](), set[str]()
    for path, access in paths().items():
        owner = Browser(service).walk_in("olga")
        csrf = csrf_of(str(owner.cookie("kadun_session")))
        address, query, form = address_of(path), scene.queries.get(path, {}), scene.forms.get(path, {})
        query = {**query, "lang": ""}
        asked = [f"{name}={value}" for name in list(query)[:1] for value in NO_TEXT]
        asked += [f"{name}=1&{name}=2&{name}={'x' * 6000}" for name in list(query)[:1]]
        asked += [urlencode({**query, name: value}) for name, value in untried(asked_so_far, query, odd)]
        asked += ["&" * 8000, "=&=&=", "%", urlencode({"a": ODD[-1] * 2}), "&".join(f"{n}=" for n in range(1500))]
        if "GET" in access:
            for said in asked:
                fine(owner.get(f"{address}?{said[:8100]}"))
            fine(outsider.get(f"{address}?{asked[0]}"))
        if "POST" in access:
            for body, kind in islice(bodies(form, csrf), None if odd == ODD or path in TAKE_MANY else 2):
                fine(owner.send("POST", address, body, {"Content-Type": kind}))
            if "own_password" not in form and path not in {"/admin/login", "/admin/logout"}:
                for name, value in untried(sent_so_far, form, odd):
                    fine(owner.post(address, {**form, name: value}, csrf=csrf))
        assert owner.get("/admin/account").status == (303 if path == "/admin/logout" else 200), (
            "else all this is nobody's"
        )
    assert "unhandled error" not in service.log.read_text()[log:]
    issued = Event.select().where(Event.kind == EventKind.ISSUED)
    assert max(event.details["count"] for event in issued) <= MAX_ISSUED


def untried(names: set[str], fields: Mapping[str, str], odd: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Each field with every odd value where it is the first of its name, with one of them on every other page."""
    for number, name in enumerate(fields):
        values = (odd[number % len(odd)],) if name in names else odd
        names.add(name)
        yield from ((name, value) for value in values)


def fine(seen: Seen) -> None:
    assert seen.status < 500, (seen.path, seen.words)
    if seen.status in {400, 413, 415, 403}:
        assert "<main" in seen.text, seen.path


def bodies(form: dict[str, str], csrf: str) -> Iterator[tuple[bytes, str]]:
    """What is no such form, with the session's own token where there is room for one."""
    encoded, token = "application/x-www-form-urlencoded", f"csrf={csrf}&".encode()
    fields = [*form, "id"]
    yield (
        token + b"&".join(b"%s=%s" % (name.encode(), value.encode()) for name in fields for value in NO_TEXT[:1]),
        encoded,
    )
    yield token + b"&".join(f"{name}={value}".encode() for name in fields for value in (1, 2)), encoded
    yield token + b"&".join(b"f%d=1" % number for number in range(10_000)), encoded
    yield token + b"action=freeze&" + b"&".join(b"id=%032d" % number for number in range(4_000)), encoded
    yield token + b"\xff\xfe=\x80", encoded
    yield b"", encoded
    yield b"{}", "application/json"
    yield b"x" * 300_000, encoded
    boundary = "multipart/form-data; boundary=b"
    head = b'--b\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n' + csrf.encode() + b"\r\n"
    parts = [b'Content-Disposition: form-data; name="%s"\r\n\r\n1' % name.encode() for name in fields]
    yield head + b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n", boundary
    for part in (
        b"\r\n\r\nx",
        b'Content-Disposition: form-data; name="\xff"\r\n\r\nx',
        b"Content-Disposition: form-data; name=file; filename*=odd''x\r\n\r\nx",
        b"Content-Disposition: form-data; name=file; filename*=UTF-8''%ff\r\n\r\nx",
        b'Content-Disposition: form-data; name=file; filename="../../x"\r\n\r\n\0\xff\xfe\0,\0',
        b'Content-Disposition: form-data; name=file; filename=x\r\n\r\nid,validity\n"unclosed',
        b"Content-Disposition: form-data; name=action\r\nContent-Type: text/plain; charset=odd\r\n\r\n\xff",
    ):
        yield head + b"--b\r\n" + part + b"\r\n--b--\r\n", boundary
    yield head + b"--b\r\n", boundary
    yield head * 100 + b"--b--\r\n", boundary
    yield b"x", "multipart/form-data"
