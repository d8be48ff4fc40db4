"""HTTP with real sockets: bounds on time and size, and nobody followed."""

from __future__ import annotations

import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
from kadun import Client, ServerUnreachable, UntrustedAnswer
from kadun.connections import Connections
from kadun.transport import LARGEST_BODY_BYTES, HttpTransport

from tests.support.client.fake_server import CARD, HARDWARE, FakeServer, SigningKey, pinned
from tests.support.client.local_http import Handler, forged, serving
from tests.support.client.ports import resetting_port
from tests.support.client.raw_responses import LONG, OK, drip, send, stall
from tests.support.client.timing import wait_until
from tests.support.pki import Issued
from tests.support.tables import for_each

if TYPE_CHECKING:
    from tests.support.client.local_http import Respond

MakeClient = Callable[..., Client]


def sockets_open() -> int:
    """How many this process has, those of the test's own server among them."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            count += str(link.readlink()).startswith("socket:")
    return count


def test_a_card_opens_over_http(server: FakeServer, signing_key: SigningKey) -> None:
    with serving(forged(server)) as local:
        client = Client(f"{local.url}/", public_keys=pinned(signing_key), card_id=CARD, hardware=HARDWARE)
        assert client.open().accepted
    ((method, path, headers, _body),) = local.seen
    assert (method, path) == ("POST", "/v1/verify")
    assert headers["Content-Type"] == "application/json"
    assert headers["Accept-Language"].startswith("zh")


@pytest.mark.parametrize(
    ("host", "warned"),
    [
        ("http://card.example.com", True),
        ("http://192.0.2.10:8000", True),
        ("http://[2001:db8::1]", True),
        ("http://localhost.example.com", True),
        ("https://card.example.org", False),
        ("http://localhost:8000", False),
        ("http://LOCALHOST", False),
        ("http://shop.localhost", False),
        ("http://127.0.0.1:8000", False),
        ("http://127.9.9.9", False),
        ("http://[::1]:8000", False),
    ],
)
def test_plain_http_to_another_machine_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, host: str, *, warned: bool
) -> None:
    for path in ("", "/kadun"):
        HttpTransport(host + path)
    messages = [record.getMessage() for record in caplog.records if record.name == "kadun"]
    assert len(messages) == warned
    assert all("gets KERNAL_DATA_KEY; use https://" in message for message in messages)


def test_new_keys_are_fetched_over_http(server: FakeServer, signing_key: SigningKey) -> None:
    server.key = SigningKey()
    server.endorsements = [signing_key.endorse(server.key.jwk)]
    with serving(forged(server)) as local:
        client = Client(local.url, public_keys=pinned(signing_key), card_id=CARD, hardware=HARDWARE, language="en")
        assert client.open().accepted
    assert [(method, path) for method, path, _headers, _body in local.seen] == [
        ("POST", "/v1/verify"),
        ("GET", "/.well-known/jwks.json"),
    ]
    assert local.seen[0][2]["Accept-Language"] == "en"


def test_an_answer_of_just_the_largest_size_is_read() -> None:
    body = b" " * LARGEST_BODY_BYTES
    with serving(lambda handler, _body: handler.send(200, body)) as local:
        assert HttpTransport(local.url).exchange("/", b"", "zh").body == body


def test_an_answer_larger_by_one_byte_is_refused() -> None:
    body = b" " * (LARGEST_BODY_BYTES + 1)
    with (
        serving(lambda handler, _body: handler.send(200, body)) as local,
        pytest.raises(UntrustedAnswer, match="1 MiB"),
    ):
        HttpTransport(local.url).exchange("/", b"", "zh")


def test_a_compressed_answer_is_not_inflated(make_client: MakeClient) -> None:
    bomb = zlib.compress(b" " * 50_000_000)

    def respond(handler: Handler, _body: bytes) -> None:
        handler.send(200, bomb, Content_Encoding="deflate")

    with serving(respond) as local:
        transport = HttpTransport(local.url)
        assert transport.exchange("/", b"", "zh").body == bomb
        with pytest.raises(UntrustedAnswer):
            make_client(transport=transport).open()
    assert local.seen[0][2]["Accept-Encoding"] == "identity"


@contextmanager
def dripping_greeting() -> Iterator[str]:
    """Begins a greeting of TLS, and sends a byte of it now and then."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x3f\x00")
            while not over.wait(0.05):
                connection.sendall(b"\x02")

    def listen() -> None:
        with suppress(OSError):
            while not over.is_set():
                servers.append(threading.Thread(target=serve, args=(listener.accept()[0],)))
                servers[-1].start()

    servers = [threading.Thread(target=listen)]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        servers[0].start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            for server in servers:
                server.join()


