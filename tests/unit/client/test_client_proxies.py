"""Proxies of the system: used, and unreachable when they refuse or are invalid; their passwords stay secret."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from kadun import Client, ServerUnreachable, UntrustedAnswer
from kadun.transport import HttpTransport

from tests.support.client.local_http import Handler, forged, serving
from tests.support.pki import Issued

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.client.fake_server import FakeServer

MakeClient = Callable[..., Client]


@pytest.fixture(autouse=True)
def _use_proxies(_no_proxy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")


def test_the_systems_proxy_is_used(
    make_client: MakeClient, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(forged(server)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert make_client(transport=HttpTransport("http://card.invalid")).open().accepted
    assert [path for _method, path, _headers, _body in proxy.seen] == ["http://card.invalid/v1/verify"]


@pytest.mark.parametrize(
    ("base_url", "answer"),
    [
        ("http://card.invalid", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>"),
        ("https://card.invalid", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>"),
        ("https://card.invalid", b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
        ("https://card.invalid", b"HTTP/1.1 200 Connection established\r\n\r\nno TLS here"),
        ("https://card.invalid", b""),
    ],
)
def test_a_proxy_that_refuses_is_unreachable_or_untrusted(
    base_url: str, answer: bytes, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda handler, _body: handler.wfile.write(answer)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises((ServerUnreachable, UntrustedAnswer)):
            make_client(transport=HttpTransport(base_url)).open()


ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def test_a_tunnel_that_closes_during_the_tls_handshake_is_tried_again(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(ESTABLISHED)
        handler.connection.recv(100_000)

    with serving(respond) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(ServerUnreachable, match="EOF"):
            make_client(transport=HttpTransport("https://card.invalid")).open()
    assert len(proxy.seen) == 3


def test_a_proxy_whose_certificate_is_not_trusted_is_asked_once(
    make_client: MakeClient, server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issued = Issued.make("127.0.0.1")
    certificate = tmp_path / "proxy.pem"
    certificate.write_bytes(issued.pem + issued.key_bytes())
    with serving(forged(server), certificate=certificate) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(ServerUnreachable, match="CERTIFICATE_VERIFY_FAILED") as caught:
            make_client(transport=HttpTransport("https://card.invalid")).open()
    assert (caught.value.passing, caught.value.sent) == (False, True)
    assert proxy.seen == []


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:1", "socks5://127.0.0.1:1", "nonsense://x", "http://", "::::"])
def test_an_invalid_proxy_is_unreachable(proxy: str, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ServerUnreachable) as caught:
        make_client(transport=HttpTransport("http://card.invalid")).open()
    assert caught.value.detail


@pytest.mark.parametrize("user", ["张三:口令", "张:", "user:口令", "x:\udcff"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxys_user_that_no_header_can_hold_is_unreachable_and_stays_secret(
    scheme: str, user: str, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", f"http://{user}@127.0.0.1:1")
    client = make_client(transport=HttpTransport(f"{scheme}://card.invalid"), state_dir=None)
    for call in (client.open, lambda: client.execute("汇率换算", {})):
        with pytest.raises(ServerUnreachable) as caught:
            call()
        assert (caught.value.passing, caught.value.sent) == (False, False)
        assert not set("张三口令\udcff") & set(str(caught.value.detail))


@pytest.mark.parametrize("proxy", ["http://user:hush-hush@[", "http://user:hush-hush", "http://user:hush-hush@:x"])
def test_no_error_contains_the_password_of_a_proxy(
    proxy: str, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    with pytest.raises(ServerUnreachable) as caught:
        make_client(transport=HttpTransport("http://card.invalid")).open()
    assert "hush" not in "".join(traceback.format_exception(caught.type, caught.value, None))
    assert "hush" not in caught.value.detail
