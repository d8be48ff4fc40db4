"""What a hostile bucket could have nginx do: nothing but pass its bytes on."""

import socketserver
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.bucket_host import NameServer, Quiet, TlsFront, serving
from tests.support.nginx import Gateway
from tests.support.pki import Issued

BYTES = b"the bytes of the object"
ORDERS = {
    "X-Accel-Redirect": "/_kadun_files/another",
    "X-Accel-Buffering": "yes",
    "X-Accel-Limit-Rate": "1000000",
    "X-Accel-Charset": "utf-7",
    "X-Accel-Expires": "3600",
    "Clear-Site-Data": '"*"',
    "Refresh": "0; url=https://elsewhere.example/",
    "Link": "<https://elsewhere.example/x.js>; rel=preload",
    "Location": "https://elsewhere.example/",
    "NEL": '{"report_to": "x", "max_age": 3600}',
    "Report-To": '{"group": "x", "max_age": 3600, "endpoints": [{"url": "https://elsewhere.example/"}]}',
}


class _App(Quiet, BaseHTTPRequestHandler):
    """Has judged the link."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("X-Accel-Redirect", "/_kadun_bucket/licensed-files/files/x?signature=x")
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", "0")
        self.end_headers()


class _Bucket(Quiet, BaseHTTPRequestHandler):
    """Orders nginx about."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        for name, value in ORDERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(BYTES)))
        self.end_headers()
        self.wfile.write(BYTES)


@pytest.fixture
def gateway(make_gateway: GatewayMaker, tmp_path: Path) -> Iterator[Gateway]:
    authority, socket = Issued.make("Bucket authority", authority=True), tmp_path / "app.sock"
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "another").write_bytes(b"another file")
    app, bucket = socketserver.UnixStreamServer(str(socket), _App), HTTPServer(("127.0.0.1", 0), _Bucket)
    with (
        serving(app),
        serving(bucket),
        TlsFront(tmp_path, Issued.make("localhost", issuer=authority), bucket.server_port) as front,
        NameServer() as names,
    ):
        yield make_gateway(
            socket,
            KADUN_FILES_BUCKET="licensed-files",
            KADUN_FILES_BUCKET_ENDPOINT=f"https://localhost:{front.port}",
            KADUN_FILES_BUCKET_STYLE="path",
            KADUN_FILES_BUCKET_CA=str(tmp_path / "ca.pem"),
            KADUN_RESOLVER=names.address,
        )


def test_nginx_takes_no_orders_from_the_bucket(gateway: Gateway) -> None:
    answer = gateway.ask("GET", "/v1/files/x?token=x")
    assert (answer.status, answer.body) == (200, BYTES)
    assert not {name.lower() for name in ORDERS} & set(answer.headers)


@pytest.mark.parametrize("status", [300, 402, 406, 410, 451, 498, 507, 599])
def test_no_error_of_the_bucket_reaches_a_client(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(_Bucket, "status", status)
    gateway.ask("GET", "/v1/files/x?token=x").require_problem(503, "UNAVAILABLE")
