"""nginx with a stand-in for the app: the way to the console; TLS, redirects, HSTS, and a balancer before it."""

import contextlib
import gzip
import http.client
import re
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from app.console.guard import LONGEST_LOG_IN
from app.console.licence.programs import MAX_SEALED
from app.console.page import FORM_BYTES
from tests.e2e.conftest import GatewayMaker
from tests.support.services.http_exchange import Response, read_response
from tests.support.services.nginx import EXPORT_BYTES, HSTS, STYLES, ConsoleStandIn, Gateway, until_refused
from tests.support.services.service import ROOT, wait_for

LIMIT, IMPORT_BYTES = 5 * 1024 * 1024, 5200 * 1024
BUFFER = 8 * 1024  # client_body_buffer_size: so much of a body may still lie in memory
IMPORT, SEAL = "/admin/cards/import", "/admin/programs/seal"
LONG_FORMS = ["/admin/cards/confirm", "/admin/cards/apply"]
TOO_LARGE = "内容过大 / Too much at once"
SESSION = {"Cookie": "session=x"}
COMPOSE = (ROOT / "docker-compose.yml").read_text()
GZIP = {"Accept-Encoding": "gzip"}
PLACES = ["/admin", "/admin/", "/admin/cards?status=active", IMPORT, "/admin/static/app.css"]


@pytest.fixture(scope="module")
def gateway(bare: Gateway) -> Gateway:
    return bare


def test_the_console_is_reached_by_the_path_that_nginx_understood_and_by_no_other(gateway: Gateway) -> None:
    for asked, arrives in (
        ("/admin", "/admin"),
        ("/admin/", "/admin/"),
        ("/admin/cards?after=x%20y", "/admin/cards?after=x%20y"),
        ("/v1/../admin//cards/%61", "/admin/cards/a"),
        ("/metrics/../v1//verif%79", "/v1/verify"),
    ):
        assert gateway.ask("GET", asked).json()["path"] == arrives
    # The last two ask for the session, and only nginx may.
    for path in ("/administrator", "/Admin/", "/admin.css", "/kadun-admin-refused", "/kadun-session", "/kadun-log-in"):
        gateway.ask("GET", path).require_problem(404, "NOT_FOUND")
    gateway.ask("GET", "/admin/../x").require_page(404, "没有这个页面 / There is no such page")


def test_every_verdict_of_the_app_passes_whatever_its_status(gateway: Gateway) -> None:
    for status in (400, 403, 404, 405, 409, 502, 503, 504):
        answer = gateway.ask("GET", f"/v1/status/{status}")
        assert (answer.status, answer.json()) == (status, {"status": status})


def test_an_import_of_5_mib_and_a_long_form_arrive_whole_and_longer_ones_are_refused(gateway: Gateway) -> None:
    answer = gateway.ask("POST", IMPORT, b"x" * LIMIT, SESSION).json()
    assert (answer["path"], answer["body_bytes"]) == (IMPORT, LIMIT)
    gateway.ask("POST", IMPORT, b"x" * (IMPORT_BYTES + 1), SESSION).require_page(413, TOO_LARGE)

    for path in LONG_FORMS:  # the app refuses what is a little longer
        assert gateway.ask("POST", path, b"x" * (FORM_BYTES + 1), SESSION).json()["body_bytes"] == FORM_BYTES + 1
        gateway.ask("POST", path, b"x" * (FORM_BYTES + 9 * 1024), SESSION).require_page(413, TOO_LARGE)


def test_a_file_to_seal_passes_whole_and_no_disk_gets_a_part_of_it(gateway: Gateway) -> None:
    answer = gateway.ask("POST", SEAL, b"x" * MAX_SEALED, SESSION).json()
    assert (answer["path"], answer["body_bytes"]) == (SEAL, MAX_SEALED)
    gateway.ask("POST", SEAL, b"x" * (16448 * 1024 + 1), SESSION).require_page(413, TOO_LARGE)
    with contextlib.closing(leave_unfinished(gateway, SEAL, b"x" * LIMIT, "Cookie: a=b\r\n")):
        assert gateway.held_bytes("console") == gateway.held_bytes("body") == 0
        assert gateway.ask("POST", SEAL, b"x", SESSION).json()["body_bytes"] == 1
    assert gateway.ask("POST", SEAL, b"x" * LIMIT).headers["location"] == "/admin/login?ended=yes"


def test_nothing_else_takes_as_much(gateway: Gateway) -> None:
    pages = ("/admin", "/admin/login", "/admin/cards/imports", "/admin/static/app.css", "/card")
    for path in (*pages, "/v1/shop/cards", "/v1/execute"):
        assert gateway.ask("POST", path, b"x" * (64 * 1024)).json()["body_bytes"] == 64 * 1024
        answer = gateway.ask("POST", path, b"x" * (64 * 1024 + 1), SESSION)
        if path in pages:
            answer.require_page(413, TOO_LARGE)
        else:
            answer.require_problem(413, "BODY_TOO_LARGE")


