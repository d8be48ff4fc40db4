"""Licensed files through nginx: the app judges the link, nginx sends the bytes, from the folder or from a bucket."""

import http.client
import json
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import kadun
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.e2e.conftest import GatewayMaker
from tests.support.downloads import put, sha256
from tests.support.nginx import Gateway
from tests.support.nginx_files import (
    CONDITIONS,
    CONTENT,
    ETAG,
    HEADERS,
    NAME,
    BrokenOffError,
    client,
    links,
    require_no_such_bytes,
    require_part,
)
from tests.support.service import wait_for
from tests.support.socket_service import SocketService
from tests.support.swift import WRITER

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("bucket")]

CANARIES = (b"CANARY in the folder", b"CANARY beside it", b"the other file's")


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


@pytest.fixture(scope="module")
def card(service: SocketService) -> str:
    put(service, NAME, CONTENT)
    return service.new_card()


@pytest.fixture
def url(gateway: Gateway, card: str) -> str:
    return links(gateway, card)[NAME]


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
    require_no_such_bytes(place.gateway, url)


def test_an_empty_file_is_whole_from_its_beginning(place: Place) -> None:
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


def test_http_2_brings_the_same(gateway: Gateway, url: str, tmp_path: Path) -> None:
    gateway.curl(url, "--output", str(tmp_path / "got"), "--range", "1000-")
    assert (tmp_path / "got").read_bytes() == CONTENT[1000:]


