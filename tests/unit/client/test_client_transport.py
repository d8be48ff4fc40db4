"""HTTP with real sockets: bounds, certificates, proxies, when the client asks again, and servers with every fault.

Nothing here depends on the load of the machine. Where a call can only end by its timeout, the timeout passes as soon
as the server has stalled; everywhere else it is so long that only the fault itself can end the call.
"""
# Owns client-transport.

import contextlib
import queue
import socket
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from kadun import Client, KadunError, ServerUnreachable, UntrustedAnswer, retries
from kadun.connections import Connections
from kadun.responses import Response
from kadun.retries import RetryPolicy
from kadun.transport import LARGEST_BODY_BYTES, HttpTransport

from tests.support.client import local_http as ports
from tests.support.client.fakes import CARD, HARDWARE, FakeServer, MakeClient, SigningKey, pinned, refused
from tests.support.client.local_http import CHUNKED, LONG, LONG_SECONDS, OK, Handler, Respond, forged, send, serving
from tests.support.services.pki import Issued
from tests.support.tables import for_each

Opens = Callable[..., bool]
Refused = Callable[[str, str], Any]

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_a_card_opens_directly_and_through_the_systems_proxy_and_new_keys_are_fetched(
    server: FakeServer, signing_key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"  # whose passwords are not sent
    netrc.write_text("machine 127.0.0.1 login customer password secret\n", encoding="ascii")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with serving(forged(server)) as local:
        for url, language in ((f"{local.url}/", "zh"), (local.url, "en")):
            assert Client(url, pinned(signing_key), CARD, hardware=HARDWARE, language=language).open().accepted
            server.rotate()
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv("http_proxy", local.url)
        assert Client("http://card.invalid", pinned(server.key), CARD, hardware=HARDWARE).open().accepted
    verify, keys, proxied = "POST /v1/verify", "GET /.well-known/jwks.json", "POST http://card.invalid/v1/verify"
    assert [f"{method} {path}" for method, path, _headers, _body in local.seen] == [verify, verify, keys, proxied]
    assert local.seen[0][2]["Content-Type"] == "application/json"
    assert not any("Authorization" in headers for _method, _path, headers, _body in local.seen)
    assert [headers["Accept-Language"][:2] for _method, _path, headers, _body in local.seen[:2]] == ["zh", "en"]


def test_plain_http_to_another_machine_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    own = ["http://localhost:8000", "http://shop.localhost", "http://127.9.9.9", "http://[::1]:8000"]
    others = ["http://card.example.com", "http://[2001:db8::1]", "http://localhost.example.com"]
    for host in ("https://card.example.org", *own, *others):
        caplog.clear()
        for path in ("", "/kadun"):
            HttpTransport(host + path)
        messages = [record.getMessage() for record in caplog.records if record.name == "kadun"]
        assert len(messages) == (host in others), host
        assert all("gets KERNAL_DATA_KEY; use https://" in message for message in messages)


def test_a_body_is_refused_above_the_largest_size_and_never_inflated(make_client: MakeClient) -> None:
    body, headers = b" " * LARGEST_BODY_BYTES, dict[str, str]()
    with serving(lambda handler, _body: handler.send(200, body, **headers)) as local:
        transport = HttpTransport(local.url)
        assert transport.exchange("/", b"", "zh").body == body
        body += b" "
        with pytest.raises(UntrustedAnswer, match="1 MiB"):
            transport.exchange("/", b"", "zh")
        body, headers = zlib.compress(b" " * 50_000_000), {"Content_Encoding": "deflate"}
        assert transport.exchange("/", b"", "zh").body == body
        refused(make_client(transport=transport), UntrustedAnswer)
    assert local.seen[0][2]["Accept-Encoding"] == "identity"


@for_each("base_url", ["", "card.example.com", "ftp://card.example.com", "https://", "https://a/?b=c", "https://a/#b"])
def test_an_invalid_address_or_timeout_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        HttpTransport(base_url)
    with pytest.raises(ValueError, match="timeout_seconds"):
        HttpTransport("https://card.example.com", timeout_seconds=0)


def certificate_in(path: Path) -> Path:
    """A new self-signed certificate for 127.0.0.1, with its key in the same file."""
    issued = Issued.make("127.0.0.1")
    path.write_bytes(issued.pem + issued.key_bytes())
    return path


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return certificate_in(tmp_path / "certificate.pem")


@pytest.fixture
def opens(make_client: MakeClient, server: FakeServer) -> Opens:
    """Whether a client with these settings believes a server with this certificate."""

    def opens(served: Path, **settings: Any) -> bool:
        with serving(forged(server), certificate=served) as local:
            try:
                return make_client(transport=HttpTransport(local.url, **settings)).open().accepted
            except ServerUnreachable as failure:
                if failure.passing or "CERTIFICATE_VERIFY_FAILED" not in failure.detail:
                    raise
                return False

    return opens


def test_the_named_certificates_are_trusted_and_beside_them_public_cas_only_where_asked_to(
    opens: Opens, server: FakeServer, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not opens(certificate)
    assert server.requests == []
    second, public = certificate_in(tmp_path / "second.pem"), certificate_in(tmp_path / "public-cas")
    together, folder = tmp_path / "together", tmp_path / "folder"
    together.write_bytes("# 旧证书\n".encode() + second.read_bytes() + certificate.read_bytes())
    folder.mkdir()
    for number, path in enumerate((second, certificate)):
        (folder / f"{number}.pem").write_bytes(path.read_bytes())
    (folder / "README").write_text("not a certificate")
    assert all(opens(served, ca_file=all_) for served in (certificate, second) for all_ in (together, folder))
    for name in ("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for bundle, default in ((None, public), (public, second)):
        monkeypatch.setattr(requests.utils, "DEFAULT_CA_BUNDLE_PATH", str(default))
        if bundle:
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        assert opens(public, ca_file=certificate, public_cas=True)
        assert opens(certificate, ca_file=certificate, public_cas=True)
        assert not opens(public, ca_file=certificate)


def test_a_ca_file_that_is_missing_or_has_no_certificate_is_refused(certificate: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, why in (("missing.pem", "does not exist"), ("folder", r"is a folder without a \*\.pem file")):
        with pytest.raises(FileNotFoundError, match=f"ca_file .*{name} {why}"):
            HttpTransport("https://card.example.com", ca_file=tmp_path / name)
    whole = certificate.read_bytes()
    for content in (b"", b"text", whole[:200], whole.replace(b"MII", b"\xe9II", 1)):
        (tmp_path / "ca.pem").write_bytes(content)
        with pytest.raises(ValueError, match=r"ca_file: .*ca\.pem contains no certificate in PEM"):
            HttpTransport("https://card.example.com", ca_file=tmp_path / "ca.pem")


def test_a_tls_connection_that_is_reset_may_be_tried_again(certificate: Path) -> None:
    larger_than_all_buffers = bytes(50_000_000)  # so that the reset comes while it is being sent
    with ports.resetting_port(certificate) as address:
        transport = HttpTransport(f"https://{address}", ca_file=certificate, timeout_seconds=LONG_SECONDS)
        with pytest.raises(ServerUnreachable) as caught:
            transport.exchange("/v1/verify", larger_than_all_buffers, "en")
    assert (caught.value.passing, caught.value.sent) == (True, True), caught.value.detail


@pytest.fixture
def refused_through(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """The error of an opening through a proxy of the system."""
    monkeypatch.delenv("NO_PROXY", raising=False)

    def refused_through(proxy: str, base_url: str) -> Any:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("https_proxy", proxy)
        with pytest.raises((ServerUnreachable, UntrustedAnswer)) as caught:
            make_client(transport=HttpTransport(base_url)).open()
        shown = "".join(traceback.format_exception(caught.type, caught.value, None))
        assert "hush" not in caught.value.detail + shown
        return caught.value

    return refused_through


def test_a_proxy_that_refuses_or_closes_is_unreachable_or_untrusted(refused_through: Refused) -> None:
    for answer in (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>", ESTABLISHED + b"no TLS here", b""):
        with serving(send(answer)) as proxy:
            refused_through(proxy.url, "https://card.invalid")
    with serving(send(ESTABLISHED, lambda handler: handler.connection.recv(100_000))) as proxy:
        assert "EOF" in refused_through(proxy.url, "https://card.invalid").detail
    assert len(proxy.seen) == 3  # a handshake of TLS that breaks off is tried again


def test_a_proxy_whose_certificate_is_not_trusted_is_asked_once(
    refused_through: Refused, server: FakeServer, certificate: Path
) -> None:
    with serving(forged(server), certificate=certificate) as proxy:
        error = refused_through(proxy.url, "https://card.invalid")
    assert "CERTIFICATE_VERIFY_FAILED" in error.detail
    assert (error.passing, error.sent) == (False, True)
    assert proxy.seen == []


def test_an_invalid_proxy_is_unreachable_and_its_user_and_password_stay_secret(refused_through: Refused) -> None:
    with_passwords = [f"http://user:hush-hush{end}" for end in ("@[", "", "@:x")]
    for proxy in ("http://127.0.0.1:1", "socks5://127.0.0.1:1", "http://", "::::", *with_passwords):
        error = refused_through(proxy, "http://card.invalid")
        assert isinstance(error, ServerUnreachable), proxy
        assert error.detail, proxy
    for user in ("张三:口令", "张:", "user:口令", "x:\udcff"):  # no header can hold them
        for scheme in ("http", "https"):
            error = refused_through(f"http://{user}@127.0.0.1:1", f"{scheme}://card.invalid")
            assert (error.passing, error.sent) == (False, False), user
            assert not set("张三口令\udcff") & set(error.detail), user


BUSY, BROKEN = Response(503, b"{}"), ServerUnreachable("ConnectionResetError", passing=True)


@for_each(
    "failures, error, tries",
    [
        *(([*twice], None, 3) for twice in ((Response(429, b"<html>busy</html>"), Response(502, b"")), (BUSY, BROKEN))),
        ([BROKEN] * 9, ServerUnreachable, 3),
        *(([Response(status, b"")], ServerUnreachable, 1) for status in (500, 504)),
        ([ServerUnreachable("no answer within 10 seconds")], ServerUnreachable, 1),
        ([Response(200, b"<html>")], UntrustedAnswer, 1),
    ],
)
def test_a_passing_failure_alone_is_followed_by_two_more_tries_each_with_another_nonce(
    failures: list[Any],
    error: type[KadunError] | None,
    tries: int,
    client: Client,
    server: FakeServer,
    pauses: list[float],
) -> None:
    pauses.clear()
    server.requests.clear()
    server.script = [*failures]
    if error is None:
        assert client.open().accepted
        assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1
    else:
        is_busy = error is ServerUnreachable and isinstance(failures[0], Response)
        assert ("繁忙" in refused(client, error).message) is is_busy
    assert len({request["nonce"] for request in server.requests}) == len(pauses) + 1 == tries


def test_retry_after_is_respected_where_valid_and_a_long_one_left_to_the_caller(
    client: Client, server: FakeServer, pauses: list[float]
) -> None:
    server.script = [Response(429, b"", retry_after="4")]
    client.open()
    assert len(pauses) == 1
    assert 4 < pauses.pop() <= 4.5
    for header in ("60", None, "", "soon", "-1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT", "9" * 99):
        pauses.clear()
        server.script = [Response(503, b"", retry_after=header)] * 3
        assert refused(client).retry_after == (60 if header == "60" else None), header
        assert len(pauses) == (0 if header == "60" else 2), header


@for_each("choose", [min, max])
def test_eight_tries_ride_through_the_minute_of_a_move_and_the_default_ends_after_seconds(
    choose: object, make_client: MakeClient, server: FakeServer, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/client.md promises: while the server moves, nginx answers 503 with Retry-After for a minute."""

    def answer(request: dict[str, Any]) -> Response:
        return server.genuine(request) if sum(pauses) >= 60 else Response(503, b"{}", retry_after="5")

    monkeypatch.setattr(retries, "_random", SimpleNamespace(uniform=choose))  # always the least, or the most
    server.script = [answer] * 99
    refused(make_client())
    assert 10 < sum(pauses) < 12
    pauses.clear()
    assert make_client(retry_policy=RetryPolicy(tries=8, sleep=pauses.append)).open().accepted
    assert 60 <= sum(pauses) < 120
    pauses.clear()


FAULTS: list[tuple[str, Respond, type[KadunError]]] = [
    ("slow: no byte", send(b"", ports.stall), ServerUnreachable),
    ("drip: headers", send(OK, ports.drip(b"X-More: 1\r\n")), ServerUnreachable),
    ("drip: the body", send(LONG, ports.drip(b" ")), ServerUnreachable),
    ("flood: 100 Continue", send(b"", ports.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)), ServerUnreachable),
    ("flood: one header", send(OK + b"X-Long: ", ports.repeat(b"x" * 1000)), ServerUnreachable),
    ("reset: during the body", send(LONG + b"{", Handler.reset), ServerUnreachable),
    ("closed: during the headers", send(OK + b"Content-Le"), ServerUnreachable),
    ("closed: during a chunk", send(CHUNKED + b"ff\r\nabc"), ServerUnreachable),
    ("half-closed: an answer without a length", send(OK + b"\r\n<html>", ports.half_close), UntrustedAnswer),
    ("garbage: bytes", send(bytes(range(256)) * 300), ServerUnreachable),
    ("garbage: no body", send(OK + b"Content-Length: 0\r\n\r\n"), UntrustedAnswer),
    ("garbage: a redirect", send(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), UntrustedAnswer),
    ("garbage: 511", send(b"HTTP/1.1 511 Network Authentication Required\r\n\r\n<html>"), ServerUnreachable),
    ("garbage: a token that is not text", send(OK + b'\r\n{"token": 7}'), UntrustedAnswer),
    ("garbage: deep JSON", send(OK + b"\r\n" + b"[" * 200_000), UntrustedAnswer),
]


@contextlib.contextmanager
def timeouts_passing_early(*, early: bool) -> Iterator[None]:
    """Let the client's timeout pass once the server has stalled."""
    with pytest.MonkeyPatch.context() as patched:
        if early:
            patched.setattr(queue, "Queue", ports.StalledQueue)
        yield


@for_each("fault, respond, documented", FAULTS)
def test_a_faulty_server_ends_in_the_documented_error(
    fault: str, respond: Respond, documented: type[KadunError], make_client: MakeClient
) -> None:
    stalls = fault.startswith(("slow", "drip", "flood: 100"))  # only the timeout can end the call
    with timeouts_passing_early(early=stalls), serving(respond) as local:
        error = refused(make_client(transport=HttpTransport(local.url, timeout_seconds=LONG_SECONDS)), KadunError)
    assert type(error) is documented
    assert error.message
    assert not error.message.isascii()
    assert ("no answer within" in error.detail) is stalls
    if fault.startswith(("closed", "reset")):
        assert len(local.seen) == 3


@for_each("scheme", ["http", "https"])
@for_each("port", [ports.deaf_port, ports.closed_port, ports.silent_port, ports.hanging_up_port])
def test_a_server_that_is_down_is_unreachable(
    port: Callable[[], AbstractContextManager[str]], scheme: str, make_client: MakeClient, tmp_path: Path
) -> None:
    seconds = 0.1 if port is ports.deaf_port else LONG_SECONDS  # where no connection is established
    with port() as address, timeouts_passing_early(early=port is ports.silent_port):
        client = make_client(transport=HttpTransport(f"{scheme}://{address}", timeout_seconds=seconds))
        for ask in (client.open, lambda: client.download("model.bin", tmp_path / "model.bin")):
            with pytest.raises(ServerUnreachable, match="无法连接验证服务器"):
                ask()
    assert list(tmp_path.iterdir()) == []


@for_each("status", [200, 403, 429, 503])
def test_a_response_with_a_valid_token_is_final_whatever_its_status(
    status: int, make_client: MakeClient, server: FakeServer
) -> None:
    def respond(handler: Handler, body: bytes) -> None:
        handler.send(status, server.exchange(handler.path, body, "").body, Retry_After="1")

    with serving(respond) as local:
        assert make_client(transport=HttpTransport(local.url)).open().accepted
    assert len(local.seen) == 1


def sockets_open() -> int:
    """How many this process has, those of the test's own server among them."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += str(link.readlink()).startswith("socket:")
    return count


@contextlib.contextmanager
def dripping_proxy() -> Iterator[str]:
    """A URL behind a proxy that never comes to the end of its answer to CONNECT."""
    with serving(send(OK, ports.drip(b"X-Slow: yes\r\n"))) as local, pytest.MonkeyPatch.context() as environment:
        environment.delenv("NO_PROXY")
        environment.setenv("https_proxy", local.url)
        yield "https://card.invalid"


@contextlib.contextmanager
def dripping_body() -> Iterator[str]:
    with serving(send(LONG, ports.drip(b" "))) as local:
        yield local.url


@for_each("endless", [ports.dripping_tls_port, dripping_proxy, dripping_body])
def test_a_timed_out_request_leaves_no_thread_and_no_socket(endless: Callable[[], AbstractContextManager[str]]) -> None:
    with endless() as url:
        transport = HttpTransport(url, timeout_seconds=0.2)
        before, started = sockets_open(), time.monotonic()
        for _ in range(3):
            with pytest.raises(ServerUnreachable, match="within"), transport.stream("/v1/files/x", {}) as answer:
                list(answer.pieces())
        assert time.monotonic() - started > 0.5  # three timeouts
        ports.wait_until(lambda: not ports.threads("kadun-request"))  # while the other side still drips
        ports.wait_until(lambda: sockets_open() <= before + 3)  # the servers' own ends of the three


def test_a_late_connection_is_closed_at_once() -> None:
    connections = Connections()
    connections.cut()
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(TimeoutError):
            connections.keep(ours)
        assert theirs.recv(1) == b""
