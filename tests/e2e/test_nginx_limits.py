"""What nginx itself refuses: too large, too often, too many, malformed. Each is a problem like the app's."""
# Owns http-limits.

import json
import select
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.services.http_exchange import Response
from tests.support.services.nginx import JSON, Gateway, until_refused
from tests.support.services.service import wait_for
from tests.support.services.socket_service import SocketService, body

pytestmark = pytest.mark.xdist_group("service")

LIMIT = 16 * 1024
SELF_BURST = 10


def test_the_longest_request_fits_into_16_kib_and_a_longer_body_does_not_reach_the_app(gateway: Gateway) -> None:
    longest = {name: "😀" * size for name, size in {"card_id": 64, "hardware": 1024, "function": 64, "ip": 64}.items()}
    longest |= {"nonce": "n" * 64, "version": "1." * 15 + "10", "client_public_key": "C" * 42 + "A"}
    sent = json.dumps(longest).encode().ljust(LIMIT)  # 12 bytes for each character
    assert len(sent) == LIMIT
    for path, code in (
        ("/v1/verify", "CARD_NOT_FOUND"),
        ("/v1/files", "CARD_NOT_FOUND"),
        ("/v1/self/status", "NOT_FOUND"),
    ):
        answer = gateway.ask("POST", path, sent, JSON)
        assert (answer.status, answer.json()["code"]) == (404, code)
        assert "x-request-id" in answer.headers
        gateway.ask("POST", path, sent + b" ", JSON).require_problem(413, "BODY_TOO_LARGE")
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    head = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    gateway.ask_raw(head + chunk + b"0\r\n\r\n").require_problem(413, "BODY_TOO_LARGE")


