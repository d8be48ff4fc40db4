"""Proxies of the system: used, and unreachable when they refuse or are invalid; their passwords stay secret."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import pytest
from kadun import ServerUnreachable, UntrustedAnswer
from kadun.transport import HttpTransport

from tests.support.client.local_http import Handler, forged, serving
from tests.support.client.raw_responses import send
from tests.support.pki import Issued
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.client.customer_machine import MakeClient
    from tests.support.client.fake_server import FakeServer

    Refused = Callable[[str, str], Any]

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.fixture(autouse=True)
def _use_proxies(_no_proxy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY")


@pytest.fixture
def refused_through(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """The error of an opening through a proxy of the system."""

    def refused_through(proxy: str, base_url: str) -> Any:
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
    with serving(forged(server)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert make_client(transport=HttpTransport("http://card.invalid")).open().accepted
    assert [path for _method, path, _headers, _body in proxy.seen] == ["http://card.invalid/v1/verify"]


@for_each(
    "scheme, answer",
    [
        ("http", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>"),
        ("https", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n<html>"),
        ("https", b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
        ("https", ESTABLISHED + b"no TLS here"),
        ("https", b""),
    ],
)
def test_a_proxy_that_refuses_is_unreachable_or_untrusted(scheme: str, answer: bytes, refused_through: Refused) -> None:
    with serving(send(answer)) as proxy:
        refused_through(proxy.url, f"{scheme}://card.invalid")


def test_a_tunnel_that_closes_during_the_tls_handshake_is_tried_again(
    refused_through: Refused,
) -> None:
    def respond(handler: Handler, _body: bytes) -> None:
        handler.wfile.write(ESTABLISHED)
        handler.connection.recv(100_000)

    with serving(respond) as proxy:
        assert "EOF" in refused_through(proxy.url, "https://card.invalid").detail
    assert len(proxy.seen) == 3


def test_a_proxy_whose_certificate_is_not_trusted_is_asked_once(
    refused_through: Refused, server: FakeServer, tmp_path: Path
) -> None:
    issued = Issued.make("127.0.0.1")
    certificate = tmp_path / "proxy.pem"
    certificate.write_bytes(issued.pem + issued.key_bytes())
    with serving(forged(server), certificate=certificate) as proxy:
        error = refused_through(proxy.url, "https://card.invalid")
    assert "CERTIFICATE_VERIFY_FAILED" in error.detail
    assert (error.passing, error.sent) == (False, True)
    assert proxy.seen == []


@for_each(
    "proxy",
    [
        "http://127.0.0.1:1",
        "socks5://127.0.0.1:1",
        "nonsense://x",
        "http://",
        "::::",
        "http://user:hush-hush@[",
        "http://user:hush-hush",
        "http://user:hush-hush@:x",
    ],
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