def test_the_longest_log_in_is_read_with_the_same_referer_and_a_browsers_other_headers(gateway: Gateway) -> None:
    path = "/admin/login?ended=yes&next=".ljust(LONGEST_LOG_IN, "x")
    before = {"User-Agent": "x" * 500, "Accept": "x" * 300}
    after = {"Accept-Language": "x" * 100, "Cookie": "x" * 300}
    sent = {**before, "Referer": f"https://kadun.example{path}", **after}
    assert gateway.ask("GET", path, headers=sent).status == 200


def leave_unfinished(gateway: Gateway, path: str, body: bytes, cookie: str = "") -> ssl.SSLSocket:
    connection = gateway.connect()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{cookie}Content-Length: {len(body) + 1}\r\n\r\n"
    with contextlib.suppress(OSError):  # refused before all is there
        connection.sendall(head.encode() + body)
    return connection


def test_who_sends_a_long_form_without_a_session_is_led_to_the_log_in_and_nothing_is_stored(gateway: Gateway) -> None:
    with contextlib.ExitStack() as stack:
        for path in (*LONG_FORMS, IMPORT):
            answer = gateway.ask("POST", path, b"x" * LIMIT if path == IMPORT else b"x")
            assert (answer.status, answer.headers["location"]) == (303, "/admin/login?ended=yes")
            answer = gateway.ask("GET", f"{path}?lang=en")
            assert (answer.status, answer.headers["location"]) == (303, f"/admin/login?next={path}?lang=en")
            answer = gateway.ask("POST", path, b"x", {"HX-Request": "true"})
            assert (answer.status, answer.headers["hx-redirect"]) == (204, "/admin/login?ended=yes")
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


def test_an_export_waits_for_its_reader_and_fills_no_disk(gateway: Gateway, backend: ConsoleStandIn) -> None:
    before = backend.sent_bytes

    def is_quiet() -> bool:
        seen = backend.sent_bytes
        time.sleep(0.2)  # between two looks
        return before < seen == backend.sent_bytes

    connection = http.client.HTTPSConnection("127.0.0.1", gateway.https_port, context=gateway.context(), timeout=30)
    connection.request("GET", "/admin/export")
    answer = connection.getresponse()
    wait_for(is_quiet)
    assert backend.sent_bytes - before < EXPORT_BYTES, "nginx took it all, for a reader who reads nothing"
    assert len(answer.read()) == EXPORT_BYTES
    connection.close()


def test_style_sheets_are_compressed_and_hear_no_cookie_and_pages_are_the_other_way_round(gateway: Gateway) -> None:
    answer = gateway.ask("GET", "/admin/static/app.css", headers=GZIP | SESSION)
    assert (answer.headers["content-encoding"], answer.headers["vary"]) == ("gzip", "Accept-Encoding")
    assert (gzip.decompress(answer.body), answer.headers["x-cookie-seen"]) == (STYLES, "none")
    assert gateway.ask("GET", "/admin/static/app.css").body == STYLES
    page = gateway.ask("GET", "/admin/page", headers=GZIP | SESSION).headers
    assert ("content-encoding" in page, page["x-cookie-seen"]) == (False, SESSION["Cookie"])


def refused(answer: Response) -> bool:
    """Whether nginx kept this request away from the console."""
    if "x-address-seen" in answer.headers:
        return False
    answer.require_page(403, "无权访问 / No access")
    assert answer.body.count(b"KADUN_ADMIN_ALLOW") == 2
    return True


ALLOWED = {
    "": {"192.0.2.1": True, "2001:db8::1": True},
    "192.0.2.0/25": {"192.0.2.1": True, "192.0.2.127": True, "192.0.2.128": False, "2001:db8::1": False},
    "192.0.2.1, 198.51.100.7,2001:DB8:1::/48 ": {
        "192.0.2.1": True, "198.51.100.7": True, "2001:db8:1:2::3": True,
        "198.51.100.8": False, "2001:db8:2::1": False,
    },
    "127.0.0.1 ::1": {"127.0.0.1": True, "::1": True, "127.0.0.2": False},
    "0.0.0.0/0": {"192.0.2.1": True, "2001:db8::1": False},
}  # fmt: skip
"""Whether an address is let in, by values of KADUN_ADMIN_ALLOW."""


