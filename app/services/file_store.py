"""What operators do to licensed files. Each change is whole: the old version, or the new one."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

import peewee

from app.domain.codes import EventKind
from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.domain.files import check_name
from app.domain.texts import RefusedError, Text, check_text
from app.storage import files, journal
from app.storage.blobs import Blob, Blobs, Received
from app.storage.database import Database

MAX_FILES = 250
"""So many fit into a verdict of 1 MiB, which is all that clients read, whatever their names."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A licensed file: `batches` are those of the cards that it is for, none meaning every card."""

    name: str
    size: int
    sha256: str
    added_at: datetime
    batches: tuple[str, ...]
    missing: bool = False


class FileStore:
    """The operators' actions on files.

    Args:
        database: Where their rows are.
        blobs: The bytes.
        actor: Who acts, as the journal names them.
        clock: Returns the time now, aware.
        warn: Told what the operator should know, although the change is made.
    """

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        actor: str,
        clock: Callable[[], datetime],
        warn: Callable[[Text], None],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._actor = actor
        self._clock = clock
        self._warn = warn

    def add(
        self,
        name: str,
        source: BinaryIO,
        *,
        size: int | None = None,
        batches: tuple[str, ...] | None = None,
        progress: Callable[[int], None] = lambda _bytes: None,
    ) -> StoredFile:
        """Add a file, or put a new version in the place of the one of this name.

        Args:
            name: What clients ask for.
            source: The bytes, read to their end.
            size: How many there are, where that is known.
            batches: The batches of cards that it is for, none meaning every card; None leaves what was said before.
            progress: Called with how many more bytes are in.

        Raises:
            RefusedError: the name, a batch, the number of files or the room on the disk does not allow it.
            OSError: the source or the folder cannot be used.
        """
        check_name(name)
        for batch in batches or ():
            check_text("batch", batch)
        self._database.with_connection(lambda: _check_count(name))  # before all the bytes are read
        with self._blobs.receiving(source, size, progress) as received:
            stored, replaced = self._database.with_connection(lambda: self._put(name, received, batches), once=True)
        if replaced is not None:
            self._forget([replaced])
        return stored

    def remove(self, names: list[str]) -> None:
        """Remove files, all or none.

        Raises:
            RefusedError: there is none of such a name.
        """
        names = list(dict.fromkeys(names))

        def write() -> list[str]:
            with self._database.atomic():
                files.lock(self._database)
                rows = [(name, files.find(name)) for name in names]
                for name, row in rows:
                    if row is None:
                        raise RefusedError(f"文件 {name} 不存在", f"there is no file {name}")
                found = [row for _, row in rows if row is not None]
                files.delete(names)
                journal.append(
                    [self._entry(EventKind.FILE_REMOVED, row.name, Blob(row.sha256, row.size)) for row in found]
                )
                return [row.sha256 for row in found]

        self._forget(self._database.with_connection(write, once=True))

    def listed(self) -> list[StoredFile]:
        """Return all files, by name; `missing` tells that the bytes are not there."""
        return [
            StoredFile(
                name=row.name,
                size=row.size,
                sha256=row.sha256,
                added_at=row.added_at,
                batches=tuple(batches),
                missing=not self._blobs.holds(Blob(row.sha256, row.size)),
            )
            for row, batches in self._database.with_connection(files.listed)
        ]

    def _put(self, name: str, received: Received, batches: tuple[str, ...] | None) -> tuple[StoredFile, str | None]:
        """Write all that belongs to a version; return it, and the SHA-256 of the one that it replaces."""
        blob = received.blob
        with self._database.atomic():
            files.lock(self._database)
            _check_count(name)
            before, now = files.find(name), self._clock()
            # Before the commit, so that no row is without its bytes; under the lock, or another command that
            # removes the same bytes might not see the row yet.
            self._blobs.install(received)
            for_batches = files.put(name, blob, now, batches)
            more = {"batches": for_batches, "replaced": None if before is None else before.sha256}
            journal.append([self._entry(EventKind.FILE_ADDED, name, blob, **more)])
            for batch in files.batches_without_cards(for_batches):
                self._warn(Text(f"还没有卡密属于批次 {batch}", f"no card has the batch {batch} (yet)"))
        replaced = None if before is None or before.sha256 == blob.sha256 else before.sha256
        return StoredFile(name, blob.size, blob.sha256, now, tuple(for_batches)), replaced

    def _forget(self, digests: list[str]) -> None:
        """Remove bytes that no file has any more: after the commit, for until then they are the version that counts.

        The change is made by then, so what prevents this is a warning. Nothing sweeps such bytes up later: a database
        that was restored from an older backup does not know what a newer one wants, and they would be gone for good.
        """

        def clear() -> None:
            with self._database.atomic():
                files.lock(self._database)
                for sha256 in digests:
                    if not files.is_wanted(sha256):
                        self._blobs.remove(sha256)

        try:
            self._database.with_connection(clear)
        except (OSError, ConflictError, DatabaseUnavailableError, peewee.PeeweeException, KeyboardInterrupt) as error:
            why, left = type(error).__name__, ", ".join(digests)
            self._warn(
                Text(
                    f"更改已生效，但旧内容未删除（{why}）：{left}；file list 不再列出的，可从文件目录手动删除",
                    f"the change is made, but old bytes were not removed ({why}): {left}; those that `file list` no "
                    "longer shows may be removed from the files' folder by hand",
                )
            )

    def _entry(self, kind: EventKind, name: str, blob: Blob, **more: Any) -> journal.Entry:  # noqa: ANN401
        details = {"name": name, "size": blob.size, "sha256": blob.sha256, **more}
        return journal.Entry(at=self._clock(), kind=kind, actor=self._actor, details=details)


def _check_count(name: str) -> None:
    if files.find(name) is None and files.count() >= MAX_FILES:
        raise RefusedError(
            f"最多 {MAX_FILES} 个文件，请先移除一些", f"there may be {MAX_FILES} files: remove some first"
        )
