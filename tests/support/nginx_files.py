"""What clients of nginx may expect of a licensed file, wherever its bytes are: in the folder or in a bucket."""

import json
from urllib.parse import quote

import jwt
import kadun

from tests.support.downloads import DOWNLOAD, sha256
from tests.support.nginx import HSTS, Gateway
from tests.support.service import question
from tests.support.socket_service import SocketService

JSON = {"Content-Type": "application/json"}
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


class BrokenOffError(Exception):
    """The customer pulls the plug."""


def links(gateway: Gateway, card: str) -> dict[str, str]:
    """Return the addresses of the files that are offered, by name."""
    body = json.dumps(question(card, f"pc of {card}", DOWNLOAD)).encode()
    answer = gateway.ask("POST", "/v1/files", body, JSON)
    claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return {entry["name"]: entry["url"] for entry in claims["files"]}


def client(gateway: Gateway, service: SocketService, card: str) -> kadun.Client:
    """Return a customer's client of a service behind a gateway."""
    return kadun.Client(
        f"https://localhost:{gateway.https_port}",
        public_keys=json.loads(service.cardctl("key", "export").stdout),
        card_id=card,
        hardware=f"pc of {card}",
        ca_file=gateway.certificates / "fullchain.pem",
        state_dir=None,
    )


def require_part(gateway: Gateway, url: str, headers: dict[str, str], status: int, part: slice) -> None:
    """Assert that a request for CONTENT brings this part of it."""
    answer = gateway.ask("GET", url, headers=headers)
    assert (answer.status, answer.body, answer.headers["etag"]) == (status, CONTENT[part], ETAG)
    if status == 206:
        first = range(len(CONTENT))[part][0]
        expected = f"bytes {first}-{first + len(answer.body) - 1}/{len(CONTENT)}"
        assert answer.headers["content-range"] == expected


def require_no_such_bytes(gateway: Gateway, url: str) -> None:
    """Assert that requests for parts that do not exist are problems that say how many bytes there are."""
    for part in (f"{len(CONTENT)}-", "5-4", "-0"):
        answer = gateway.ask("GET", url, headers={"Range": f"bytes={part}"})
        assert (answer.status, answer.json()["code"]) == (416, "INVALID_REQUEST")
        assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"
