"""What nginx itself refuses: too large, too often, too many, malformed. Each is a problem like the app's."""

import json
import select
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.http_exchange import Response, read_response
from tests.support.nginx import Gateway
from tests.support.service import wait_for
from tests.support.socket_service import SocketService, body

pytestmark = pytest.mark.xdist_group("service")

LIMIT = 16 * 1024
JSON = {"Content-Type": "application/json"}


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


MALFORMED = [
    (b"GARBAGE\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"GET /v1/%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"GET /v1/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400, "INVALID_REQUEST"),
    (b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "INVALID_REQUEST"),
    (b"GET /readyz HTTP/9.0\r\nHost: x\r\n\r\n", 505, "INVALID_REQUEST"),
    (b"GET /v1/" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414, "INVALID_REQUEST"),
    (b"GET /v1/x HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 20_000 + b"\r\n\r\n", 431, "INVALID_REQUEST"),
    (b"TRACE /v1/verify HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED"),
    (b"CONNECT / HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED"),
]  # fmt: skip


def test_what_is_no_proper_request_is_a_problem(gateway: Gateway) -> None:
    for request, status, code in MALFORMED:
        gateway.ask_raw(request).require_problem(status, code)


def test_the_apps_own_refusals_pass_untouched(gateway: Gateway) -> None:
    answer = gateway.ask("POST", "/v1/verify", b"{", JSON | {"Accept-Language": "en"})
    assert answer.status == 400
    assert answer.json()["detail"].isascii()
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert gateway.ask("DELETE", "/v1/verify").status == 405
    assert gateway.ask("GET", "/v1/nowhere").json()["code"] == "NOT_FOUND"


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


def test_customers_behind_one_address_have_room_by_default(make_gateway: GatewayMaker, service: SocketService) -> None:
    gateway = make_gateway(service.socket, KADUN_RATE="10", KADUN_BURST="40")
    assert not refusals([gateway.ask("GET", "/readyz") for _ in range(41)])


def test_an_ipv6_client_counts_by_its_network(strict: Gateway) -> None:
    for addresses, limited in (
        ([f"2001:db8:2:1:{host:x}00::1" for host in range(20)], True),  # one /64
        ([f"a0a:a0a:a0a:a0a:a0a:a0a:a0a:a{host:02x}" for host in range(20)], True),  # line ends in it
        ([f"2001:db8:3:{network:x}::1" for network in range(20)], False),  # as many networks
        ([f"203.0.113.{host}" for host in range(20)], False),  # as many IPv4 addresses
    ):
        assert bool(refusals(list(strict.get_each("/readyz", addresses)))) is limited, addresses[0]


def test_an_ipv6_site_may_send_ten_times_as_much(make_gateway: GatewayMaker, service: SocketService) -> None:
    gateway = make_gateway(service.socket, believe_test_address=True, KADUN_RATE="1", KADUN_BURST="1")

    def statuses(address: str, numbers: range) -> set[int]:
        return {answer.status for answer in gateway.get_each("/healthz", map(address.format, numbers))}

    # One /48, as many of them, and as many IPv4 addresses.
    for address, limited in (("2001:db8:1:{:x}::1", True), ("2001:db8:{:x}::2", False), ("192.0.2.{}", False)):
        assert statuses(address, range(2, 13)) == {200}
        assert (429 in statuses(address, range(13, 255))) is limited


def test_the_whole_address_is_recorded_nevertheless(strict: Gateway, service: SocketService) -> None:
    card = service.new_card()
    headers = JSON | {"X-Test-Address": "2001:db8:0:1:2:3:4:5"}
    assert strict.ask("POST", "/v1/verify", body(card, f"pc of {card}"), headers).status == 200
    assert service.recorded_address(card) == "2001:db8:0:1:2:3:4:5"


def test_one_address_holds_at_most_50_requests_open(make_gateway: GatewayMaker) -> None:
    gateway = make_gateway()
    unfinished = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    # TLS 1.2, where nothing but an answer makes a connection readable: 1.3 sends tickets after the handshake.
    connections = [gateway.connect(ssl.TLSVersion.TLSv1_2) for _ in range(51)]
    try:
        for connection in connections:
            connection.sendall(unfinished)
        answered = wait_for(lambda: select.select(connections, [], [], 0)[0], seconds=9)
        assert len(answered) == 1
        read_response(answered[0]).require_problem(429, "TOO_MANY_REQUESTS")
    finally:
        for connection in connections:
            connection.close()


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
