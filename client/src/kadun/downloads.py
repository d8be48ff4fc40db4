"""Downloads of the vendor's files (docs/protocol.md, "Files"): offered in a signed verdict, fetched and verified."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Callable

from kadun.asking import Asker
from kadun.errors import DownloadFailed, ServerUnreachable, UntrustedAnswer
from kadun.partial_file import Offer, PartialFile, sha256_of
from kadun.responses import Response, error_for
from kadun.transport import Stream
from kadun.verdict import Verdict

_FUNCTION = "文件下载"  # the function in the server's records
Progress = Callable[[int, int], object]

# A path on the same server: one slash at the start, not two, and no character that some parser treats as a slash.
_PATH = re.compile(r"/(?!/)[!-~]{0,4095}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_LENGTH = re.compile(r"\d{1,19}")
_WHOLE, _PART, _NO_SUCH_RANGE = 200, 206, 416
_LINK_REFUSED = frozenset({403, 404})
_PROGRESS_BYTES = 64 * 1024  # a try that received this much made progress
_USELESS_LINKS = 2
_MAX_RECEIVED = 4  # times the file's size


def offered(verdict: Verdict, name: str) -> Offer:
    """Return the file with this name from the files that a verdict offers."""
    found = [
        entry for entry in verdict.claims.of("files", list) if isinstance(entry, dict) and entry.get("name") == name
    ]
    if not found:
        raise DownloadFailed("missing", name, verdict.reference)
    entry = found[0]
    size, sha256, url = entry.get("size"), entry.get("sha256"), entry.get("url")
    if len(found) > 1 or isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise UntrustedAnswer("claim files names a file twice or without its size")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise UntrustedAnswer("claim files names a file without its SHA-256")
    if not isinstance(url, str) or not _PATH.fullmatch(url) or "\\" in url or "#" in url:
        raise UntrustedAnswer("claim files contains an address that is not a path on the same server")
    return Offer(name, size, sha256, url, verdict.reference)


class Downloader:
    """Downloads a file to a target, with retries and resumption."""

    def __init__(self, asker: Asker, machine: Callable[[], str], on_progress: Progress | None) -> None:
        self._asker = asker
        self._machine = machine
        self._on_progress = on_progress or (lambda _done, _total: None)
        self._received = 0

    def fetch(self, name: str, target: str | os.PathLike[str]) -> Path:
        """Download the file, unless the target is identical already; see `Client.download`."""
        place = Path(os.path.realpath(target))  # keeps a symbolic link
        if place.is_dir():
            raise ValueError(f"target {target} is a folder; name a file in it")
        useless_links = 0
        while useless_links < _USELESS_LINKS:  # an expired link is replaced, but a new one must work
            offer = offered(self._asker.ask(_FUNCTION, self._machine(), path="/v1/files"), name)
            if _is_there(offer, place):
                self._on_progress(offer.size, offer.size)
                return place
            with PartialFile(place, offer) as partial:
                before = partial.size
                if self._fetched(offer, partial):
                    return place
                useless_links = 0 if partial.size - before >= _PROGRESS_BYTES else useless_links + 1
        raise DownloadFailed("refused", name, offer.reference)

    def _fetched(self, offer: Offer, partial: PartialFile) -> bool:
        # False if the link is refused and another is needed.
        tries_made, damaged = 0, False
        while True:
            before = partial.size
            try:
                if before < offer.size and not self._continued(offer, partial):
                    return False
            except ServerUnreachable as failure:
                tries_made = 1 if partial.size - before >= _PROGRESS_BYTES else tries_made + 1
                self._asker.retry_policy.wait_after(failure, tries_made)
                continue
            if partial.install():
                return True
            if damaged or not before:
                raise DownloadFailed("damaged", offer.name, offer.reference, "its SHA-256 is another")
            damaged = True  # possibly by an earlier try, after a power failure: once more, from the start

    def _continued(self, offer: Offer, partial: PartialFile) -> bool:
        # A link is for one version of the file: that the rest is of the same version needs no ETag.
        headers = {"Range": f"bytes={partial.size}-"} if partial.size else {}
        with self._asker.transport.stream(offer.url, headers) as answer:
            if answer.status in _LINK_REFUSED:
                return False
            if answer.status == _NO_SUCH_RANGE:
                partial.restart()
                raise ServerUnreachable("HTTP 416", passing=True)
            self._check_head(answer, offer, partial)
            for piece in answer.pieces():
                if partial.size + len(piece) > offer.size:
                    raise UntrustedAnswer("more bytes than the file has")
                partial.append(piece)
                self._received += len(piece)
                if self._received > _MAX_RECEIVED * offer.size + _PROGRESS_BYTES:  # a malicious server
                    raise UntrustedAnswer("the file started over again and again")
                self._on_progress(partial.size, offer.size)
        if partial.size < offer.size:
            raise ServerUnreachable("the connection broke off", passing=True)
        return True

    @staticmethod
    def _check_head(answer: Stream, offer: Offer, partial: PartialFile) -> None:
        if answer.status not in (_WHOLE, _PART):
            raise error_for(Response(answer.status, b"", answer.headers.get("Retry-After")), {})
        start = 0 if answer.status == _WHOLE else partial.size
        length = answer.headers.get("Content-Length", "")
        if not _LENGTH.fullmatch(length) or int(length) != offer.size - start:  # a sign-in page, for example
            raise UntrustedAnswer("the answer does not have the length of the file")
        if answer.status == _PART:
            span = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if not span or [int(part) for part in span.groups()] != [start, offer.size - 1, offer.size]:
                raise UntrustedAnswer("the answer does not contain the requested bytes")
            return
        partial.restart()


def _is_there(offer: Offer, place: Path) -> bool:
    with suppress(OSError), place.open("rb") as file:
        return os.fstat(file.fileno()).st_size == offer.size and sha256_of(file) == offer.sha256
    return False  # missing or unreadable: download it