def test_where_addresses_are_named_nobody_else_comes_near_the_console(
    make_gateway: GatewayMaker, backend: ConsoleStandIn
) -> None:
    for allow, addresses in ALLOWED.items():
        gateway = make_gateway(backend.path, believe_test_address=True, KADUN_ADMIN_ALLOW=allow)
        for address, welcome in addresses.items():
            headers = {"X-Test-Address": address, **SESSION}
            assert [refused(gateway.ask("GET", place, headers=headers)) for place in PLACES] == [not welcome] * 5
            assert not refused(gateway.ask("GET", "/v1/x", headers=headers)), "customers are another matter"
            forged = headers | {"X-Kadun-Admin-Stranger": "0"}
            told = gateway.ask("GET", "/", headers=forged).json()["headers"]["x-kadun-admin-stranger"]
            assert told == ("0" if welcome else "1"), "the front page names the console to nobody else"


def test_no_spelling_and_no_header_lets_a_stranger_in(make_gateway: GatewayMaker, backend: ConsoleStandIn) -> None:
    gateway = make_gateway(backend.path, KADUN_ADMIN_ALLOW="192.0.2.1")
    headers = {"X-Real-IP": "192.0.2.1", "X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1"}
    for spelling in ("//admin/", "/%61dmin/", "/v1/../admin/x", "/./admin", "/admin/static/../x"):
        for method, body in (("GET", None), ("POST", b"x")):
            assert refused(gateway.ask(method, spelling, body, headers)), spelling


def handshake(gateway: Gateway, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{gateway.https_port}", *options]
    return subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=30)


def test_tls_1_2_and_1_3_are_spoken_with_forward_secrecy_and_nothing_older(gateway: Gateway) -> None:
    for version, name in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
        shown = handshake(gateway, version).stdout
        assert f"New, {name}, Cipher is " in shown
        assert "Cipher is (NONE)" not in shown
    # @SECLEVEL=0 makes the client willing, so that a refusal is the server's.
    for version in ("-tls1", "-tls1_1"):
        refused = handshake(gateway, version, "-cipher", "DEFAULT:@SECLEVEL=0")
        assert "alert protocol version" in refused.stderr
    for cipher in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-SHA"):
        refused = handshake(gateway, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
        assert "Cipher is (NONE)" in refused.stdout, cipher


def test_who_offers_http_2_gets_http_1_1(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.https_port)) as plain:
        context = gateway.context("h2", "http/1.1")
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"


def test_both_families_are_served_and_http_redirects_to_https(gateway: Gateway, make_gateway: GatewayMaker) -> None:
    for address in ("127.0.0.1", "::1"):
        assert gateway.ask("GET", "/readyz", to=address).status == 200
        answer = gateway.ask_plain("/v1/verify?a=b", {"Host": "card.example.com"}, to=address)
        assert answer.status == 301
        assert answer.headers["location"] == f"https://card.example.com:{gateway.https_port}/v1/verify?a=b"
    answer = make_gateway(KADUN_HTTPS_PORT="443").ask_plain("/", {"Host": "card.example.com:80"})
    assert answer.headers["location"] == "https://card.example.com/"


def test_acme_challenges_and_nothing_else_of_their_folder_are_answered_over_http(gateway: Gateway) -> None:
    (gateway.acme / ".well-known/acme-challenge/token").write_text("token.thumbprint")
    answer = gateway.ask_plain("/.well-known/acme-challenge/token")
    assert (answer.status, answer.body) == (200, b"token.thumbprint")
    gateway.ask_plain("/.well-known/acme-challenge/other").require_problem(404, "NOT_FOUND")
    gateway.ask_plain("/.well-known/acme-challenge/").require_problem(404, "NOT_FOUND")
    (gateway.acme / "secret").write_text("secret")
    for path in (
        "/secret",
        "/.well-known/acme-challenge/../../secret",
        "/.well-known/acme-challenge/%2e%2e/%2e%2e/secret",
    ):
        assert gateway.ask_plain(path).status == 301


def test_hsts_stands_on_every_https_answer_and_on_no_other_where_the_certificate_brought_it(
    gateway: Gateway, tmp_path: Path
) -> None:
    kinds = ("/", "/readyz", "/nowhere", "/v1/nowhere", "/card", "/admin", "/admin/static/x", "/admin/cards/import")
    for path in kinds:
        answer = gateway.ask("GET", path)
        assert (answer.headers["strict-transport-security"], answer.headers["server"]) == (HSTS, "nginx")
        assert "strict-transport-security" not in gateway.ask_plain(path).headers
    without = Gateway(tmp_path / "nginx", tmp_path / "nobody.sock")
    (without.certificates / "hsts.conf").unlink()
    with without:
        assert "strict-transport-security" not in without.ask("GET", "/nowhere").headers


