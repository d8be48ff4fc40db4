"""The way to the console: what reaches it, how much of it, what is compressed, and whom KADUN_ADMIN_ALLOW keeps out."""

import contextlib
import gzip
import http.client
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.console.guard import LONGEST_LOG_IN
from app.console.page import FORM_BYTES
from tests.e2e.conftest import GatewayMaker
from tests.support.http_exchange import Response
from tests.support.nginx import HSTS, Gateway
from tests.support.nginx_backend import EXPORT_BYTES, STYLES, ConsoleStandIn
from tests.support.service import ROOT, wait_for

LIMIT, IMPORT_BYTES = 5 * 1024 * 1024, 5200 * 1024
BUFFER = 8 * 1024  # client_body_buffer_size: so much of a body may still lie in memory
IMPORT = "/admin/cards/import"
LONG_FORMS = ["/admin/cards/confirm", "/admin/cards/apply"]
TOO_LARGE = "内容过大 / Too much at once"
SESSION = {"Cookie": "session=x"}
COMPOSE = (ROOT / "docker-compose.yml").read_text()
GZIP = {"Accept-Encoding": "gzip"}
PLACES = ["/admin", "/admin/", "/admin/cards?status=active", IMPORT, "/admin/static/app.css"]


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleStandIn]:
    with ConsoleStandIn(tmp_path_factory.mktemp("console") / "console.sock") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, console: ConsoleStandIn) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("nginx"), console.socket) as running:
        yield running


@pytest.mark.parametrize(
    ("asked", "arrives"),
    [
        ("/admin", "/admin"),
        ("/admin/", "/admin/"),
        ("/admin/cards?after=x%20y", "/admin/cards?after=x%20y"),
        ("/v1/../admin//cards/%61", "/admin/cards/a"),
    ],
)
def test_the_console_is_reached_by_the_path_that_nginx_understood(gateway: Gateway, asked: str, arrives: str) -> None:
    assert gateway.ask("GET", asked).json()["path"] == arrives


@pytest.mark.parametrize("path", ["/administrator", "/Admin/", "/admin.css", "/kadun-admin-refused"])
def test_what_only_looks_like_the_console_is_nothing(gateway: Gateway, path: str) -> None:
    gateway.ask("GET", path).require_problem(404, "NOT_FOUND")


def test_a_path_that_leaves_the_console_is_nothing(gateway: Gateway) -> None:
    gateway.ask("GET", "/admin/../x").require_page(404, "没有这个页面 / There is no such page")


def test_an_import_of_5_mib_arrives_whole_and_a_longer_one_is_refused(gateway: Gateway) -> None:
    answer = gateway.ask("POST", IMPORT, b"x" * LIMIT, SESSION).json()
    assert (answer["path"], answer["body_bytes"]) == (IMPORT, LIMIT)
    gateway.ask("POST", IMPORT, b"x" * (IMPORT_BYTES + 1), SESSION).require_page(413, TOO_LARGE)


@pytest.mark.parametrize("path", LONG_FORMS)
def test_a_long_form_arrives_whole_and_the_app_refuses_what_is_a_little_longer(gateway: Gateway, path: str) -> None:
    assert gateway.ask("POST", path, b"x" * (FORM_BYTES + 1), SESSION).json()["body_bytes"] == FORM_BYTES + 1
    gateway.ask("POST", path, b"x" * (FORM_BYTES + 9 * 1024), SESSION).require_page(413, TOO_LARGE)


@pytest.mark.parametrize(
    "path", ["/admin", "/admin/login", "/admin/cards/imports", "/admin/static/app.css", "/v1/shop/cards", "/v1/execute"]
)
def test_nothing_else_takes_as_much(gateway: Gateway, path: str) -> None:
    assert gateway.ask("POST", path, b"x" * (64 * 1024)).json()["body_bytes"] == 64 * 1024
    answer = gateway.ask("POST", path, b"x" * (64 * 1024 + 1), SESSION)
    if path.startswith("/admin"):
        answer.require_page(413, TOO_LARGE)
    else:
        answer.require_problem(413, "BODY_TOO_LARGE")


def test_the_longest_log_in_is_read_with_the_same_referer_and_a_browsers_other_headers(gateway: Gateway) -> None:
    path = "/admin/login?ended=yes&next=".ljust(LONGEST_LOG_IN + 150, "x")  # the page with news of log-ins adds less
    before = {"User-Agent": "x" * 500, "Accept": "x" * 300}
    after = {"Accept-Language": "x" * 100, "Cookie": "x" * 300}
    sent = {**before, "Referer": f"https://kadun.example{path}", **after}
    assert gateway.ask("GET", path, headers=sent).status == 200