@contextmanager
def served_by(respond: Respond) -> Iterator[str]:
    with serving(respond) as local:
        yield local.url


@contextmanager
def proxied_by(respond: Respond) -> Iterator[str]:
    """A proxy that never comes to the end of its answer to CONNECT."""
    with serving(respond) as local, pytest.MonkeyPatch.context() as environment:
        environment.delenv("NO_PROXY")
        environment.setenv("https_proxy", local.url)
        yield "https://card.invalid"


ENDLESS = {
    "silence": lambda: served_by(send(b"", stall)),
    "headers": lambda: served_by(send(OK, drip(b"X-Slow: yes\r\n"))),
    "body": lambda: served_by(send(LONG, drip(b" "))),
    "TLS": dripping_greeting,
    "a proxy": lambda: proxied_by(send(OK, drip(b"X-Slow: yes\r\n"))),
}


def exchanged(transport: HttpTransport) -> None:
    transport.exchange("/v1/verify", b"{}", "zh")


def streamed(transport: HttpTransport) -> None:
    with transport.stream("/v1/files/x", {}) as answer:
        list(answer.pieces())


def at_work() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("kadun-exchange", "kadun-stre"))]


@for_each("endless", ENDLESS)
@for_each("ask", [exchanged, streamed])
def test_a_timed_out_request_leaves_no_thread_and_no_socket(ask: Callable[[HttpTransport], None], endless: str) -> None:
    with ENDLESS[endless]() as url:
        transport = HttpTransport(url, timeout_seconds=0.2)
        before, started = sockets_open(), time.monotonic()
        for _ in range(3):
            with pytest.raises(ServerUnreachable, match="within"):
                ask(transport)
        assert time.monotonic() - started > 0.5  # three timeouts
        wait_until(lambda: not at_work())  # while the other side still drips
        wait_until(lambda: sockets_open() <= before + 3)  # the servers' own ends of the three


def test_a_late_connection_is_closed_at_once() -> None:
    connections = Connections()
    connections.cut()
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(TimeoutError):
            connections.keep(ours)
        assert theirs.recv(1) == b""