def test_http_on_the_https_port_is_a_problem(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.https_port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_where_the_kernel_has_no_ipv6_nginx_listens_on_ipv4_alone(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path / "nginx", tmp_path / "nobody.sock")
    script = (ROOT / "nginx/entrypoint/30-without-ipv6.sh").read_text()
    for has_ipv6 in (True, False):
        kernel = tmp_path if has_ipv6 else tmp_path / "nothing"
        moved = script.replace("/proc/net/if_inet6", str(kernel)).replace("/etc/nginx", str(gateway.folder / "etc"))
        subprocess.run(["sh", "-c", moved], check=True)
        with gateway:
            assert gateway.ask("GET", "/nowhere").status == 404
            if has_ipv6:
                assert gateway.ask_plain("/", to="::1").status == 301
            else:
                with pytest.raises(ConnectionRefusedError):
                    gateway.ask_plain("/", to="::1")


BALANCER, NEIGHBOUR, HERE = "127.0.0.3", "127.0.0.4", "127.0.0.2"
"""Of the loopback network, where a client may speak as any address; nginx takes 127.0.0.1 alone for this machine."""
CLIENT = "203.0.113.7"
ON = {"KADUN_PROXY_PROTOCOL": "true", "KADUN_PROXY_FROM": f"{BALANCER}/32, 2001:db8::/64"}
GET = b"GET /v1/anything HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def version_1(client: str) -> bytes:
    """The header in words (PROXY protocol, 2.1)."""
    family = "TCP6" if ":" in client else "TCP4"
    return f"PROXY {family} {client} {client} 40000 443\r\n".encode()


def version_2(client: str) -> bytes:
    """The header in bytes (PROXY protocol, 2.2)."""
    address = ip_address(client).packed
    family = b"\x11" if len(address) == 4 else b"\x21"
    rest = address * 2 + struct.pack("!HH", 40_000, 443)
    return b"\r\n\r\n\x00\r\nQUIT\n" + b"\x21" + family + struct.pack("!H", len(rest)) + rest


@pytest.fixture(scope="module")
def balanced(tmp_path_factory: pytest.TempPathFactory, backend: ConsoleStandIn) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("nginx"), backend.path, **ON) as running:
        yield running


def ask(gateway: Gateway, said: bytes, *, source: str = BALANCER, to: str = HERE, more: bytes = b"") -> Response:
    """A request over TLS; `said` comes before the handshake."""
    with socket.create_connection((to, gateway.https_port), 30, (source, 0)) as plain:
        plain.sendall(said)
        with gateway.context().wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.sendall(GET + more + b"\r\n")
            return read_response(connection)


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(509)
"""The beginning of a TLS connection."""


def test_the_balancer_tells_the_clients_address(balanced: Gateway) -> None:
    for header in (version_1, version_2):
        for client in (CLIENT, "2001:db8:1::7"):
            forged = b"X-Real-IP: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.9\r\n"
            answer = ask(balanced, header(client), more=forged)
            assert answer.headers["x-address-seen"] == client
            assert "x-forwarded-for" not in answer.json()["headers"]


def test_nobody_else_and_no_balancer_without_the_protocol_is_believed_or_answered(balanced: Gateway) -> None:
    for said in (version_1(CLIENT), version_2(CLIENT), b""):
        with pytest.raises((ConnectionError, ssl.SSLError)):
            ask(balanced, said, source=NEIGHBOUR)
    for said in (HELLO, b"PROXY TCP4 nowhere nowhere 1 1\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection((HERE, balanced.https_port), 30, (BALANCER, 0)) as connection:
            connection.sendall(said)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b"", said


def test_this_machine_asks_itself_without_the_protocol(balanced: Gateway) -> None:
    answer = ask(balanced, b"", source="127.0.0.1", to="127.0.0.1")
    assert answer.headers["x-address-seen"] == "127.0.0.1"
    assert balanced.ask_plain("/v1/anything").status == 301


def test_plain_http_behind_the_balancer_is_led_to_https(balanced: Gateway) -> None:
    with socket.create_connection((HERE, balanced.http_port), 30, (BALANCER, 0)) as connection:
        connection.sendall(version_1(CLIENT) + GET + b"\r\n")
        assert read_response(connection).status == 301
    with socket.create_connection((HERE, balanced.http_port), 30, (NEIGHBOUR, 0)) as connection:
        connection.sendall(version_1(CLIENT) + GET + b"\r\n")
        with pytest.raises(ConnectionError):
            read_response(connection)


def test_limits_and_the_log_are_by_the_clients_address(tmp_path: Path, backend: ConsoleStandIn) -> None:
    with Gateway(tmp_path / "nginx", backend.path, KADUN_RATE="1", KADUN_BURST="3", **ON) as gateway:
        *served, _ = until_refused(lambda: ask(gateway, version_1(CLIENT)))
        assert ({answer.status for answer in served}, len(served) >= 4) == ({200}, True)
        assert ask(gateway, version_2("203.0.113.8")).status == 200
        wait_for(lambda: {line["address"] for line in gateway.access_log()} == {CLIENT, "203.0.113.8"})
