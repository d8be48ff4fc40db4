"""Licensed files through nginx: the app judges the link, nginx sends the bytes, from the folder or from a bucket."""
# Owns files-nginx.

import secrets
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar, NamedTuple
from urllib.parse import quote

import jwt
import obstore
import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.downloads import DOWNLOAD, put, sha256
from tests.support.services.bucket import WRITER, Swift
from tests.support.services.http_exchange import Response, quiet_port
from tests.support.services.nginx import HSTS, JSON, Gateway
from tests.support.services.pki import Issued
from tests.support.services.relays import Quiet, TlsFront, serving
from tests.support.services.service import wait_for
from tests.support.services.socket_service import SocketService, body

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("bucket")]

NAME = "数据 (v1) [α]@a,b=c~d+e.bin"
CONTENT = b"".join(number.to_bytes(4, "big") for number in range(75_000))
ETAG = f'"{sha256(CONTENT)}"'
HEADERS = {
    "etag": ETAG,
    "content-type": "application/octet-stream",
    "content-disposition": f"attachment; filename*=UTF-8''{quote(NAME)}",
    "cache-control": "private, no-store",
    "x-content-type-options": "nosniff",
    "strict-transport-security": HSTS,
    "accept-ranges": "bytes",
}
CONDITIONS = [
    ({"Range": "bytes=10-19"}, 206, slice(10, 20)),
    ({"Range": "bytes=10-", "If-Range": ETAG}, 206, slice(10, None)),
    ({"Range": "bytes=-5"}, 206, slice(-5, None)),
    ({"Range": "bytes=10-", "If-Range": '"other"'}, 200, slice(None)),
    ({"Range": "bytes=10-", "If-Range": "Wed, 21 Oct 2099 07:28:00 GMT"}, 200, slice(None)),
    ({"Range": "bytes=1-2,5-6"}, 200, slice(None)),
    ({"If-None-Match": '"other"'}, 200, slice(None)),
    ({"If-Modified-Since": "Wed, 21 Oct 2099 07:28:00 GMT"}, 200, slice(None)),
    ({"If-None-Match": ETAG}, 304, slice(0)),
]
"""A request's headers, the status, and the part of CONTENT that they bring."""


def links(gateway: Gateway, card: str) -> dict[str, str]:
    answer = gateway.ask("POST", "/v1/files", body(card, f"pc of {card}", function=DOWNLOAD), JSON)
    claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return {entry["name"]: entry["url"] for entry in claims["files"]}


class Place(NamedTuple):
    """Where the bytes are, and what stands before it."""

    name: str
    service: SocketService
    gateway: Gateway

    def url(self, name: str = NAME) -> str:
        return links(self.gateway, self.service.new_card())[name]


@pytest.fixture(scope="module")
def bucket(replicas: list[SocketService], bucket_gateways: list[Gateway]) -> Place:
    put(replicas[0], NAME, CONTENT)
    return Place("bucket", replicas[0], bucket_gateways[0])