@pytest.mark.parametrize("path", [*LONG_FORMS, IMPORT])
def test_who_sends_a_long_form_without_a_session_is_led_to_the_log_in(gateway: Gateway, path: str) -> None:
    answer = gateway.ask("POST", path, b"x" * LIMIT if path == IMPORT else b"x")
    assert (answer.status, answer.headers["location"]) == (303, "/admin/login?ended=yes")
    answer = gateway.ask("GET", f"{path}?lang=en")
    assert (answer.status, answer.headers["location"]) == (303, f"/admin/login?next={path}?lang=en")
    answer = gateway.ask("POST", path, b"x", {"HX-Request": "true"})
    assert (answer.status, answer.headers["hx-redirect"]) == (204, "/admin/login?ended=yes")


@pytest.mark.parametrize("path", ["/kadun-session", "/kadun-log-in"])
def test_the_question_for_the_session_is_nginxs_own(gateway: Gateway, path: str) -> None:
    gateway.ask("GET", path).require_problem(404, "NOT_FOUND")


def test_long_forms_wait_for_the_app_where_it_is_away(make_gateway: GatewayMaker) -> None:
    for method, path in (("POST", IMPORT), ("GET", "/admin"), ("GET", "/admin/cards?q=1")):
        answer = make_gateway().ask(method, path, b"x" if method == "POST" else None, SESSION)
        answer.require_page(503, "服务暂时不可用 / Unavailable at the moment")
        assert answer.headers["retry-after"] == "5"


def leave_unfinished(gateway: Gateway, path: str, body: bytes, cookie: str = "") -> ssl.SSLSocket:
    """Send a form but for its last byte."""
    connection = gateway.connect()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{cookie}Content-Length: {len(body) + 1}\r\n\r\n"
    with contextlib.suppress(OSError):  # refused before all is there
        connection.sendall(head.encode() + body)
    return connection


