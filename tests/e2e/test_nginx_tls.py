"""How nginx is reached: TLS, HTTP/1.1 alone, the redirect, the ACME path, HSTS."""

import socket
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.nginx import HSTS, Gateway
from tests.support.service import ROOT

pytestmark = pytest.mark.xdist_group("service")


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


def test_who_offers_http_2_gets_http_1_1_whose_connections_hold_one_request_each(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.https_port)) as plain:
        context = gateway.context("h2", "http/1.1")
        with context.wrap_socket(plain, server_hostname="localhost") as connection:
            assert connection.selected_alpn_protocol() == "http/1.1"
    shown = gateway.curl("/readyz", "--write-out", "\n%{http_version}")
    assert shown == '{"status": "ready"}\n1.1'


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
    for path in ("/readyz", "/nowhere", "/v1/nowhere"):
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
