"""Licensed files: `POST /v1/files` offers them, `GET /v1/files/{name}` hands them out."""

from urllib.parse import quote

import falcon

from app.domain.texts import Text
from app.http import ranges, schemas
from app.http.door import Door, client_address, respond
from app.http.problems import Problem, ProblemCode
from app.services.files import FileTransfer
from app.tokens.links import Link, LinkRefusedError

ACCEL_PREFIX = "/_kadun_files/"
"""Where nginx, and nobody else, finds the folder: an internal location of its configuration."""


class OfferResource:
    """`POST /v1/files`."""

    def __init__(self, transfer: FileTransfer, door: Door) -> None:
        self._transfer = transfer
        self._door = door

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Judge the request and answer with the verdict, which lists the files."""
        body = schemas.parse_verify_request(schemas.read_body(request))
        respond(request, response, self._transfer.offer(self._door.question(request, body)))


class DownloadResource:
    """`GET /v1/files/{name}?token=…`."""

    def __init__(self, transfer: FileTransfer, door: Door) -> None:
        self._transfer = transfer
        self._door = door

    def on_get(self, request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Answer with the bytes, or have nginx send them."""
        tokens = request.get_param_as_list("token") or []
        try:
            link = self._transfer.link(tokens[0] if len(tokens) == 1 else "", name)
            if not self._transfer.is_there(link):
                raise falcon.HTTPNotFound
            if request.method == "GET":
                self._transfer.note(link, client_address(request, behind_proxy=self._door.behind_proxy))
        except LinkRefusedError as error:
            request.context.outcome = {"reason": str(error)}
            raise _link_refused() from error
        response.content_type = "application/octet-stream"
        response.set_headers(
            {
                "ETag": _etag(link),
                "Cache-Control": "private, no-store",
                "Content-Disposition": f"attachment; filename*=UTF-8''{quote(link.name)}",
                "X-Content-Type-Options": "nosniff",
            }
        )
        if ranges.is_known(request, _etag(link)):
            response.status = falcon.HTTP_304
        elif self._door.behind_proxy:
            response.set_header("X-Accel-Redirect", ACCEL_PREFIX + link.sha256)
        else:
            self._send(request, response, link)

    on_head = on_get

    def _send(self, request: falcon.Request, response: falcon.Response, link: Link) -> None:
        response.set_header("Accept-Ranges", "bytes")
        try:
            part = ranges.wanted_part(request, link.size, _etag(link))
        except ValueError as error:
            raise _no_such_bytes(link.size) from error
        start, length = part or (0, link.size)
        if part is not None:
            response.status = falcon.HTTP_206
            response.set_header("Content-Range", f"bytes {start}-{start + length - 1}/{link.size}")
        response.content_length = length
        if request.method == "GET":
            source = self._transfer.open(link)
            source.seek(start)
            response.stream = source  # gunicorn has the kernel send it, and closes it


def _etag(link: Link) -> str:
    return f'"{link.sha256}"'


def _link_refused() -> Problem:
    detail = Text(
        "下载链接无效或已过期，请重新获取。", "The download link is invalid or has expired: ask for a new one."
    )
    return Problem(falcon.HTTP_403, ProblemCode.LINK_REFUSED, detail)


def _no_such_bytes(size: int) -> Problem:
    detail = Text("文件没有所请求的字节。", "The file has no such bytes.")
    headers = {"Content-Range": f"bytes */{size}"}
    return Problem(falcon.HTTP_416, ProblemCode.INVALID_REQUEST, detail, headers=headers)