def test_a_server_without_tls_behind_https_is_unreachable(make_client: MakeClient, server: FakeServer) -> None:
    with serving(forged(server)) as local, pytest.raises(ServerUnreachable):
        make_client(transport=HttpTransport(local.url.replace("http:", "https:"))).open()
    assert server.requests == []


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key in the same file."""
    issued = Issued.make("127.0.0.1")
    path = tmp_path / "certificate.pem"
    path.write_bytes(issued.pem + issued.key_bytes())
    return path


def test_a_tls_connection_that_is_reset_may_be_tried_again(certificate: Path) -> None:
    larger_than_all_buffers = bytes(50_000_000)  # so that the reset comes while it is being sent
    with resetting_port(certificate) as address:
        transport = HttpTransport(f"https://{address}", ca_file=certificate, timeout_seconds=60)
        with pytest.raises(ServerUnreachable) as caught:
            transport.exchange("/v1/verify", larger_than_all_buffers, "en")
    assert (caught.value.passing, caught.value.sent) == (True, True), caught.value.detail


def test_a_private_ca_is_believed_only_when_named(
    make_client: MakeClient, server: FakeServer, certificate: Path
) -> None:
    with serving(forged(server), certificate=certificate) as local:
        with pytest.raises(ServerUnreachable, match="CERTIFICATE_VERIFY_FAILED") as caught:
            make_client(transport=HttpTransport(local.url)).open()
        assert not caught.value.passing
        assert server.requests == []
        assert make_client(transport=HttpTransport(local.url, ca_file=certificate)).open().accepted


def test_a_ca_file_named_by_the_vendor_outweighs_the_environments(
    make_client: MakeClient, server: FakeServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.certs.where())
    with serving(forged(server), certificate=certificate) as local:
        assert make_client(transport=HttpTransport(local.url, ca_file=certificate)).open().accepted


@pytest.mark.parametrize("several", ["one file", "a folder"])
def test_each_of_several_certificates_is_trusted(
    make_client: MakeClient, server: FakeServer, certificate: Path, tmp_path: Path, several: str
) -> None:
    other = Issued.make("127.0.0.1")
    trusted = tmp_path / "trusted"
    if several == "a folder":
        trusted.mkdir()
        (trusted / "1.pem").write_bytes(other.pem)
        (trusted / "2.pem").write_bytes(certificate.read_bytes())
        (trusted / "README").write_text("not a certificate")
    else:
        trusted.write_bytes("# 旧证书\n".encode() + other.pem + certificate.read_bytes())
    second = tmp_path / "second.pem"
    second.write_bytes(other.pem + other.key_bytes())
    for served in (certificate, second):
        with serving(forged(server), certificate=served) as local:
            assert make_client(transport=HttpTransport(local.url, ca_file=trusted)).open().accepted


@pytest.mark.parametrize("configured", ["by requests", "by the environment"])
def test_a_program_with_a_pinned_certificate_trusts_public_cas_only_where_asked_to(
    make_client: MakeClient,
    server: FakeServer,
    certificate: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    configured: str,
) -> None:
    public = Issued.make("127.0.0.1")
    (tmp_path / "public-cas").write_bytes(public.pem)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    if configured == "by requests":
        monkeypatch.setattr(requests.utils, "DEFAULT_CA_BUNDLE_PATH", str(tmp_path / "public-cas"))
    else:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "public-cas"))
    later = tmp_path / "later.pem"
    later.write_bytes(public.pem + public.key_bytes())
    with serving(forged(server), certificate=certificate) as now:
        assert make_client(transport=HttpTransport(now.url, ca_file=certificate, public_cas=True)).open().accepted
    with serving(forged(server), certificate=later) as then:
        assert make_client(transport=HttpTransport(then.url, ca_file=certificate, public_cas=True)).open().accepted
        with pytest.raises(ServerUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            make_client(transport=HttpTransport(then.url, ca_file=certificate)).open()


def test_a_pinned_certificate_is_trusted_by_its_client_alone(
    make_client: MakeClient, server: FakeServer, certificate: Path
) -> None:
    with serving(forged(server), certificate=certificate) as local:
        assert make_client(transport=HttpTransport(local.url, ca_file=certificate, public_cas=True)).open().accepted
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(local.url, timeout=30)


def test_passwords_of_a_netrc_file_are_not_sent(
    make_client: MakeClient, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login customer password secret\n", encoding="ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(forged(server)) as local:
        make_client(transport=HttpTransport(local.url)).open()
    assert "Authorization" not in local.seen[0][2]


@for_each(
    "base_url",
    ["", "card.example.com", "ftp://card.example.com", "https://", "https://a/?b=c", "https://a/#b"],
)
def test_an_invalid_address_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        HttpTransport(base_url)


def test_an_invalid_timeout_is_refused() -> None:
    with pytest.raises(ValueError, match="timeout_seconds"):
        HttpTransport("https://card.example.com", timeout_seconds=0)


def test_a_missing_ca_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="ca_file"):
        HttpTransport("https://card.example.com", ca_file=tmp_path / "missing.pem")


def test_a_ca_file_without_a_certificate_is_refused(certificate: Path, tmp_path: Path) -> None:
    for content in (
        b"",
        b"text",
        certificate.read_bytes()[:200],
        certificate.read_bytes().replace(b"MII", b"\xe9II", 1),
    ):
        (tmp_path / "ca.pem").write_bytes(content)
        with pytest.raises(ValueError, match=r"ca_file: .*ca\.pem contains no certificate in PEM"):
            HttpTransport("https://card.example.com", ca_file=tmp_path / "ca.pem")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError, match=r"ca_file .*folder is a folder without a \*\.pem file"):
        HttpTransport("https://card.example.com", ca_file=tmp_path / "folder")