def test_a_path_that_nginx_makes_nothing_of_is_no_file(gateway: Gateway) -> None:
    paths = ("..%2f..%2f..%2fetc/passwd", "big.bin%00", "%zz", "x\0y", "../../..")
    for method, path in ((method, path) for method in ("GET", "HEAD") for path in paths):
        with gateway.connect() as connection:
            connection.sendall(f"{method} /v1/files/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            assert (response.status, response.headers["Content-Type"]) == (404, "application/problem+json"), path
            assert method == "HEAD" or json.loads(response.read())["code"] == "NOT_FOUND"


def test_other_malformed_requests_stay_malformed(gateway: Gateway) -> None:
    for line in ("POST /v1/files/..%2f..%2f..%2fx", "GET /v1/..%2f..%2fx", "GET /v1/filesx%00"):
        answer = gateway.ask_raw(f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer.require_problem(400, "INVALID_REQUEST")


def test_a_refused_link_is_the_apps_problem_and_brings_nothing(gateway: Gateway, url: str) -> None:
    for refused in (url.partition("?")[0], url.replace("token=", "token=x"), url[:-4] + "AAAA", url + "x" * 2000):
        answer = gateway.ask("GET", refused)
        assert (answer.status, answer.json()["code"]) == (403, "LINK_REFUSED")
        assert "etag" not in answer.headers


INTERNAL = [
    "/_kadun_files/{}", "/_kadun_files/../_kadun_files/{}", "/%5fkadun_files/{}", "//_kadun_files/{}",
    "/v1/../_kadun_files/{}", "/v1/%2e%2e/_kadun_files/{}", "/_kadun_files/canary.txt", "/_kadun_files/",
    "/_kadun_files", "/_kadun_files/..%2ffiles.txt", "/_KADUN_FILES/{}", "http://x/_kadun_files/{}",
]  # fmt: skip
"""The folder's own location, by the digest of a file."""


def test_nobody_reaches_the_folder_without_the_app(gateway: Gateway, service: SocketService, card: str) -> None:
    (service.folder / "files" / "canary.txt").write_bytes(CANARIES[0])
    (service.folder / "files.txt").write_bytes(CANARIES[1])
    for path in INTERNAL:
        target = path.format(sha256(CONTENT))
        answer = gateway.ask_raw(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer.require_problem(404, "NOT_FOUND")


def test_no_header_of_a_clients_makes_nginx_send_a_file(gateway: Gateway, card: str) -> None:
    headers = {"X-Accel-Redirect": f"/_kadun_files/{sha256(CONTENT)}"}
    for path in ("/readyz", "/v1/files/x", "/v1/nowhere"):
        assert gateway.ask("GET", path, headers=headers).body != CONTENT


def test_bytes_that_nginx_does_not_find_are_a_problem(
    make_gateway: GatewayMaker, service: SocketService, url: str, tmp_path: Path
) -> None:
    gateway = make_gateway(service.socket, KADUN_FILES=str(tmp_path / "empty"))
    answer = gateway.ask("GET", url)
    answer.require_problem(404, "NOT_FOUND")
    assert "etag" not in answer.headers


def test_a_download_under_way_ends_whole_whatever_becomes_of_the_file(gateway: Gateway, service: SocketService) -> None:
    for change in ("replace", "remove"):
        ends_whole_though_meanwhile(change, gateway, service)


def ends_whole_though_meanwhile(change: str, gateway: Gateway, service: SocketService) -> None:
    content = secrets.token_bytes(1024 * 1024) * 48  # more than sockets and buffers hold
    name = f"to {change}"
    put(service, name, content)
    url = links(gateway, service.new_card())[name]
    with gateway.connect() as connection:
        connection.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = bytearray(connection.recv(1000))
        if change == "replace":
            put(service, name, b"version 2")
        else:
            service.cardctl("file", "remove", name)
        assert not (service.folder / "files" / sha256(content)).exists()
        while piece := connection.recv(1024 * 1024):
            got += piece
    assert bytes(got).partition(b"\r\n\r\n")[2] == content
    if change == "replace":
        service.cardctl("file", "remove", name)


@pytest.fixture
def make_client(gateway: Gateway, service: SocketService) -> Callable[[str], kadun.Client]:
    return partial(client, gateway, service)


def test_the_sdk_fetches_a_file_and_resumes_an_interrupted_one(
    gateway: Gateway, service: SocketService, make_client: Callable[[str], kadun.Client], tmp_path: Path
) -> None:
    content = secrets.token_bytes(5_000_000)
    put(service, "update 1.age", content)
    client, target = make_client(service.new_card()), tmp_path / "core.age"

    def pull_the_plug(done: int, _total: int) -> None:
        if done > 2_000_000:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        client.download("update 1.age", target, on_progress=pull_the_plug)
    assert not target.exists()
    arrived = (tmp_path / "core.age.part").stat().st_size
    assert 2_000_000 < arrived < 5_000_000
    assert sha256(client.download("update 1.age", target).read_bytes()) == sha256(content)
    path = "/v1/files/update%201.age"
    wait_for(lambda: len([line for line in gateway.access_log() if line["path"] == path]) == 2)
    broken_off, resumed = (line for line in gateway.access_log() if line["path"] == path)
    assert broken_off["status"] == 200
    assert (resumed["status"], resumed["bytes"]) == (206, 5_000_000 - arrived)
    put(service, "update 1.age", b"version 2")
    assert client.download("update 1.age", target).read_bytes() == b"version 2"


def test_the_sdk_begins_anew_when_the_file_was_replaced_meanwhile(
    service: SocketService, make_client: Callable[[str], kadun.Client], tmp_path: Path
) -> None:
    first, second = (secrets.token_bytes(3_000_000) for _ in range(2))
    put(service, "moving", first)
    client = make_client(service.new_card())

    def replace_it(done: int, _total: int) -> None:
        if done > 1_000_000:
            put(service, "moving", second)
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        client.download("moving", tmp_path / "moving", on_progress=replace_it)
    assert client.download("moving", tmp_path / "moving").read_bytes() == second


PIECES = st.one_of(
    st.sampled_from(
        [
            "..", ".", "/", "//", "\\", "%2e%2e", "%2E", "%2f", "%5c", "%252e%252e", "%252f", "%00", "%0a", "%c0%af",
            "%ff", "．．", "／", "∕", "canary.txt", "files.txt", "_kadun_files/", "v1/files/", "etc/passwd",
            quote(NAME),
            "keys/keyring.json", "other", sha256(CONTENT), sha256(CANARIES[2]), ";", "?", "#",
        ]
    ),
    st.text(max_size=5),
)  # fmt: skip


@pytest.fixture(scope="module")
def tokens(gateway: Gateway, service: SocketService, card: str) -> dict[str, str]:
    """Secrets round about the file, and tokens by name."""
    (service.folder / "files" / "canary.txt").write_bytes(CANARIES[0])
    (service.folder / "files.txt").write_bytes(CANARIES[1])
    put(service, "other", CANARIES[2])
    good = links(gateway, card)[NAME].partition("token=")[2]
    return {"good": good, "forged": good[:-20] + "A" * 20, "none": ""}


@example(pieces=[quote(NAME)], kind="good")
@given(pieces=st.lists(PIECES, max_size=8), kind=st.sampled_from(["good", "forged", "none"]))
def test_whatever_is_asked_for_nothing_but_the_links_own_file_is_served(
    gateway: Gateway, tokens: dict[str, str], pieces: list[str], kind: str
) -> None:
    path = quote("/v1/files/" + "".join(pieces), safe="/%\\;?#")
    head = f"GET {path}?token={tokens[kind]} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = gateway.ask_raw(head.encode())
    if answer.status == 200 and b"<title>" not in answer.body:  # enough ".." lead to the front page
        assert (kind, answer.body) == ("good", CONTENT)
    assert answer.status in (200, 403, 404)
    assert not [canary for canary in (*CANARIES, b"root:", b"private") if canary in answer.body]
