"""Style sheets, scripts and templates of files, held in memory; browsers keep them, since addresses bear digests."""

import hashlib
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".csv": "text/csv; charset=utf-8",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


class StaticFile(NamedTuple):
    """One file."""

    content: bytes
    content_type: str
    digest: str


class StaticFiles(dict[str, StaticFile]):
    """What lies in `static/` and its folder `vendor/`, by name."""

    def __init__(self) -> None:
        for path in sorted(_FOLDER.rglob("*")):
            if path.suffix in _TYPES:
                content = path.read_bytes()
                self[path.name] = StaticFile(content, _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12])

    def url(self, name: str) -> str:
        return f"/admin/static/{name}?v={self[name].digest}"
