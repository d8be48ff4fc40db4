"""HTTP with real sockets: bounds, which certificates are trusted, proxies; and when the client asks again."""
# Owns client-transport.

import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from kadun import Client, KadunError, ServerUnreachable, UntrustedAnswer, retries
from kadun.responses import Response
from kadun.retries import RetryPolicy
from kadun.transport import LARGEST_BODY_BYTES, HttpTransport

from tests.support.client.customer_machine import MakeClient, refused
from tests.support.client.fake_server import CARD, HARDWARE, FakeServer, SigningKey, pinned
from tests.support.client.local_http import Handler, forged, serving
from tests.support.client.ports import resetting_port
from tests.support.client.raw_responses import send
from tests.support.client.timing import LONG_SECONDS
from tests.support.services.pki import Issued
from tests.support.tables import for_each

Opens = Callable[..., bool]
Refused = Callable[[str, str], Any]

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_a_card_opens_over_http_and_new_keys_are_fetched(server: FakeServer, signing_key: SigningKey) -> None:
    with serving(forged(server)) as local:
        client = Client(f"{local.url}/", public_keys=pinned(signing_key), card_id=CARD, hardware=HARDWARE)
        assert client.open().accepted
        server.rotate()
        client = Client(local.url, public_keys=pinned(signing_key), card_id=CARD, hardware=HARDWARE, language="en")
        assert client.open().accepted
    verify, keys = ("POST", "/v1/verify"), ("GET", "/.well-known/jwks.json")
    assert [(method, path) for method, path, _headers, _body in local.seen] == [verify, verify, keys]
    headers = local.seen[0][2]
    assert headers["Content-Type"] == "application/json"
    assert headers["Accept-Language"].startswith("zh")
    assert local.seen[1][2]["Accept-Language"] == "en"


@for_each(
    "host, warned",
    [
        ("http://card.example.com", True),
        ("http://[2001:db8::1]", True),
        ("http://localhost.example.com", True),
        ("https://card.example.org", False),
        ("http://localhost:8000", False),
        ("http://shop.localhost", False),
        ("http://127.9.9.9", False),
        ("http://[::1]:8000", False),
    ],
)
def test_plain_http_to_another_machine_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, host: str, *, warned: bool
) -> None:
    caplog.clear()
    for path in ("", "/kadun"):
        HttpTransport(host + path)
    messages = [record.getMessage() for record in caplog.records if record.name == "kadun"]
    assert len(messages) == warned
    assert all("gets KERNAL_DATA_KEY; use https://" in message for message in messages)


def test_an_answer_larger_than_the_largest_by_one_byte_is_refused() -> None:
    body = b" " * LARGEST_BODY_BYTES
    with serving(lambda handler, _body: handler.send(200, body)) as local:
        assert HttpTransport(local.url).exchange("/", b"", "zh").body == body
    with (
        serving(lambda handler, _body: handler.send(200, body + b" ")) as local,
        pytest.raises(UntrustedAnswer, match="1 MiB"),
    ):
        HttpTransport(local.url).exchange("/", b"", "zh")


def test_a_compressed_answer_is_not_inflated(make_client: MakeClient) -> None:
    bomb = zlib.compress(b" " * 50_000_000)
    with serving(lambda handler, _body: handler.send(200, bomb, Content_Encoding="deflate")) as local:
        transport = HttpTransport(local.url)
        assert transport.exchange("/", b"", "zh").body == bomb
        with pytest.raises(UntrustedAnswer):
            make_client(transport=transport).open()
    assert local.seen[0][2]["Accept-Encoding"] == "identity"


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

    def opens(served: Path, **settings: object) -> bool:
        with serving(forged(server), certificate=served) as local:
            try:
                return make_client(transport=HttpTransport(local.url, **settings)).open().accepted  # type: ignore[arg-type]
            except ServerUnreachable as failure:
                if failure.passing or "CERTIFICATE_VERIFY_FAILED" not in failure.detail:
                    raise
                return False

    return opens


