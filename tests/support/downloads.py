"""Licensed files in tests: added with the command line, offered by the service, fetched by a plain client."""

import hashlib
import http.client
import json
from pathlib import Path
from typing import Any

from tests.support.services import http_exchange
from tests.support.services.service import Response, Service, question

DOWNLOAD = "文件下载"
CONTENT = bytes(range(256)) * 1000
NAME = "数据 v1.bin"


def put(service: Service, name: str, content: bytes, *options: str) -> dict[str, Any]:
    """Add a file; return what `cardctl file add` says of it."""
    source = service.folder / "to-add"
    source.write_bytes(content)
    printed = service.cardctl("file", "add", str(source), "--name", name, "--format", "json", *options)
    (stored,) = json.loads(printed.stdout)
    return dict(stored)


def ask(service: Service, card_id: str, hardware: str = "machine-1", **more: Any) -> Response:
    body = json.dumps(question(card_id, hardware, DOWNLOAD, **more)).encode()
    return service.request("POST", "/v1/files", body, {"Content-Type": "application/json"})


def links(service: Service, card_id: str, **more: Any) -> dict[str, str]:
    return {entry["name"]: entry["url"] for entry in ask(service, card_id, **more).claims["files"]}


def fetch(service: Service, url: str, *, method: str = "GET", **headers: str) -> http_exchange.Response:
    """Ask for an address; underscores in the headers' names stand for dashes."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_exchange.exchange(connection, method, url, None, sent)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blobs(service: Service) -> set[str]:
    folder = Path(service.environment["KADUN_FILES_DIR"])
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def is_problem(answer: http_exchange.Response, status: int, code: str) -> None:
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["code"] == code
