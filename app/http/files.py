"""Licensed files: `POST /v1/files` offers links, `GET /v1/files/{name}` sends the bytes."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, TypeVar
from urllib.parse import quote

import falcon

from app.domain.files.files import Blob
from app.domain.texts import Text
from app.http.problems import Problem, ProblemCode, client_blocked
from app.http.request_parser import RequestParser, client_address
from app.http.verdicts import respond
from app.services.files.files import FileTransfer
from app.services.licence.vendor_rules import ClientBlockedError
from app.tokens.links import Link, LinkRefusedError

ACCEL_PREFIX = "/_kadun_files/"
"""The internal location of nginx's configuration that serves the folder of the bytes."""
BUCKET_PREFIX = "/_kadun_bucket/"
"""The internal location that fetches bytes from the bucket."""
RANGE_HEADER = "X-Kadun-Range"
"""Tells nginx which bytes to fetch from the bucket: the app has judged the client's conditions by its own ETag."""
_PIECE_BYTES = 64 * 1024
_RANGE = re.compile(r"bytes=(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))", re.IGNORECASE)
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class OfferResource:
    """`POST /v1/files`."""

    transfer: FileTransfer
    parser: RequestParser

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        respond(request, response, self.transfer.offer(self.parser.verify_request(request, may_be_old=True)))


@dataclass(frozen=True, slots=True)
class DownloadResource:
    """`GET /v1/files/{name}?token=…`; behind the proxy nginx sends the bytes."""

    transfer: FileTransfer
    parser: RequestParser

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        link, card_id = self._authorise(request, name)
        if self.parser.behind_proxy:
            self._have_nginx_send(request, response, link, card_id)
        else:
            self._send(request, response, link, card_id)

    def _have_nginx_send(self, request: falcon.Request, response: falcon.Response, link: Link, card_id: str) -> None:
        signed_path = _found(self.transfer.blobs.locate, link)
        known = is_known(request, _etag(link))
        part = _wanted_part(request, link) if signed_path and not known else None
        self._journal(request, link, card_id, known=known)
        _describe(response, link)
        if known:
            response.status = falcon.HTTP_304
        elif signed_path is None:
            response.set_header("X-Accel-Redirect", ACCEL_PREFIX + link.sha256)
        elif request.method != "GET":
            _describe_part(response, link, part)  # the signature is for GET alone
        else:
            response.set_header("Accept-Ranges", "bytes")
            response.set_header("X-Accel-Redirect", BUCKET_PREFIX + signed_path)
            if part is not None:
                response.set_header(RANGE_HEADER, f"bytes={part[0]}-{part[-1]}")

    def _send(self, request: falcon.Request, response: falcon.Response, link: Link, card_id: str) -> None:
        with ExitStack() as held:
            # Waiting for a bucket holds up the whole process; behind the proxy nginx waits.
            source = held.enter_context(_found(self.transfer.blobs.open, link))
            known = is_known(request, _etag(link))
            part = None if known else _wanted_part(request, link)
            self._journal(request, link, card_id, known=known)
            _describe(response, link)
            if known:
                response.status = falcon.HTTP_304
                return
            start, length = _describe_part(response, link, part)
            if request.method == "GET":
                source.seek(start)
                response.stream = _pieces(source, length, held.pop_all())
                next(response.stream)  # from here on its end closes what is held

    on_head = on_get

    def _authorise(self, request: falcon.Request, name: str) -> tuple[Link, str]:
        tokens = request.get_param_as_list("token") or []
        address = client_address(request, behind_proxy=self.parser.behind_proxy)
        try:
            return self.transfer.authorise(tokens[0] if len(tokens) == 1 else "", name, address)
        except ClientBlockedError as error:
            raise client_blocked() from error
        except LinkRefusedError as error:
            request.context.outcome = {"reason": str(error)}
            detail = Text(
                "下载链接无效、已过期，或卡密已不可用，请重新获取。",
                "The download link is invalid or has expired, or the card is no longer valid: ask for a new one.",
            )
            raise Problem(ProblemCode.LINK_REFUSED, detail) from error

    def _journal(self, request: falcon.Request, link: Link, card_id: str, *, known: bool) -> None:
        if request.method == "GET" and not known:
            address = client_address(request, behind_proxy=self.parser.behind_proxy)
            self.transfer.journal_download(link, card_id, address)


def _pieces(source: BinaryIO, left: int, held: ExitStack) -> Iterator[bytes]:
    """Yield nothing first, and then a file's bytes; `held` is closed however the sending ends."""
    with held:
        yield b""
        while left:
            piece = source.read(min(_PIECE_BYTES, left))
            if not piece:
                raise OSError("the file is shorter than it was")  # breaks the connection
            left -= len(piece)
            yield piece


def _found(look_up: Callable[[Blob], Found], link: Link) -> Found:
    try:
        return look_up(Blob(link.sha256, link.size))
    except OSError as error:
        raise falcon.HTTPNotFound from error


def _wanted_part(request: falcon.Request, link: Link) -> range | None:
    try:
        return wanted_part(request, link.size, _etag(link))
    except ValueError as error:
        detail = Text("文件没有所请求的字节。", "The file has no such bytes.")
        headers = {"Content-Range": f"bytes */{link.size}"}
        status = falcon.HTTP_416
        raise Problem(ProblemCode.INVALID_REQUEST, detail, headers=headers, status=status) from error


def _describe(response: falcon.Response, link: Link) -> None:
    response.content_type = "application/octet-stream"
    response.set_headers(
        {
            "ETag": _etag(link),
            "Cache-Control": "private, no-store",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(link.name)}",
            "X-Content-Type-Options": "nosniff",
        }
    )


def _describe_part(response: falcon.Response, link: Link, part: range | None) -> tuple[int, int]:
    """Write the headers of the bytes to come; return the first one's offset and their number."""
    response.set_header("Accept-Ranges", "bytes")
    if part is None:
        response.content_length = link.size
        return 0, link.size
    response.status = falcon.HTTP_206
    response.set_header("Content-Range", f"bytes {part[0]}-{part[-1]}/{link.size}")
    response.content_length = len(part)
    return part[0], len(part)


def _etag(link: Link) -> str:
    return f'"{link.sha256}"'


def is_known(request: falcon.Request, etag: str) -> bool:
    """Tell whether the client already has these bytes (`If-None-Match`)."""
    given = request.get_header("IF-NONE-MATCH") or ""
    known = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag in known or known == ["*"]


def wanted_part(request: falcon.Request, size: int, etag: str) -> range | None:
    """Return the offsets of the bytes to send of `size`, None for all of them.

    All bytes are always a valid answer: they are sent for an unclear range, for several ranges, and for a range of
    another version (`If-Range`). Raise ValueError where no byte of the part exists.
    """
    match = _RANGE.fullmatch((request.get_header("RANGE") or "").strip())
    if match is None or request.method != "GET" or request.get_header("IF-RANGE", default=etag).strip() != etag:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(size - int(suffix), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if start < end:
        return range(start, end)
    if start == 0:
        return None  # of an empty file
    raise ValueError("no such bytes")
