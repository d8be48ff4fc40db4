"""Licensed files in a bucket: the app judges the link and the range, nginx fetches the bytes from the bucket."""

import secrets
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import obstore
import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.bucket_host import NameServer, Quiet, TlsFront, serving
from tests.support.downloads import put, sha256
from tests.support.http_exchange import Response, quiet_port
from tests.support.nginx import JSON, Gateway
from tests.support.nginx_files import CONTENT, NAME, links
from tests.support.pki import Issued
from tests.support.socket_service import SocketService, body
from tests.support.swift import BUCKET, Swift

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("bucket")]


@pytest.fixture(scope="module")
def service(replicas: list[SocketService]) -> SocketService:
    return replicas[0]


@pytest.fixture(scope="module")
def gateway(bucket_gateways: list[Gateway]) -> Gateway:
    return bucket_gateways[0]


@pytest.fixture(scope="module")
def card(service: SocketService) -> str:
    put(service, NAME, CONTENT)
    return service.new_card()


@pytest.fixture
def url(gateway: Gateway, card: str) -> str:
    return links(gateway, card)[NAME]


def test_a_file_added_on_one_replica_is_resumed_on_another(
    bucket_gateways: list[Gateway], replicas: list[SocketService]
) -> None:
    first, second = bucket_gateways
    name, content = "update 1.age", secrets.token_bytes(20_000_000)  # uploaded in parts
    put(replicas[0], name, content)
    card, received = replicas[0].new_card(), bytearray()
    with first.connect() as connection:
        connection.sendall(f"GET {links(first, card)[name]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        while len(received) < 7_000_000:
            received += connection.recv(65_536)
    arrived = bytes(received).partition(b"\r\n\r\n")[2]
    resume = {"Range": f"bytes={len(arrived)}-", "If-Range": f'"{sha256(content)}"'}
    rest = second.ask("GET", links(second, card)[name], headers=resume)
    assert (rest.status, sha256(arrived + rest.body)) == (206, sha256(content))
    put(replicas[1], name, b"version 2")
    assert first.ask("GET", links(first, card)[name]).body == b"version 2"
    replicas[0].cardctl("file", "remove", name)


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
def test_while_the_bucket_is_away_files_are_503_and_verification_goes_on(
    gateway: Gateway, service: SocketService, front: TlsFront, url: str, *, silent: bool
) -> None:
    asked: list[Response] = []
    threads = [threading.Thread(target=lambda: asked.append(gateway.ask("GET", url))) for _ in range(12)]
    cards = [service.new_card() for _ in range(5)]

    def is_verified(card: str) -> bool:
        return gateway.ask("POST", "/v1/verify", body(card, f"pc of {card}"), JSON).status == 200

    with front.away(silent=silent):
        for thread in threads:
            thread.start()
        assert all(map(is_verified, cards))
        still_waiting = [thread for thread in threads if thread.is_alive()]
        for thread in threads:
            thread.join()
        assert len(still_waiting) > 6 or not silent  # the verifications did not wait for them
        assert NAME in links(gateway, service.new_card())
    for answer in asked:
        assert (answer.status, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert int(answer.headers["retry-after"]) > 0
    assert gateway.ask("GET", url).body == CONTENT


def test_a_bucket_that_fails_after_the_app_has_looked_or_shows_a_wrong_certificate_is_unavailable(
    make_gateway: GatewayMaker,
    service: SocketService,
    nginx_settings: dict[str, str],
    url: str,
    tmp_path: Path,
) -> None:
    (tmp_path / "other.pem").write_bytes(Issued.make("Other authority", authority=True).pem)
    endpoint = nginx_settings["KADUN_FILES_BUCKET_ENDPOINT"]
    for wrong in (
        {"KADUN_FILES_BUCKET_ENDPOINT": f"https://localhost:{quiet_port()}"},
        {"KADUN_FILES_BUCKET_CA": str(tmp_path / "other.pem")},
        {"KADUN_FILES_BUCKET_ENDPOINT": endpoint.replace("localhost", "kadun.test")},
    ):
        gateway = make_gateway(service.socket, **nginx_settings | wrong)
        answer = gateway.ask("GET", url)
        answer.require_problem(503, "UNAVAILABLE")
        assert (answer.headers["retry-after"], "etag" in answer.headers) == ("5", False), wrong


def test_a_lost_object_is_no_file_until_it_is_added_again(
    gateway: Gateway, service: SocketService, swift: Swift, card: str
) -> None:
    content = b"the only bytes"
    put(service, "sole", content)
    url = links(gateway, card)["sole"]
    obstore.delete(swift.store(BUCKET), f"files/{sha256(content)}")
    gateway.ask("GET", url).require_problem(404, "NOT_FOUND")
    put(service, "sole", content)
    assert gateway.ask("GET", url).body == content
    service.cardctl("file", "remove", "sole")


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
def commanded(make_gateway: GatewayMaker, tmp_path: Path, authority: Issued, names: NameServer) -> Iterator[Gateway]:
    socket = tmp_path / "app.sock"
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "another").write_bytes(b"another file")
    app, bucket = socketserver.UnixStreamServer(str(socket), _App), HTTPServer(("127.0.0.1", 0), _Bucket)
    with (
        serving(app),
        serving(bucket),
        TlsFront(tmp_path, Issued.make("localhost", issuer=authority), bucket.server_port) as front,
    ):
        yield make_gateway(
            socket,
            KADUN_FILES_BUCKET="licensed-files",
            KADUN_FILES_BUCKET_ENDPOINT=f"https://localhost:{front.port}",
            KADUN_FILES_BUCKET_STYLE="path",
            KADUN_FILES_BUCKET_CA=str(tmp_path / "ca.pem"),
            KADUN_RESOLVER=names.address,
        )


def test_nginx_takes_no_orders_from_the_bucket_and_none_of_its_errors_reaches_a_client(
    commanded: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = commanded.ask("GET", "/v1/files/x?token=x")
    assert (answer.status, answer.body) == (200, BYTES)
    assert not {name.lower() for name in ORDERS} & set(answer.headers)
    for status in (300, 402, 406, 410, 451, 498, 507, 599):
        monkeypatch.setattr(_Bucket, "status", status)
        commanded.ask("GET", "/v1/files/x?token=x").require_problem(503, "UNAVAILABLE")
