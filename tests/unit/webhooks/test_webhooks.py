"""Webhooks: which URLs and addresses are called, how requests are signed, and requests to the checked addresses."""
# Owns webhook-addresses.

import json
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from app.domain import webhooks
from app.domain.texts import RefusedError
from app.domain.webhooks import MAX_URL, TOPICS, Endpoint, Sent, Topic, is_public, read_topics, read_url
from app.services.webhooks.webhook_delivery import ask_process
from app.tokens.webhooks import new_secret, signed_headers
from app.webhooks import __main__ as process
from app.webhooks import post as posting
from app.webhooks.post import MAX_ANSWER_BYTES, post
from tests.support.webhooks import example, tls_server

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = "https://example.com/"


def test_a_url_and_topics_are_read_and_any_others_refused() -> None:
    for url, target in (
        ("https://example.com", Endpoint("example.com", 443, "/")),
        ("https://example.com:8443/hook?key=1", Endpoint("example.com", 8443, "/hook?key=1")),
        ("https://[2001:db8::1]/a", Endpoint("2001:db8::1", 443, "/a")),
        ("HTTPS://EXAMPLE.com/A", Endpoint("example.com", 443, "/A")),
        (PAGE + "a" * (MAX_URL - 20), Endpoint("example.com", 443, "/" + "a" * (MAX_URL - 20))),
    ):
        assert read_url(url) == target
    for url in (
        *("", "example.com", "http://example.com", "ftp://example.com", "https://", "https:///path", "//example.com"),
        *("https://user@example.com", "https://u:p@example.com", "https://example.com/#", "https://example.com:0"),
        *("https://example.com:65536", "https://example.com:x", "https://[::1", "https://例子.测试", "https://a b"),
        *(f"{PAGE}\n", f"{PAGE}\0", "https://exa\tmple.com", f"{PAGE}é", PAGE + "a" * (MAX_URL - 19)),
    ):
        with pytest.raises(RefusedError):
            pytest.fail(f"{url!r} is read as {read_url(url)}")
    assert read_topics(["card.mismatch", "card.activated", "card.mismatch"]) == [Topic.ACTIVATED, Topic.MISMATCH]
    assert read_topics(TOPICS) == list(TOPICS)
    for wrong in ([], ["webhook.test"], ["card.activated", "card.unknown"]):
        with pytest.raises(RefusedError, match=f"one of the topics: {', '.join(TOPICS)}$"):
            read_topics(wrong)