@pytest.fixture(scope="module", params=["folder", "bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "bucket":
        found: Place = request.getfixturevalue("bucket")
        return found
    found = Place("folder", request.getfixturevalue("service"), request.getfixturevalue("gateway"))
    put(found.service, NAME, CONTENT)
    return found


def require_part(gateway: Gateway, url: str, headers: dict[str, str], status: int, part: slice) -> None:
    answer = gateway.ask("GET", url, headers=headers)
    assert (answer.status, answer.body, answer.headers["etag"]) == (status, CONTENT[part], ETAG)
    if status == 206:
        first = range(len(CONTENT))[part][0]
        expected = f"bytes {first}-{first + len(answer.body) - 1}/{len(CONTENT)}"
        assert answer.headers["content-range"] == expected


def test_nginx_sends_the_bytes_under_the_apps_headers(place: Place) -> None:
    gateway, url = place.gateway, place.url()
    answer = gateway.ask("GET", url)
    assert (answer.status, answer.body) == (200, CONTENT)
    assert HEADERS.items() <= answer.headers.items()
    more = {"server", "date", "connection", "content-length", "x-request-id"}
    assert set(answer.headers) == set(HEADERS) | more, "nothing of where the bytes are"
    logged = ("GET", answer.headers["x-request-id"])  # nginx writes the line after the answer
    wait_for(lambda: logged in [(line["method"], line["request_id"]) for line in gateway.access_log()])
    head = gateway.ask("HEAD", url)
    assert (head.status, head.body) == (200, b"")
    assert (head.headers["content-length"], head.headers["etag"]) == (str(len(CONTENT)), ETAG)
    assert (list((place.service.folder / "files").glob("[0-9a-f]*")) == []) is (place.name == "bucket")


def test_parts_and_conditions_hold_by_our_etag(place: Place) -> None:
    url = place.url()
    for headers, status, part in CONDITIONS:
        require_part(place.gateway, url, headers, status, part)
    if place.name == "bucket":  # which is not asked with a client's own headers
        foreign = {"Authorization": "Bearer x", "Cookie": "x=y", "X-Amz-Date": "x", "If-Match": '"x"'}
        require_part(place.gateway, url, foreign, 200, slice(None))
    for part in (f"{len(CONTENT)}-", "5-4", "-0"):
        answer = place.gateway.ask("GET", url, headers={"Range": f"bytes={part}"})
        assert (answer.status, answer.json()["code"]) == (416, "INVALID_REQUEST")
        assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
    put(place.service, "empty", b"")
    url = place.url("empty")
    for part in ("0-", "-5"):
        answer = place.gateway.ask("GET", url, headers={"Range": f"bytes={part}"})
        assert (answer.status, answer.headers["content-length"]) == (200, "0")
    place.service.cardctl("file", "remove", "empty")


def test_neither_tokens_nor_signatures_nor_secrets_reach_a_log(place: Place) -> None:
    gateway, url = place.gateway, place.url()
    token = url.partition("token=")[2]
    for changed in (url, url + "x", url.replace("/v1/files/", "/v1/files/x"), f"/_kadun_files/x?token={token}"):
        gateway.ask("GET", changed)
        gateway.ask("GET", changed, headers={"Range": "bytes=999999999-"})
    gateway.ask("GET", f"/last-of-{place.name}")
    gateway.logged(f"/last-of-{place.name}")
    for log in (*gateway.log.iterdir(), place.service.log):
        text = log.read_text()
        assert not [secret for secret in (token, "X-Amz-", WRITER[1]) if secret in text], log


INTERNAL = [
    "/_kadun_files/{}", "/_kadun_files/../_kadun_files/{}", "/%5fkadun_files/{}", "//_kadun_files/{}",
    "/v1/../_kadun_files/{}", "/v1/%2e%2e/_kadun_files/{}", "/_kadun_files/secret.txt", "/_kadun_files/",
    "/_kadun_files", "/_kadun_files/..%2ffiles.txt", "/_KADUN_FILES/{}", "http://x/_kadun_files/{}",
    "/_kadun_bucket/x", "/%5fkadun_bucket/x", "/v1/../_kadun_bucket/x", "/kadun-bucket-away",
]  # fmt: skip
"""nginx's own locations, by the digest of a file."""


def test_nobody_reaches_the_bytes_without_the_app(place: Place) -> None:
    (place.service.folder / "files").mkdir(exist_ok=True)
    for name in ("files/secret.txt", "files.txt"):
        (place.service.folder / name).write_bytes(b"in the folder and beside it")
    for path in INTERNAL:
        target = path.format(sha256(CONTENT))
        answer = place.gateway.ask_raw(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer.require_problem(404, "NOT_FOUND")
    headers = {"X-Accel-Redirect": f"/_kadun_files/{sha256(CONTENT)}"}
    for path in ("/readyz", "/v1/files/x", "/v1/nowhere"):
        assert place.gateway.ask("GET", path, headers=headers).body != CONTENT


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
    bucket: Place, front: TlsFront, *, silent: bool
) -> None:
    gateway, service, url = bucket.gateway, bucket.service, bucket.url()
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
    make_gateway: GatewayMaker, bucket: Place, nginx_settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "other.pem").write_bytes(Issued.make("Other authority", authority=True).pem)
    endpoint = nginx_settings["KADUN_FILES_BUCKET_ENDPOINT"]
    for wrong in (
        {"KADUN_FILES_BUCKET_ENDPOINT": f"https://localhost:{quiet_port()}"},
        {"KADUN_FILES_BUCKET_CA": str(tmp_path / "other.pem")},
        {"KADUN_FILES_BUCKET_ENDPOINT": endpoint.replace("localhost", "kadun.test")},
    ):
        gateway = make_gateway(bucket.service.socket, **nginx_settings | wrong)
        answer = gateway.ask("GET", bucket.url())
        answer.require_problem(503, "UNAVAILABLE")
        assert (answer.headers["retry-after"], "etag" in answer.headers) == ("5", False), wrong


def test_bytes_that_nginx_does_not_find_are_a_problem(
    make_gateway: GatewayMaker, service: SocketService, bucket: Place, swift: Swift, tmp_path: Path
) -> None:
    put(service, NAME, CONTENT)
    gateway = make_gateway(service.socket, KADUN_FILES=str(tmp_path / "empty"))
    answer = gateway.ask("GET", links(gateway, service.new_card())[NAME])
    answer.require_problem(404, "NOT_FOUND")
    assert "etag" not in answer.headers
    content = b"the only bytes"
    put(bucket.service, "sole", content)
    url = bucket.url("sole")
    obstore.delete(swift.store(), f"files/{sha256(content)}")
    bucket.gateway.ask("GET", url).require_problem(404, "NOT_FOUND")
    put(bucket.service, "sole", content)
    assert bucket.gateway.ask("GET", url).body == content, "until they are added again"
    bucket.service.cardctl("file", "remove", "sole")


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

    status = 200
    answer: ClassVar = {"X-Accel-Redirect": "/_kadun_bucket/licensed-files/files/x?signature=x", "ETag": '"x"'}
    content = b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        for name, value in self.answer.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)


class _Bucket(_App):
    """Orders nginx about."""

    answer = ORDERS
    content = b"the bytes of the object"


@pytest.fixture
def commanded(
    make_gateway: GatewayMaker, tmp_path: Path, authority: Issued, nginx_settings: dict[str, str]
) -> Iterator[Gateway]:
    socket = tmp_path / "app.sock"
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "another").write_bytes(b"another file")
    app, bucket = socketserver.UnixStreamServer(str(socket), _App), HTTPServer(("127.0.0.1", 0), _Bucket)
    with (
        serving(app),
        serving(bucket),
        TlsFront(tmp_path, Issued.make("localhost", issuer=authority), bucket.server_port) as front,
    ):
        endpoint = {"KADUN_FILES_BUCKET_ENDPOINT": f"https://localhost:{front.port}"}
        yield make_gateway(socket, **nginx_settings | endpoint)


def test_nginx_takes_no_orders_from_the_bucket_and_none_of_its_errors_reaches_a_client(
    commanded: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = commanded.ask("GET", "/v1/files/x?token=x")
    assert (answer.status, answer.body) == (200, _Bucket.content)
    assert not {name.lower() for name in ORDERS} & set(answer.headers)
    for status in (300, 402, 406, 410, 451, 498, 507, 599):
        monkeypatch.setattr(_Bucket, "status", status)
        commanded.ask("GET", "/v1/files/x?token=x").require_problem(503, "UNAVAILABLE")