def test_nothing_is_stored_of_a_strangers_long_form(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for path in (*LONG_FORMS, IMPORT):
            connection = stack.enter_context(leave_unfinished(gateway, path, b"x" * (BUFFER + 1)))
            assert b" 303 " in connection.recv(100)
        assert gateway.held_bytes("console") == 0


def test_the_unfinished_imports_of_one_address_leave_room_for_anothers(gateway: Gateway) -> None:
    room = {name: int(size) * 2**20 for name, size in re.findall(r"/var/cache/nginx(\S*?):size=(\d+)m", COMPOSE)}
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(leave_unfinished(gateway, IMPORT, b"x" * LIMIT, "Cookie: a=b\r\n"))
        imports = 2 * (LIMIT - BUFFER)
        wait_for(lambda: gateway.held_bytes("console") >= imports)
        gateway.ask("POST", IMPORT, b"x", SESSION).require_page(429, "请求过于频繁 / Too many requests")
        assert gateway.held_bytes("console") + IMPORT_BYTES < room["/console"]
        answer = gateway.ask("POST", IMPORT, b"x" * LIMIT, SESSION, source="127.0.0.9")
        assert answer.json()["body_bytes"] == LIMIT
        for _ in range(48):  # with the two, all that an address may have open
            stack.enter_context(leave_unfinished(gateway, "/admin/login", b"x" * (64 * 1024 - 1)))
        wait_for(lambda: gateway.held_bytes("body") >= 48 * (64 * 1024 - 1 - BUFFER))
        assert 3 * gateway.held_bytes("body") < room[""], "three addresses leave room for others"


def test_an_export_waits_for_its_reader_and_fills_no_disk(gateway: Gateway, console: ConsoleStandIn) -> None:
    before = console.sent_bytes

    def is_quiet() -> bool:
        seen = console.sent_bytes
        time.sleep(0.2)  # between two looks
        return before < seen == console.sent_bytes

    connection = http.client.HTTPSConnection("127.0.0.1", gateway.https_port, context=gateway.context(), timeout=30)
    connection.request("GET", "/admin/export")
    answer = connection.getresponse()
    wait_for(is_quiet)
    assert console.sent_bytes - before < EXPORT_BYTES, "nginx took it all, for a reader who reads nothing"
    assert len(answer.read()) == EXPORT_BYTES
    connection.close()


def test_style_sheets_are_compressed_for_whoever_can_read_that(gateway: Gateway) -> None:
    answer = gateway.ask("GET", "/admin/static/app.css", headers=GZIP)
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert gzip.decompress(answer.body) == STYLES
    assert gateway.ask("GET", "/admin/static/app.css").body == STYLES


def test_no_page_is_ever_compressed(gateway: Gateway) -> None:
    assert "content-encoding" not in gateway.ask("GET", "/admin/page", headers=GZIP).headers


def test_the_cookie_reaches_the_pages_and_not_the_style_sheets(gateway: Gateway) -> None:
    def seen(path: str) -> str:
        return gateway.ask("GET", path, headers={"Cookie": "session=x"}).headers["x-cookie-seen"]

    assert [seen(path) for path in ("/admin", "/admin/page", "/admin/static/app.css")] == ["session=x"] * 2 + ["none"]


@pytest.mark.parametrize("path", ["/admin", "/admin/page", "/admin/static/app.css"])
def test_the_console_hears_the_true_address_alone(gateway: Gateway, path: str) -> None:
    answer = gateway.ask("GET", path, headers={"X-Real-IP": "192.0.2.66"}, source="127.0.0.9")
    assert answer.headers["x-address-seen"] == "127.0.0.9"
    assert answer.headers["strict-transport-security"] == HSTS


def refused(answer: Response) -> bool:
    """Whether nginx kept this request away from the console."""
    if "x-address-seen" in answer.headers:
        return False
    answer.require_page(403, "无权访问 / No access")
    assert answer.body.count(b"KADUN_ADMIN_ALLOW") == 2
    assert answer.headers["strict-transport-security"] == HSTS
    return True


@pytest.mark.parametrize(
    ("allow", "addresses"),
    [
        ("", {"192.0.2.1": True, "2001:db8::1": True}),
        (" ", {"192.0.2.1": True}),
        ("192.0.2.1", {"192.0.2.1": True, "192.0.2.2": False, "2001:db8::1": False}),
        ("192.0.2.0/25", {"192.0.2.1": True, "192.0.2.127": True, "192.0.2.128": False}),
        ("192.0.2.1, 198.51.100.7,2001:DB8:1::/48 ", {
            "192.0.2.1": True, "198.51.100.7": True, "2001:db8:1:2::3": True,
            "198.51.100.8": False, "2001:db8:2::1": False,
        }),
        ("2001:db8::5", {"2001:db8::5": True, "2001:db8::6": False, "192.0.2.1": False}),
        ("127.0.0.1 ::1", {"127.0.0.1": True, "::1": True, "127.0.0.2": False}),
        ("0.0.0.0/0", {"192.0.2.1": True, "2001:db8::1": False}),
    ],
)  # fmt: skip
def test_where_addresses_are_named_nobody_else_comes_near_the_console(
    tmp_path: Path, console: ConsoleStandIn, allow: str, addresses: dict[str, bool]
) -> None:
    with Gateway(tmp_path / "nginx", console.socket, believe_test_address=True, KADUN_ADMIN_ALLOW=allow) as gateway:
        for address, welcome in addresses.items():
            headers = {"X-Test-Address": address, **SESSION}
            assert [refused(gateway.ask("GET", place, headers=headers)) for place in PLACES] == [not welcome] * 5
            assert not refused(gateway.ask("GET", "/v1/x", headers=headers)), "customers are another matter"
            forged = headers | {"X-Kadun-Admin-Stranger": "0"}
            told = gateway.ask("GET", "/", headers=forged).json()["headers"]["x-kadun-admin-stranger"]
            assert told == ("0" if welcome else "1"), "the front page names the console to nobody else"


@pytest.mark.parametrize("spelling", ["//admin/", "/%61dmin/", "/v1/../admin/x", "/./admin", "/admin/static/../x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_spelling_and_no_header_lets_a_stranger_in(
    tmp_path: Path, console: ConsoleStandIn, method: str, spelling: str
) -> None:
    with Gateway(tmp_path / "nginx", console.socket, KADUN_ADMIN_ALLOW="192.0.2.1") as gateway:
        headers = {"X-Real-IP": "192.0.2.1", "X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
        assert refused(gateway.ask(method, spelling, None if method == "GET" else b"x", headers))


@pytest.mark.parametrize(
    "allow", [" , ", "办公室", "192.0.2.1，192.0.2.2", "1.2.3.4 *", "office.example.com", "default", "1;2"]
)
def test_what_is_no_address_at_all_stops_the_start_with_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], allow: str
) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        Gateway(tmp_path / "nginx", tmp_path / "nobody.sock", KADUN_ADMIN_ALLOW=allow)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("40-networks.sh: KADUN_ADMIN_ALLOW in .env: '")
    assert line.endswith("' is not an address or network (203.0.113.7, 2001:db8::/32)")


@pytest.mark.parametrize("entry", ["192.0.2.300", "192.0.2", "1", "fe", "2001:db8::/129", "192.0.2.0/33", "::1::", "/"])
def test_what_looks_like_an_address_and_is_none_stops_the_start_too(tmp_path: Path, entry: str) -> None:
    gateway = Gateway(tmp_path / "nginx", tmp_path / "nobody.sock", KADUN_ADMIN_ALLOW=f"192.0.2.1 {entry}")
    with pytest.raises(AssertionError, match=rf'invalid network "{entry}" in .*/kadun_admin_allow\.conf'), gateway:
        pass