def test_only_public_addresses_may_be_called() -> None:
    private = [
        *("0.255.255.255", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.200", "192.0.2.1", "192.88.99.1", "192.168.0.1"),
        *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "ff02::1", "::127.0.0.1", "100::1", "4000::1"),
        *("2001:db8::1", "2001::1", "2001:20::1", "2002:7f00:1::", "3fff::1", "5f00::1", "::ffff:127.0.0.1"),
        *("::ffff:10.0.0.1", "::ffff:192.88.99.1", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::8.8.8.8"),
        *("", "localhost", "8.8.8", "8.8.8.8/32", "0x08080808"),
    ]
    public = [
        *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0"),
        *("2606:4700:4700::1111", "2400:3200::1", "2001:200::1", "::ffff:8.8.8.8", "2003::1", "2a00:1450::1"),
    ]
    assert [address for address in (*private, *public) if is_public(address)] == public


def test_a_message_is_tried_again_later_and_later_and_what_is_kept_of_an_answer_is_short() -> None:
    waits = [webhooks.next_attempt(attempts, NOW) - NOW for attempts in range(1, 10)]
    assert (waits[0], waits[-3:]) == (timedelta(seconds=10), [timedelta(hours=12)] * 3)
    assert waits == sorted(waits)
    assert sum(waits[:7], timedelta()) < timedelta(days=3), "each is tried seven times at least"
    rests = [webhooks.next_request(failures, NOW) - NOW for failures in range(1, 10)]
    assert (rests[:2], max(rests)) == ([timedelta(seconds=10), timedelta(minutes=1)], timedelta(hours=1))
    # What is kept of an answer is printable: PostgreSQL refuses a NUL, which would end the thread that notes it.
    assert Sent(None, "a\0\ud800b\x1b[2J\u202ec").error == "a  b [2J c"
    assert Sent(500, "a\0" * 500) == Sent(500, ("a " * 100).rstrip())
    assert [status for status in (199, 200, 299, 300) if Sent(status, None).is_delivered] == [200, 299]
    assert [Sent(status, None).status for status in (100, 999)] == [100, 999]
    for status in (99, 1000, 1 << 40):
        with pytest.raises(ValueError, match="not a status"):
            Sent(status, None)


def test_a_signature_is_the_one_of_standard_webhooks_and_the_example_believes_genuine_messages_alone() -> None:
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    at = datetime.fromtimestamp(1614265330, UTC)
    assert signed_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    verify, secret, body = example().verify, new_secret(), json.dumps({"type": "webhook.test"}).encode()
    headers, now = signed_headers(secret, "msg_1", NOW, body), NOW.timestamp()
    assert verify(secret, headers, body, now) == {"type": "webhook.test"}
    more = {**headers, "webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}
    assert verify(secret, more, body, now), "one of several"
    assert verify(new_secret(), headers, body, now) is None
    assert verify(secret, headers, body + b" ", now) is None
    assert [verify(secret, headers, body, now + seconds) for seconds in (301, -301)] == [None, None]
    for name in headers:
        assert verify(secret, {**headers, name: headers[name] + "1"}, body, now) is None, name
        assert verify(secret, {key: said for key, said in headers.items() if key != name}, body, now) is None, name


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
        elif self.path == "/odd":
            self.wfile.write(b"nothing of HTTP\r\n\r\n")
        else:
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
        self.port, self.names = port, names
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
    Receiver.got, Receiver.released, names = [], threading.Event(), []
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


def test_no_private_address_is_called_not_even_beside_public_ones(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", None)
    for host, *addresses in (
        ("localhost", "8.8.8.8", "10.0.0.1"),
        *(("localhost", address) for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1")),
        *((host, "127.0.0.1") for host in ("127.0.0.1", "2130706433", "[::1]")),  # in the URL
    ):
        net.addresses[host] = addresses
        sent = net.post(host=host, allow_private=False)
        assert (sent.status, "which is not a public address" in str(sent.error)) == (None, True), (host, addresses)


def test_a_name_is_resolved_once_its_checked_addresses_called_and_the_certificate_must_be_for_it(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    net.addresses["localhost"] = ["127.0.0.2", "127.0.0.1"]
    assert net.post().is_delivered
    assert net.names == ["localhost"], "although the connection is to an address"
    assert net.asked == ["localhost", "127.0.0.2", "127.0.0.1"], "another answer of the name server changes nothing"
    net.addresses["other.example"] = ["127.0.0.1"]
    assert net.post(host="other.example") == Sent(None, "TLS: hostname 'other.example' doesn't match 'localhost'")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    assert net.post().is_delivered, "no proxy is used"
    monkeypatch.delenv("SSL_CERT_FILE")
    assert str(net.post().error).startswith("TLS: "), "it must be trusted"
    assert len(Receiver.got) == 2


def test_what_does_not_answer_is_given_up_and_of_a_body_without_end_the_status_counts(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    net.addresses["nobody.example"] = []
    assert net.post(host="nobody.example") == Sent(None, "the name nobody.example does not resolve")
    monkeypatch.setattr(posting, "REQUEST_SECONDS", 0.3)
    for path in ("/drip", "/odd"):
        sent = net.post(path)
        assert (sent.status, sent.error is None) == (None, False), "although every byte comes in time"
    monkeypatch.setattr(posting, "REQUEST_SECONDS", 1.0)
    for body in ("breaks-off", "no-end"):
        assert net.post(f"/200/{body}") == Sent(200, None), "it would be sent again for three days"
        assert net.post(f"/410/{body}").status == 410, "which pauses the webhook"


def test_a_process_of_its_own_sends_and_its_odd_answers_are_no_delivery(
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
        errors = ({"status": status, "error": None} for status in ("200", 1 << 40, True))
        for answer in (*errors, {"status": 200, "error": ["x"]}, {"error": None}, [], None):
            monkeypatch.setattr(process, "post", lambda *_, answer=answer, **__: answer)
            unsent.append(through(url, {}, b""))
        server.shutdown()
    assert [(sent.status, "does not answer" in str(sent.error)) for sent in unsent] == [(None, True)] * 9
