"""Licensed files through nginx: the app judges the link, nginx sends the bytes, from the folder or from a bucket."""

from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.downloads import put, sha256
from tests.support.nginx import HSTS, Gateway
from tests.support.nginx_files import CONTENT, NAME, links
from tests.support.service import wait_for
from tests.support.socket_service import SocketService
from tests.support.swift import WRITER

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("bucket")]

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


class Place(NamedTuple):
    """Where the bytes are, and what stands before it."""

    name: str
    service: SocketService
    gateway: Gateway

    def url(self, name: str = NAME) -> str:
        return links(self.gateway, self.service.new_card())[name]


@pytest.fixture(scope="module", params=["folder", "bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "folder":
        found = Place("folder", request.getfixturevalue("service"), request.getfixturevalue("gateway"))
    else:
        services, gateways = (request.getfixturevalue(name) for name in ("replicas", "bucket_gateways"))
        found = Place("bucket", services[0], gateways[0])
    put(found.service, NAME, CONTENT)
    return found


def require_part(gateway: Gateway, url: str, headers: dict[str, str], status: int, part: slice) -> None:
    """Assert that a request for CONTENT brings this part of it."""
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


def test_bytes_that_nginx_does_not_find_are_a_problem(
    make_gateway: GatewayMaker, service: SocketService, tmp_path: Path
) -> None:
    put(service, NAME, CONTENT)
    gateway = make_gateway(service.socket, KADUN_FILES=str(tmp_path / "empty"))
    answer = gateway.ask("GET", links(gateway, service.new_card())[NAME])
    answer.require_problem(404, "NOT_FOUND")
    assert "etag" not in answer.headers
