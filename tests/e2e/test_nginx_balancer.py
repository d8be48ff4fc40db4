"""nginx behind a balancer: who tells the client's address, and who is believed."""

import contextlib
import socket
import ssl
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.support.http_exchange import Response, read_response
from tests.support.nginx import Gateway, until_refused
from tests.support.nginx_backend import ConsoleStandIn
from tests.support.service import wait_for

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
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleStandIn]:
    with ConsoleStandIn(tmp_path_factory.mktemp("backend") / "backend.sock") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, backend: ConsoleStandIn) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("nginx"), backend.socket, **ON) as running:
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


def test_the_balancer_tells_the_clients_address(gateway: Gateway) -> None:
    for header in (version_1, version_2):
        for client in (CLIENT, "2001:db8:1::7"):
            forged = b"X-Real-IP: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.9\r\n"
            answer = ask(gateway, header(client), more=forged)
            assert answer.headers["x-address-seen"] == client
            assert "x-forwarded-for" not in answer.json()["headers"]


def test_nobody_else_and_no_balancer_without_the_protocol_is_believed_or_answered(gateway: Gateway) -> None:
    for said in (version_1(CLIENT), version_2(CLIENT), b""):
        with pytest.raises((ConnectionError, ssl.SSLError)):
            ask(gateway, said, source=NEIGHBOUR)
    for said in (HELLO, b"PROXY TCP4 nowhere nowhere 1 1\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection((HERE, gateway.https_port), 30, (BALANCER, 0)) as connection:
            connection.sendall(said)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b"", said


def test_this_machine_asks_itself_without_the_protocol(gateway: Gateway) -> None:
    answer = ask(gateway, b"", source="127.0.0.1", to="127.0.0.1")
    assert answer.headers["x-address-seen"] == "127.0.0.1"
    assert gateway.ask_plain("/v1/anything").status == 301


def test_plain_http_behind_the_balancer_is_led_to_https(gateway: Gateway) -> None:
    with socket.create_connection((HERE, gateway.http_port), 30, (BALANCER, 0)) as connection:
        connection.sendall(version_1(CLIENT) + GET + b"\r\n")
        assert read_response(connection).status == 301
    with socket.create_connection((HERE, gateway.http_port), 30, (NEIGHBOUR, 0)) as connection:
        connection.sendall(version_1(CLIENT) + GET + b"\r\n")
        with pytest.raises(ConnectionError):
            read_response(connection)


def test_limits_and_the_log_are_by_the_clients_address(tmp_path: Path, backend: ConsoleStandIn) -> None:
    with Gateway(tmp_path / "nginx", backend.socket, KADUN_RATE="1", KADUN_BURST="3", **ON) as gateway:
        *served, _ = until_refused(lambda: ask(gateway, version_1(CLIENT)))
        assert ({answer.status for answer in served}, len(served) >= 4) == ({200}, True)
        assert ask(gateway, version_2("203.0.113.8")).status == 200
        wait_for(lambda: {line["address"] for line in gateway.access_log()} == {CLIENT, "203.0.113.8"})
