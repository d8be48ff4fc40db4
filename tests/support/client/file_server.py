"""A file server as PROTOCOL section 3 describes it, which can also break connections, stall and send forgeries."""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.client.fake_server import FakeServer, claims_for, verdict_response
from tests.support.client.local_http import Handler, Respond

NAME = "模型.bin"
SIZE = 300_000
CONTENT = hashlib.shake_128(b"a model").digest(SIZE)
Fetch = Callable[..., bytes]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class FileServer:
    """Answers POST with a signed list of its one file, and GET with the bytes; `script` stands before the truth."""

    def __init__(self, fake: FakeServer) -> None:
        self.fake = fake
        self.content = CONTENT
        self.ranges_served = True
        self.changes: dict[str, Any] = {}  # to the entry in the list
        self.script: list[Respond] = []
        self.links_issued = 0
        self.gets: list[tuple[str, dict[str, str]]] = []

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _path, headers in self.gets]

    def entry(self) -> dict[str, Any]:
        url = f"/v1/files/{quote(NAME)}?token=link{self.links_issued}"
        entry = {"name": NAME, "size": len(self.content), "sha256": sha256(self.content), "url": url}
        return {**entry, **self.changes}

    def __call__(self, handler: Handler, body: bytes) -> None:
        if handler.command == "POST":
            self.links_issued += 1
            answer = self.fake.exchange(handler.path, body, handler.headers.get("Accept-Language", ""))
            handler.send(answer.status, answer.body, Content_Type="application/json")
            return
        self.gets.append((handler.path, dict(handler.headers.items())))
        respond = self.script.pop(0) if self.script else self.serve
        respond(handler, body)

    def listing(self, request: dict[str, Any]) -> Any:
        """What the forged server says to a POST; hand it to the fake's script, or let `install` do it."""
        claims = claims_for(request)
        claims["files"] = [{"name": "other.txt", "size": 1, "sha256": "0" * 64, "url": "/o"}, self.entry()]
        self.fake.tweak(claims)
        return verdict_response(self.fake.key.token(claims))

    def serve(self, handler: Handler, _body: bytes = b"", *, sent: int | None = None) -> None:
        """Send what is asked for; only the first `sent` bytes of it, should that be told."""
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(asked.group(1)) if asked and self.ranges_served else 0
        part = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(part)))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        handler.end_headers()
        handler.wfile.write(part[:sent])

    def cut_after(self, sent: int) -> Respond:
        return lambda handler, _body: self.serve(handler, sent=sent)


def refuse(handler: Handler, _body: bytes) -> None:
    handler.send(403, b"{}")


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
