"""Operators' changes of licensed files. Each is atomic: clients get the old version or the new one."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any, Self

import peewee
from peewee import fn

from app.domain.codes import EventKind
from app.domain.errors import BucketUnavailableError, UnavailableError
from app.domain.files.files import Blob, check_name
from app.domain.operators.operators import Role
from app.domain.programs import MAIN, named
from app.domain.texts import RefusedError, Text, check_text
from app.runtime.clock import Clock
from app.runtime.settings import Settings
from app.services.programs import find
from app.storage import journal
from app.storage.blobs import Blobs, Received
from app.storage.cards import has_batch, of_batch
from app.storage.database import Database
from app.storage.models import Card, File, FileBatch, Operator

MAX_FILES = 250
"""Clients read at most 1 MiB of a verdict, which lists so many files with the longest names."""
_LOCK = 0x6B6164756E66  # "kadunf"
Warn = Callable[[Text], None]


@dataclass(frozen=True, slots=True)
class FileStore:
    """Changes a program's files as `actor`; `warn` gets what the operator should know of a change that was made.

    Raise ProgramNotFoundError where there is no such program.
    """

    database: Database
    blobs: Blobs
    actor: str
    clock: Clock
    warn: Warn
    program: str = MAIN

    @classmethod
    def of_installation(  # noqa: PLR0913  # the fields
        cls, database: Database, settings: Settings, actor: str, clock: Clock, warn: Warn, program: str = MAIN
    ) -> Self:
        """Return the store of the installation that has these settings."""
        blobs = Blobs(settings.files_dir, settings.files_bucket)
        return cls(database, blobs, actor, clock, warn, program)

    def add(
        self,
        name: str,
        source: IO[bytes],
        *,
        size: int | None = None,
        batches: tuple[str, ...] | None = None,
    ) -> File:
        """Add a file, or replace the file of this name by a new version.

        It is for the cards of `batches`: none means every card, None keeps the present batches. Raise RefusedError if
        the name or a batch is invalid, there are too many files, or the disk has no room; OSError or
        BucketUnavailableError if source, folder or bucket cannot be used.
        """
        check_name(name)
        for batch in batches or ():
            check_text("batch", batch)
        find(self.program)
        self._check_count(name)  # before all the bytes are read
        with self.blobs.receiving(source, size) as received:
            try:
                with self.database.transact():
                    stored, replaced = self._put(name, received, batches)
            except BaseException:
                with suppress(Exception):
                    self._clear([received.blob.sha256])
                raise
        if replaced is not None:
            self._forget([replaced])
        return stored

    def remove(self, names: list[str]) -> None:
        """Remove files, all or none; raise RefusedError if one of the files does not exist."""
        names = list(dict.fromkeys(names))
        with self.database.transact():
            lock_files(self.database)
            found = {row.name: Blob(row.sha256, row.size) for row in File.select().where(self._named(*names))}
            for name in names:
                if name not in found:
                    raise RefusedError(f"文件 {name} 不存在", f"there is no file {name}")
            File.delete().where(self._named(*names)).execute()
            journal.append([self._entry(EventKind.FILE_REMOVED, name, found[name]) for name in names])
        self._forget([found[name].sha256 for name in names])

    def listed(self, program: str | None = MAIN) -> list[File]:
        """Return the files of a program, None for all, by name.

        The bytes of those that are `missing` are gone, None where the bucket is away.
        """
        rows = list(files() if program is None else files().where(File.program == program))
        missing = None
        try:
            missing = self.blobs.missing({Blob(row.sha256, row.size) for row in rows})
        except BucketUnavailableError as error:
            zh, en = error.text
            self.warn(Text(f"无法确认内容是否都在：{zh}", f"the content may be missing or not: {en}"))
        for row in rows:
            row.missing = None if missing is None else Blob(row.sha256, row.size) in missing
        return rows

    def _put(self, name: str, received: Received, batches: tuple[str, ...] | None) -> tuple[File, str | None]:
        """Write a version in the caller's transaction; return it, and the SHA-256 of the bytes that it replaces."""
        blob = received.blob
        lock_files(self.database)
        self._check_count(name)
        before, now = File.get_or_none(self._named(name)), self.clock()
        # Before the commit, so that no row is without its bytes; under the lock, or another command that removes the
        # same bytes might not see the row yet.
        self.blobs.install(received)
        stored = self._write_row(name, blob, now, batches)
        stored.missing = False
        more = {"batches": stored.batches, "replaced": None if before is None else before.sha256}
        journal.append([self._entry(EventKind.FILE_ADDED, name, blob, **more)])
        for batch in stored.batches:
            if not has_batch(batch):
                self.warn(Text(f"还没有卡密属于批次 {batch}", f"no card has the batch {batch} (yet)"))
            if count := _cards_of_sellers(batch):
                self.warn(
                    Text(
                        f"批次 {batch} 中有 {count} 张由销售或店铺发出的卡密，它们也能下载此文件",
                        f"cards of the batch {batch} that sellers or shops issued, which get the file too: {count}",
                    )
                )
        replaced = None if before is None or before.sha256 == blob.sha256 else before.sha256
        return stored, replaced

    def _forget(self, digests: list[str]) -> None:
        """Remove bytes that no file refers to any more, after the commit: until then they are the current version.

        The change is made by then, so a failure is only a warning. Nothing removes such bytes later: a database
        restored from an older backup does not know which files a newer one has, and their bytes would be lost.
        """
        try:
            self._clear(digests)
        except (OSError, UnavailableError, peewee.PeeweeException, KeyboardInterrupt) as error:
            why, left = type(error).__name__, ", ".join(digests)
            self.warn(
                Text(
                    f"更改已生效，但旧内容未删除（{why}）：{left}；file list 不再列出的，可从文件目录或存储桶手动删除",
                    f"the change is made, but old bytes were not removed ({why}): {left}; those that `file list` no "
                    "longer shows may be removed from the files' folder or the bucket by hand",
                )
            )

    def _clear(self, digests: list[str]) -> None:
        with self.database.transact():
            lock_files(self.database)
            for sha256 in digests:
                if not is_wanted(sha256):
                    self.blobs.remove(sha256)

    def _entry(self, kind: EventKind, name: str, blob: Blob, **more: Any) -> journal.Entry:  # noqa: ANN401
        details = {"name": name, "size": blob.size, "sha256": blob.sha256, **more, **named(self.program)}
        return journal.Entry(at=self.clock(), kind=kind, actor=self.actor, details=details)

    def _named(self, *names: str) -> Any:  # noqa: ANN401  # a peewee expression
        return (File.program == self.program) & File.name.in_(names)

    def _check_count(self, name: str) -> None:
        others = File.select().where(File.program == self.program, File.name != name)
        if others.count() >= MAX_FILES:
            raise RefusedError(
                f"最多 {MAX_FILES} 个文件，请先移除一些", f"at most {MAX_FILES} files: remove some first"
            )

    def _write_row(self, name: str, blob: Blob, now: datetime, batches: tuple[str, ...] | None) -> File:
        """Write a file's row, and its batches unless they are None; return it with those that it has now."""
        columns = {File.size: blob.size, File.sha256: blob.sha256, File.added_at: now}
        insert = File.insert({File.program: self.program, File.name: name, **columns})
        insert.on_conflict(conflict_target=[File.program, File.name], update=columns).execute()
        if batches is not None:
            FileBatch.delete().where(FileBatch.program == self.program, FileBatch.file_name == name).execute()
            for batch in sorted(set(batches)):
                FileBatch.insert(program=self.program, file_name=name, batch=batch).execute()
        stored: File = files().where(self._named(name)).get()
        return stored


def lock_files(database: Database) -> None:
    """Exclude other changes of files, rows and bytes, for the rest of the transaction."""
    database.execute_sql("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def files() -> Any:  # noqa: ANN401  # a peewee query
    """Return the query for all files by name, each with its `batches`; without any a file is for every card."""
    batches = FileBatch.select(FileBatch.batch).where(FileBatch.of_file()).order_by(FileBatch.batch)
    return File.select(File, fn.ARRAY(batches).alias("batches")).order_by(File.name, File.program)


def is_wanted(sha256: str) -> bool:
    """Tell whether a file has these bytes."""
    return bool(File.select().where(File.sha256 == sha256).exists())


def _cards_of_sellers(batch: str) -> int:
    """Return how many cards of a batch shops issued, or operators that are no owners."""
    sellers = Operator.select(Operator.id).where(Operator.role != Role.OWNER.value)
    is_theirs = Card.token_id.is_null(is_null=False) | Card.operator_id.in_(sellers)
    return int(Card.select().where((of_batch == batch) & is_theirs).count())
