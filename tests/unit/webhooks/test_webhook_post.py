"""Requests of webhooks: only to public addresses, only to those that were checked, only where the certificate fits."""
# Owns webhook-addresses.

import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from app.domain.webhooks.webhooks import Sent
from app.services.webhooks.webhook_delivery import ask_process
from app.webhooks import __main__ as process
from app.webhooks import post as posting
from app.webhooks.post import MAX_ANSWER_BYTES, post
from tests.support.webhooks import tls_server

real_getaddrinfo = socket.getaddrinfo


class Receiver(BaseHTTPRequestHandler):
    """Answers as its path says."""

    got: list[tuple[str, dict[str, str], bytes]]
    released: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.got.append((self.path, dict(self.headers.items()), body))
        if self.path == "/drip":
            while not self.released.wait(0.02):
                self.wfile.write(b"H")
                self.wfile.flush()
            return
        if self.path == "/odd":
            self.wfile.write(b"nothing of HTTP\r\n\r\n")
            return
        status, _, manner = self.path[1:].partition("/")
        self.send_response(int(status.partition("?")[0]))
        self.send_header("Location", "/200")
        if manner == "breaks-off":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        bodies = {"breaks-off": b"5\r\nhello\r\n", "no-end": b"hello"}
        self.wfile.write(bodies.get(manner, b"x" * (10 * MAX_ANSWER_BYTES)))
        if manner == "no-end":
            self.released.wait(60)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Net:
    """The receiver, and what names resolve to."""

    def __init__(self, port: int, names: list[str]) -> None:
        self.port = port
        self.names = names
        self.addresses = {"localhost": ["127.0.0.1"]}
        self.asked: list[str] = []

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        found = []
        for address in self.addresses.get(host, [host] if host[-1].isdigit() else []):
            found += real_getaddrinfo(address, port, type=socket.SOCK_STREAM)
        if not found:
            raise socket.gaierror("unknown")
        return found

    def post(self, path: str = "/200", host: str = "localhost", *, allow_private: bool = True) -> Sent:
        url = f"https://{host}:{self.port}{path}"
        return post(url, {"webhook-id": "msg_1"}, b"{}", allow_private=allow_private)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:
    Receiver.got, Receiver.released = [], threading.Event()
    names: list[str] = []
    with tls_server(Receiver, tmp_path, names.append) as (port, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        net = Net(port, names)
        monkeypatch.setattr(socket, "getaddrinfo", net.getaddrinfo)
        yield net
        Receiver.released.set()


def test_a_request_arrives_redirects_are_not_followed_and_long_answers_not_read(net: Net) -> None:
    assert post("http://localhost/", {}, b"", allow_private=True).status is None, "another form of URL"
    assert not net.asked
    sent = net.post("/200?a=1")
    assert (sent, sent.is_delivered) == (Sent(200, None), True)
    ((path, headers, body),) = Receiver.got
    assert (path, headers["webhook-id"], headers["Host"], body) == ("/200?a=1", "msg_1", f"localhost:{net.port}", b"{}")
    for status in (302, 307, 500):
        sent = net.post(f"/{status}")
        assert (sent.status, sent.is_delivered, len(sent.error or "")) == (status, False, 200)
    assert len(Receiver.got) == 4


def test_no_private_address_is_called_not_even_beside_public_ones_or_in_the_url(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", None)
    for host, *addresses in (
        ("localhost", "8.8.8.8", "10.0.0.1"),
        *(("localhost", address) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1")),
        *((host, "127.0.0.1") for host in ("127.0.0.1", "2130706433", "[::1]")),
    ):
        net.addresses[host] = addresses
        sent = net.post(host=host, allow_private=False)
        assert (sent.status, "which is not a public address" in str(sent.error)) == (None, True), (host, addresses)


def test_a_name_is_resolved_once_and_its_checked_addresses_called_one_after_the_other(net: Net) -> None:
    net.addresses["localhost"] = ["127.0.0.2", "127.0.0.1"]
    assert net.post().is_delivered
    assert net.names == ["localhost"], "although the connection is to an address"
    assert net.asked == ["localhost", "127.0.0.2", "127.0.0.1"], "another answer of the name server changes nothing"


def test_the_certificate_must_be_for_the_name_and_trusted_and_no_proxy_is_used(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    net.addresses["other.example"] = ["127.0.0.1"]
    assert net.post(host="other.example") == Sent(None, "TLS: hostname 'other.example' doesn't match 'localhost'")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert net.post().is_delivered
    monkeypatch.delenv("SSL_CERT_FILE")
    assert str(net.post().error).startswith("TLS: ")
    assert len(Receiver.got) == 1


def test_what_does_not_answer_is_given_up(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    net.addresses["nobody.example"] = []
    assert net.post(host="nobody.example") == Sent(None, "the name nobody.example does not resolve")
    monkeypatch.setattr(posting, "REQUEST_SECONDS", 0.3)
    for path in ("/drip", "/odd"):
        sent = net.post(path)
        assert (sent.status, sent.error is None) == (None, False), "although every byte comes in time"


def test_the_status_counts_although_the_body_does_not_end(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that was received would be sent again for three days."""
    monkeypatch.setattr(posting, "REQUEST_SECONDS", 1.0)
    for body in ("breaks-off", "no-end"):
        assert net.post(f"/200/{body}") == Sent(200, None)
        assert net.post(f"/410/{body}").status == 410, "which pauses the webhook"


def test_a_process_of_its_own_sends_and_an_answer_of_it_that_is_none_is_no_delivery(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KADUN_WEBHOOKS_SOCKET", str(tmp_path / "webhooks.sock"))
    monkeypatch.setenv("KADUN_WEBHOOK_PRIVATE", "true")
    monkeypatch.chdir(tmp_path)  # the server goes there; this puts it back
    through, url = partial(ask_process, tmp_path / "webhooks.sock"), f"https://localhost:{net.port}"
    headers = {"webhook-id": "msg_2", "Content-Type": "application/json"}
    with process.server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        assert through(f"{url}/200", headers, "{é}".encode()) == Sent(200, None)
        ((_, got, body),) = Receiver.got
        assert (got["webhook-id"], body) == ("msg_2", "{é}".encode())
        assert through(f"{url}/500", headers, b"").status == 500
        unsent = [through(url, headers, b"x" * process.MAX_REQUEST_BYTES)]
        unsent.append(ask_process(tmp_path / "none.sock", f"{url}/200", {}, b""))
        assert len(Receiver.got) == 2
        for answer in (
            *({"status": "200", "error": None}, {"status": 1 << 40, "error": None}, {"status": True, "error": None}),
            *({"status": 200, "error": ["x"]}, {"error": None}, [], None),
        ):
            monkeypatch.setattr(process, "post", lambda *_, answer=answer, **__: answer)
            unsent.append(through(url, {}, b""))
        server.shutdown()
    assert [(sent.status, "does not answer" in str(sent.error)) for sent in unsent] == [(None, True)] * 9