def test_a_private_ca_is_believed_only_when_named(
    opens: Opens, server: FakeServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not opens(certificate)
    assert server.requests == []
    assert opens(certificate, ca_file=certificate)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", requests.utils.DEFAULT_CA_BUNDLE_PATH)  # which the vendor's outweighs
    assert opens(certificate, ca_file=certificate)


def test_a_pinned_certificate_is_trusted_by_its_client_alone(opens: Opens, certificate: Path) -> None:
    assert opens(certificate, ca_file=certificate, public_cas=True)
    with (
        serving(lambda handler, _body: handler.send(200, b""), certificate=certificate) as local,
        pytest.raises(requests.exceptions.SSLError),
    ):
        requests.get(local.url, timeout=LONG_SECONDS)


def test_each_of_several_certificates_is_trusted(opens: Opens, certificate: Path, tmp_path: Path) -> None:
    second = certificate_in(tmp_path / "second.pem")
    together, folder = tmp_path / "together", tmp_path / "folder"
    together.write_bytes("# 旧证书\n".encode() + second.read_bytes() + certificate.read_bytes())
    folder.mkdir()
    (folder / "1.pem").write_bytes(second.read_bytes())
    (folder / "2.pem").write_bytes(certificate.read_bytes())
    (folder / "README").write_text("not a certificate")
    assert all(opens(served, ca_file=all_) for served in (certificate, second) for all_ in (together, folder))


def test_a_program_with_a_pinned_certificate_trusts_public_cas_only_where_asked_to(
    opens: Opens, certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = certificate_in(tmp_path / "public-cas")
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(public))
    assert opens(public, ca_file=certificate, public_cas=True)
    assert not opens(public, ca_file=certificate)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    monkeypatch.setattr(requests.utils, "DEFAULT_CA_BUNDLE_PATH", str(public))
    assert opens(certificate, ca_file=certificate, public_cas=True)
    assert opens(public, ca_file=certificate, public_cas=True)
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
    with resetting_port(certificate) as address:
        transport = HttpTransport(f"https://{address}", ca_file=certificate, timeout_seconds=LONG_SECONDS)
        with pytest.raises(ServerUnreachable) as caught:
            transport.exchange("/v1/verify", larger_than_all_buffers, "en")
    assert (caught.value.passing, caught.value.sent) == (True, True), caught.value.detail


@pytest.fixture
def refused_through(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """The error of an opening through a proxy of the system."""

    def refused_through(proxy: str, base_url: str) -> Any:
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.setenv("https_proxy", proxy)
        with pytest.raises((ServerUnreachable, UntrustedAnswer)) as caught:
            make_client(transport=HttpTransport(base_url)).open()
        shown = "".join(traceback.format_exception(caught.type, caught.value, None))
        assert "hush" not in caught.value.detail + shown
        return caught.value

    return refused_through


def test_the_systems_proxy_is_used(
    make_client: MakeClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY")
    with serving(forged(server)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert make_client(transport=HttpTransport("http://card.invalid")).open().accepted
    assert [path for _method, path, _headers, _body in proxy.seen] == ["http://card.invalid/v1/verify"]


@for_each(
    "answer",
    [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>", ESTABLISHED + b"no TLS here", b""],
)
def test_a_proxy_that_refuses_is_unreachable_or_untrusted(answer: bytes, refused_through: Refused) -> None:
    with serving(send(answer)) as proxy:
        refused_through(proxy.url, "https://card.invalid")


def test_a_tunnel_that_closes_during_the_tls_handshake_is_tried_again(refused_through: Refused) -> None:
    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(ESTABLISHED)
        handler.connection.recv(100_000)

    with serving(respond) as proxy:
        assert "EOF" in refused_through(proxy.url, "https://card.invalid").detail
    assert len(proxy.seen) == 3


def test_a_proxy_whose_certificate_is_not_trusted_is_asked_once(
    refused_through: Refused, server: FakeServer, certificate: Path
) -> None:
    with serving(forged(server), certificate=certificate) as proxy:
        error = refused_through(proxy.url, "https://card.invalid")
    assert "CERTIFICATE_VERIFY_FAILED" in error.detail
    assert (error.passing, error.sent) == (False, True)
    assert proxy.seen == []


@for_each(
    "proxy",
    ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "http://", "::::"]
    + [f"http://user:hush-hush{end}" for end in ("@[", "", "@:x")],
)
def test_an_invalid_proxy_is_unreachable_and_its_password_stays_secret(proxy: str, refused_through: Refused) -> None:
    error = refused_through(proxy, "http://card.invalid")
    assert isinstance(error, ServerUnreachable)
    assert error.detail


@for_each("user", ["张三:口令", "张:", "user:口令", "x:\udcff"])
@for_each("scheme", ["http", "https"])
def test_a_proxys_user_that_no_header_can_hold_is_unreachable_and_stays_secret(
    scheme: str, user: str, refused_through: Refused
) -> None:
    error = refused_through(f"http://{user}@127.0.0.1:1", f"{scheme}://card.invalid")
    assert (error.passing, error.sent) == (False, False)
    assert not set("张三口令\udcff") & set(error.detail)


def broken() -> ServerUnreachable:
    return ServerUnreachable("ConnectionResetError", passing=True)


@for_each("failures", [[Response(429, b"<html>busy</html>"), Response(502, b"")], [Response(503, b"{}"), broken()]])
def test_a_passing_failure_is_followed_by_another_try_with_another_nonce(
    failures: list[Any], client: Client, server: FakeServer, pauses: list[float]
) -> None:
    pauses.clear()
    server.requests.clear()
    server.script = [*failures]
    assert client.open().accepted
    assert len({request["nonce"] for request in server.requests}) == 3
    assert len(pauses) == 2
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1


def test_tries_are_bounded(client: Client, server: FakeServer, pauses: list[float]) -> None:
    server.script = [broken() for _ in range(9)]
    error = refused(client)
    assert error.detail == "ConnectionResetError"
    assert "网络" in error.message
    assert (len(server.requests), len(pauses)) == (3, 2)
    server.script = [Response(503, b"")] * 3
    assert "繁忙" in refused(client).message


def test_retry_after_is_respected_and_a_long_one_left_to_the_caller(
    client: Client, server: FakeServer, pauses: list[float]
) -> None:
    server.script = [Response(429, b"", retry_after="4")]
    client.open()
    assert len(pauses) == 1
    assert 4 < pauses.pop() <= 4.5
    server.script = [Response(429, b"", retry_after="60")]
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    assert caught.value.retry_after == 60
    assert (len(server.requests), pauses) == (3, [])


@for_each("header", [None, "", "soon", "-1", "1.5", "Fri, 31 Dec 1999 23:59:59 GMT", "9" * 99])
def test_an_invalid_retry_after_is_ignored(header: str | None, client: Client, server: FakeServer) -> None:
    server.requests.clear()
    server.script = [Response(503, b"", retry_after=header)] * 3
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    assert caught.value.retry_after is None
    assert len(server.requests) == 3


@for_each(
    "ending, error",
    [
        (Response(500, b""), ServerUnreachable),
        (Response(504, b""), ServerUnreachable),
        (ServerUnreachable("no answer within 10 seconds"), ServerUnreachable),
        (Response(200, b"<html>"), UntrustedAnswer),
    ],
)
def test_a_permanent_failure_is_not_retried(
    ending: Response | Exception, error: type[KadunError], client: Client, server: FakeServer
) -> None:
    server.requests.clear()
    server.script = [ending]
    refused(client, error)
    assert len(server.requests) == 1


def test_the_answer_to_an_earlier_try_does_not_count_for_the_next(client: Client, server: FakeServer) -> None:
    late: list[Response] = []

    def lose(request: dict[str, Any]) -> ServerUnreachable:
        late.append(server.genuine(request))
        return broken()

    server.script = [lose, lambda _request: late[0]]
    assert "nonce" in refused(client, UntrustedAnswer).detail


@pytest.mark.parametrize("choose", [min, max])
def test_eight_tries_ride_through_the_minute_of_a_move_and_the_default_ends_after_seconds(
    choose: Callable[[float, float], float],
    make_client: MakeClient,
    server: FakeServer,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
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
