"""What nginx itself refuses: too large, too often, too many, malformed. Each is a problem like the app's."""

import json
import select
import socket
import ssl
from pathlib import Path

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.http_exchange import Response, read_response
from tests.support.nginx import Gateway
from tests.support.service import wait_for
from tests.support.socket_service import SocketService, body

LIMIT = 16 * 1024
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "code"),
    [("/v1/verify", "CARD_NOT_FOUND"), ("/v1/files", "CARD_NOT_FOUND"), ("/v1/self/status", "NOT_FOUND")],
)
def test_the_longest_request_fits_into_16_kib_and_a_longer_body_does_not_reach_the_app(
    gateway: Gateway, path: str, code: str
) -> None:
    longest = {name: "😀" * size for name, size in {"card_id": 64, "hardware": 1024, "function": 64, "ip": 64}.items()}
    longest |= {"nonce": "n" * 64, "version": "1." * 15 + "10", "client_public_key": "C" * 42 + "A"}
    sent = json.dumps(longest).encode().ljust(LIMIT)  # 12 bytes for each character
    assert len(sent) == LIMIT
    answer = gateway.ask("POST", path, sent, JSON)
    assert (answer.status, answer.json()["code"]) == (404, code)
    assert "x-request-id" in answer.headers
    gateway.ask("POST", path, sent + b" ", JSON).require_problem(413, "BODY_TOO_LARGE")


def test_a_long_body_in_chunks_is_refused_too(gateway: Gateway) -> None:
    chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
    head = b"POST /v1/verify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    gateway.ask_raw(head + chunk + b"0\r\n\r\n").require_problem(413, "BODY_TOO_LARGE")


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
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
    ],
)  # fmt: skip
def test_what_is_no_proper_request_is_a_problem(gateway: Gateway, request_bytes: bytes, status: int, code: str) -> None:
    gateway.ask_raw(request_bytes).require_problem(status, code)


def test_the_apps_own_refusals_pass_untouched(gateway: Gateway) -> None:
    answer = gateway.ask("POST", "/v1/verify", b"{", JSON | {"Accept-Language": "en"})
    assert answer.status == 400
    assert answer.json()["detail"].isascii()
    assert answer.headers["x-request-id"] == answer.json()["request_id"]
    assert gateway.ask("DELETE", "/v1/verify").status == 405
    assert gateway.ask("GET", "/v1/nowhere").json()["code"] == "NOT_FOUND"


def refusals(answers: list[Response]) -> list[Response]:
    return [answer for answer in answers if answer.status == 429]


def test_who_asks_too_often_is_told_when_to_come_back(make_gateway: GatewayMaker, service: SocketService) -> None:
    gateway = make_gateway(service.socket, KADUN_RATE="1", KADUN_BURST="3")
    answers = [gateway.ask("GET", "/readyz", source="127.0.0.2") for _ in range(20)]
    assert [answer.status for answer in answers[:4]] == [200] * 4
    refused = refusals(answers)
    refused[0].require_problem(429, "TOO_MANY_REQUESTS")
    assert refused[0].headers["retry-after"] == "1"
    assert gateway.ask("GET", "/readyz", source="127.0.0.3").status == 200


def test_plain_http_has_the_same_limits_and_neither_redirects_nor_refusals_are_logged(
    make_gateway: GatewayMaker,
) -> None:
    gateway = make_gateway(believe_test_address=True, KADUN_RATE="1", KADUN_BURST="3")
    flooding = {"X-Test-Address": "192.0.2.1"}
    answers = [gateway.ask_plain("/v1/verify", flooding) for _ in range(20)]
    assert [answer.status for answer in answers[:4]] == [301] * 4
    refusals(answers)[0].require_problem(429, "TOO_MANY_REQUESTS")
    challenge = "/.well-known/acme-challenge/token"
    (gateway.acme / challenge[1:]).write_text("token.thumbprint")
    answer = gateway.ask_plain(challenge, {"X-Test-Address": "192.0.2.2"})
    assert (answer.status, answer.body) == (200, b"token.thumbprint")
    gateway.logged(challenge)
    assert [line["path"] for line in gateway.access_log()] == [challenge]


def test_plain_http_from_one_site_is_limited_too(make_gateway: GatewayMaker) -> None:
    gateway = make_gateway(believe_test_address=True, KADUN_RATE="1", KADUN_BURST="1")
    addresses = (f"2001:db8:1:{number:x}::1" for number in range(200))  # many, where one is slow
    assert any(gateway.ask_plain("/", {"X-Test-Address": address}).status == 429 for address in addresses)


def test_what_nginx_does_not_find_counts_too(make_gateway: GatewayMaker) -> None:
    gateway = make_gateway(KADUN_RATE="1", KADUN_BURST="3")
    answers = [gateway.ask("GET", "/nowhere") for _ in range(20)]
    answers[0].require_problem(404, "NOT_FOUND")
    refusals(answers)[0].require_problem(429, "TOO_MANY_REQUESTS")


def test_customers_behind_one_address_have_room_by_default(make_gateway: GatewayMaker, service: SocketService) -> None:
    gateway = make_gateway(service.socket, KADUN_RATE="10", KADUN_BURST="40")
    assert not refusals([gateway.ask("GET", "/readyz") for _ in range(41)])


@pytest.mark.parametrize(
    ("addresses", "limited"),
    [
        ([f"2001:db8:0:1:{host:x}00::1" for host in range(20)], True),  # one /64
        ([f"a0a:a0a:a0a:a0a:a0a:a0a:a0a:a{host:02x}" for host in range(20)], True),  # line ends in it
        ([f"2001:db8:0:{network:x}::1" for network in range(20)], False),  # as many networks
        ([f"192.0.2.{host}" for host in range(20)], False),  # as many IPv4 addresses
        (["192.0.2.1"] * 20, True),
    ],
)  # fmt: skip
def test_an_ipv6_client_counts_by_its_network(
    make_gateway: GatewayMaker, service: SocketService, addresses: list[str], *, limited: bool
) -> None:
    gateway = make_gateway(service.socket, believe_test_address=True, KADUN_RATE="1", KADUN_BURST="3")
    answers = list(gateway.get_each("/readyz", addresses))
    assert bool(refusals(answers)) is limited


@pytest.mark.parametrize(
    ("address", "limited"),
    [("2001:db8:1:{:x}::1", True), ("2001:db8:{:x}::1", False), ("192.0.2.{}", False)],  # one /48, and as many
)
def test_an_ipv6_site_may_send_ten_times_as_much(
    make_gateway: GatewayMaker, service: SocketService, address: str, *, limited: bool
) -> None:
    gateway = make_gateway(service.socket, believe_test_address=True, KADUN_RATE="1", KADUN_BURST="1")

    def statuses(numbers: range) -> set[int]:
        return {answer.status for answer in gateway.get_each("/healthz", map(address.format, numbers))}

    assert statuses(range(11)) == {200}
    assert (429 in statuses(range(11, 255))) is limited


def test_the_whole_address_is_recorded_nevertheless(make_gateway: GatewayMaker, service: SocketService) -> None:
    gateway = make_gateway(service.socket, believe_test_address=True)
    card = service.new_card()
    headers = JSON | {"X-Test-Address": "2001:db8:0:1:2:3:4:5"}
    assert gateway.ask("POST", "/v1/verify", body(card, f"pc of {card}"), headers).status == 200
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