NO_FILES = (b"..%2f..%2f..%2fetc/passwd", b"big.bin%00", b"%zz", b"x\0y", b"../../..")
MALFORMED = [
    (b"GARBAGE\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"GET /v1/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "INVALID_REQUEST"),
    (b"GET /readyz HTTP/9.0\r\nHost: x\r\n\r\n", 505, "INVALID_REQUEST"),
    (b"GET /v1/" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "INVALID_REQUEST"),
    (b"GET /v1/x HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", 431, "INVALID_REQUEST"),
    (b"POST /v1/files/..%2f..%2f..%2fx HTTP/1.1\r\nHost: x\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"GET /v1/..%2f..%2fx HTTP/1.1\r\nHost: x\r\n\r\n", 400, "INVALID_REQUEST"),
    *((b"GET /v1/files/%s HTTP/1.1\r\nHost: x\r\n\r\n" % path, 404, "NOT_FOUND") for path in NO_FILES),
    (b"GET /v1/filesx%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"TRACE /v1/verify HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED"),
]  # fmt: skip


def test_what_is_no_proper_request_is_a_problem(gateway: Gateway) -> None:
    for request, status, code in MALFORMED:
        gateway.ask_raw(request).require_problem(status, code)


def refusals(answers: list[Response]) -> list[Response]:
    return [answer for answer in answers if answer.status == 429]


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, service: SocketService) -> Iterator[Gateway]:
    """A gateway that lets one request a second through; each test speaks as addresses of its own."""
    folder = tmp_path_factory.mktemp("strict") / "nginx"
    with Gateway(folder, service.socket, believe_test_address=True, KADUN_RATE="1", KADUN_BURST="3") as running:
        yield running


def test_who_asks_too_often_is_told_when_to_come_back(strict: Gateway) -> None:
    for path, status in (("/readyz", 200), ("/nowhere", 404)):
        answers = list(strict.get_each(path, [f"192.0.2.{status - 199}"] * 20))
        assert [answer.status for answer in answers[:4]] == [status] * 4
        refused = refusals(answers)
        refused[0].require_problem(429, "TOO_MANY_REQUESTS")
        assert refused[0].headers["retry-after"] == "1"
    assert strict.ask("GET", "/readyz").status == 200


def test_plain_http_has_the_same_limits_and_neither_redirects_nor_refusals_are_logged(strict: Gateway) -> None:
    flooding = {"X-Test-Address": "198.51.100.1"}
    answers = [strict.ask_plain("/v1/plain", flooding) for _ in range(20)]
    assert [answer.status for answer in answers[:4]] == [301] * 4
    refusals(answers)[0].require_problem(429, "TOO_MANY_REQUESTS")
    site = (f"2001:db8:1:{number:x}::1" for number in range(200))  # many, where one is slow
    assert any(strict.ask_plain("/v1/plain", {"X-Test-Address": address}).status == 429 for address in site)
    challenge = "/.well-known/acme-challenge/token"
    (strict.acme / challenge[1:]).write_text("token.thumbprint")
    answer = strict.ask_plain(challenge, {"X-Test-Address": "198.51.100.2"})
    assert (answer.status, answer.body) == (200, b"token.thumbprint")
    strict.logged(challenge)
    assert "/v1/plain" not in {line["path"] for line in strict.access_log()}


SITES = [
    ("/readyz", "2001:db8:2:1:{:x}00::1", 20, True),  # one /64
    ("/readyz", "a0a:a0a:a0a:a0a:a0a:a0a:a0a:a{:02x}", 20, True),  # whose lines end in it
    ("/readyz", "2001:db8:1:{:x}::1", 10, False),  # networks of one /48, which may send ten times as much
    ("/readyz", "2001:db8:4:{:x}::1", 255, True),
    ("/readyz", "2001:db9:{:x}::2", 255, False),  # as many /48
    ("/readyz", "192.0.2.{}", 255, False),  # as many IPv4 addresses
    ("/card", "2001:db8:0:1::{:x}", 15, True),  # self-service: 10 of one /64
    ("/card", "2001:db8:3:{:x}::1", 15, False),
    ("/card", "2001:db8:5:{:x}::1", 400, True),  # 100 of one /48
]
"""A path, addresses, how many of these ask once each, and whether nginx refuses one."""


def test_an_ipv6_client_counts_by_its_network_and_by_its_site(make_gateway: GatewayMaker) -> None:
    gateway = make_gateway(believe_test_address=True, KADUN_RATE="1", KADUN_BURST="1")
    for path, address, count, limited in SITES:  # no app runs: the limits come first
        answers = gateway.get_each(path, (address.format(number) for number in range(1, count + 1)))
        statuses = {answer.status for answer in answers}
        assert statuses == ({503, 429} if limited else {503}), address


def status_of(gateway: Gateway, card: str, address: str) -> Response:
    asked = json.dumps({"card_id": card}).encode()
    return gateway.ask("POST", "/v1/self/status", asked, JSON | {"X-Test-Address": address})


def test_self_service_and_verification_are_limited_apart(strict: Gateway, service: SocketService) -> None:
    """The vendor does not allow self-service here: a request that nginx lets through is 404."""
    card, address = service.new_card(), "203.0.113.7"
    *served, refused = until_refused(lambda: status_of(strict, card, address))
    assert ({answer.status for answer in served}, len(served) >= SELF_BURST) == ({404}, True)
    refused.require_problem(429, "TOO_MANY_REQUESTS")
    assert refused.headers["retry-after"] == "1"
    *shown, page = until_refused(lambda: strict.ask("GET", "/card", headers={"X-Test-Address": address}))
    assert len(shown) < SELF_BURST, "the page shares the limit, which lets one a second through"
    page.require_page(429, "请求过于频繁 / Too many requests")
    verified = strict.ask("POST", "/v1/verify", body(card, "m1"), JSON | {"X-Test-Address": address})
    assert verified.status == 200
    assert status_of(strict, card, "203.0.113.8").status == 404

    other = {"X-Test-Address": "203.0.113.9"}
    until_refused(lambda: strict.ask("POST", "/v1/verify", body(card, "m1"), JSON | other))
    assert {status_of(strict, card, "203.0.113.9").status for _ in range(SELF_BURST)} == {404}


def test_a_pause_in_a_body_ends_the_connection_sooner_than_a_header_must_be_there(gateway: Gateway) -> None:
    with gateway.connect(ssl.TLSVersion.TLSv1_2) as connection:
        connection.sendall(b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        assert select.select([connection], [], [], 7)[0]


def has_noticed_the_end_of_all(gateway: Gateway) -> bool:
    """Whether the end of each connection has reached nginx, and its processes have handled that: all of them sleep."""
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    local_port, established = f":{gateway.https_port:04X}", "01"
    if any(socket[1].endswith(local_port) and socket[3] == established for socket in sockets):
        return False
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] for pid in gateway.workers()]
    return set(states) == {"S"}


def test_requests_that_the_app_still_works_on_count_after_their_senders_have_gone(tmp_path: Path) -> None:
    """Who breaks off what the app works on could otherwise keep it busy beyond all limits."""
    request = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    with socket.socket(socket.AF_UNIX) as app:
        app.bind(str(tmp_path / "app.sock"))
        app.listen(128)  # each request reaches it, and none is answered
        with Gateway(tmp_path / "nginx", tmp_path / "app.sock") as gateway:
            connections = [gateway.connect(ssl.TLSVersion.TLSv1_2) for _ in range(50)]
            for connection in connections:
                connection.sendall(request)
            held = [app.accept()[0] for _ in connections]
            for connection in connections:
                connection.close()
            wait_for(lambda: has_noticed_the_end_of_all(gateway))
            try:
                gateway.ask_raw(request).require_problem(429, "TOO_MANY_REQUESTS")
            finally:
                for each in held:
                    each.close()
