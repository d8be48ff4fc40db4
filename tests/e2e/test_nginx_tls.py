"""How nginx is reached: TLS, HTTP/1.1 alone, the redirect, the ACME path, HSTS, and a balancer before it."""

import contextlib
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.services.http_exchange import Response, read_response
from tests.support.services.nginx import HSTS, ConsoleStandIn, Gateway, until_refused
from tests.support.services.service import ROOT, wait_for


@pytest.fixture(scope="module")
def gateway(bare: Gateway) -> Gateway:
    return bare


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
