"""Seals the journal, so that a later change by a person who can write to the database shows (docs/adr/0009).

A seal is a signed token (JWS, `typ` `seal+jwt`) over the digests of the entries since the last one, and over that one.
The digests stay when entries are pruned, so the chain stays verifiable.
"""

import hashlib
import json
import logging
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from app.clock import Clock
from app.domain.codes import EventKind
from app.domain.texts import Text
from app.storage import journal, journal_seals
from app.storage.database import Database
from app.storage.models import JournalSeal
from app.tokens.signer import SEAL_AUDIENCE, Signer

MAX_ENTRIES = 5_000
"""How many entries one seal covers at most."""
WAIT_SECONDS = 5.0
"""How long sealing waits for the transactions that are writing; after that the next minute tries again."""
SEALED_WITHIN = timedelta(minutes=10)
"""How old an entry without a seal may be. With older ones sealing has stopped: it is tried every minute."""
_FORM = 1
_HEAD = struct.Struct(">QqB")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POLL_SECONDS = 0.05
logger = logging.getLogger(__name__)


class Digest(NamedTuple):
    """What a seal keeps of an entry: its ID, time (µs since 1970), kind, and the SHA-256 of all its columns."""

    event: int
    at: int
    kind: str
    sha256: bytes


@dataclass(slots=True)
class Checked:
    """What `verify` found: how many seals and entries are good, how many entries were pruned and how many have no seal.

    `last_seal` is the SHA-256 of the last good seal's token, to be compared with the log or a backup. `fault` says what
    was found wrong first, None if nothing.
    """

    seals: int = 0
    entries: int = 0
    pruned: int = 0
    unsealed: int = 0
    last_seal: str | None = None
    fault: Text | None = None


_END: tuple[bool, Digest | None] = (False, None)


class _TamperedError(Exception):
    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.text = Text(zh, en)


def overdue_since(now: datetime) -> datetime | None:
    """Return the time of the oldest entry that should have a seal by now, None if there is none."""
    oldest = journal_seals.oldest_unsealed(now, SEALED_WITHIN)
    return oldest if oldest is not None and oldest < now - SEALED_WITHIN else None


@dataclass(frozen=True, slots=True)
class JournalSeals:
    """Seals and verifies the journal of one database."""

    database: Database
    signer: Signer
    keep: timedelta
    clock: Clock

    def seal(self) -> int:
        """Seal all entries that are there; return how many. Only one process seals at a time.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        total = 0
        while sealed := self.database.with_connection(self._seal_some):
            total += sealed
        return total

    def overdue_since(self) -> datetime | None:
        """Return the time of the oldest entry that should have a seal by now, None if there is none.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        return self.database.with_connection(lambda: overdue_since(self.clock()))

    def prunable_before(self, now: datetime) -> datetime:
        """Return up to when entries may be pruned: what is older than `keep`, and than the last seal allows.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        last = self.database.with_connection(journal_seals.last)
        with suppress(_TamperedError):
            if last is not None:
                allowed = _EPOCH + timedelta(microseconds=self._claims(last)["prunable_before"])
                return min(now - self.keep, allowed)
        return now - self.keep

    def _seal_some(self) -> int:
        with self.database.atomic():
            if not journal_seals.begin_alone(self.database):
                return 0
            highest, last = journal.highest_event(), journal_seals.last()
            sealed = 0 if last is None else last.last_event
            if highest <= sealed or not self._wait_for_writers():
                return 0
            digests = [digest(row) for row in journal_seals.to_be_sealed(sealed + 1, highest, MAX_ENTRIES)]
            if not digests:
                return 0
            self._write(last, digests)
        return len(digests)

    def _wait_for_writers(self) -> bool:
        """Wait until the transactions have ended that may have drawn lower IDs than the highest that is visible."""
        waited_for, deadline = journal_seals.writers(self.database), time.monotonic() + WAIT_SECONDS
        while waited_for & journal_seals.writers(self.database):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _write(self, last: JournalSeal | None, digests: list[Digest]) -> None:
        now, packed = self.clock(), b"".join(map(_pack, digests))
        limit = _microseconds(now - self.keep)
        with suppress(_TamperedError):  # `verify` tells; the chain goes on
            limit = limit if last is None else max(limit, self._claims(last)["prunable_before"])
        number = 1 if last is None else last.number + 1
        token = self.signer.sign_seal(
            {
                "aud": SEAL_AUDIENCE,
                "iat": int(now.timestamp()),
                "number": number,
                "previous": None if last is None else _sha256(last.token.encode()),
                "last_event": digests[-1].event,
                "sha256": _sha256(packed),
                "prunable_before": limit,
            }
        )
        journal_seals.insert(number, digests[-1].event, packed, token, now)
        logger.info("journal sealed", extra={"seal": number, "sha256": _sha256(token.encode())})

    def verify(self) -> Checked:
        """Read the whole chain and the whole journal, and return what was found.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        return self.database.with_connection(self._verify)

    def _verify(self) -> Checked:
        found, last = Checked(), journal_seals.last()
        try:
            if last is None:
                found.unsealed = journal.count_after(0)
                return found
            found.unsealed = journal.count_after(last.last_event)
            limit = self._claims(last)["prunable_before"]
            rows = ((is_probe, digest(row)) for is_probe, row in journal_seals.all_entries(last.last_event))
            _compare(self._opened_seals(), rows, limit, found)
        except _TamperedError as error:
            found.fault = error.text
        return found

    def _opened_seals(self) -> Iterator[tuple[str, Iterator[Digest]]]:
        """Yield the SHA-256 of each seal's token, and its digests."""
        previous: JournalSeal | None = None
        for seal in journal_seals.seals():
            claims, packed = self._claims(seal), bytes(seal.digests)
            expected = {
                "number": seal.number,
                "previous": None if previous is None else _sha256(previous.token.encode()),
                "last_event": seal.last_event,
                "sha256": _sha256(packed),
            }
            wrong = [name for name, value in expected.items() if claims.get(name) != value]
            if seal.number != (1 if previous is None else previous.number + 1):
                wrong.append("number")
            if wrong:
                raise _bad_seal(seal, f"{wrong[0]} differs")
            yield _sha256(seal.token.encode()), _unpack(packed)
            previous = seal

    def _claims(self, seal: JournalSeal) -> dict[str, Any]:
        try:
            return self.signer.verify_seal(seal.token)
        except ValueError as error:
            raise _bad_seal(seal, str(error)) from error


def _compare(
    seals: Iterator[tuple[str, Iterator[Digest]]], rows: Iterator[tuple[bool, Digest]], limit: int, found: Checked
) -> None:
    """Count into `found` while seals and entries, each with whether it is a probe, agree.

    Raises:
        _TamperedError: they do not.
    """
    is_probe, row = next(rows, _END)
    for seal_sha256, digests in seals:
        for expected in digests:
            while row is not None and row.event < expected.event:
                if not is_probe:
                    raise _inserted(row)
                is_probe, row = next(rows, _END)
            if row is None or row.event > expected.event:
                if expected.kind not in _PRUNED or expected.at >= limit:
                    raise _TamperedError(f"日志条目 {expected.event} 被删除", f"entry {expected.event} was removed")
                found.pruned += 1
                continue
            if row != expected:
                raise _TamperedError(f"日志条目 {row.event} 被修改", f"entry {row.event} was changed")
            found.entries += 1
            is_probe, row = next(rows, _END)
        found.seals, found.last_seal = found.seals + 1, seal_sha256
    while row is not None:
        if not is_probe:
            raise _inserted(row)
        is_probe, row = next(rows, _END)


def _inserted(row: Digest) -> _TamperedError:
    return _TamperedError(f"日志条目 {row.event} 是后来插入的", f"entry {row.event} was inserted")


def _bad_seal(seal: JournalSeal, reason: str) -> _TamperedError:
    return _TamperedError(f"第 {seal.number} 个封印无效（{reason}）", f"seal {seal.number} is not valid: {reason}")


def digest(row: tuple[object, ...]) -> Digest:
    """Return the digest of an entry by its `journal_seals.SEALED` columns."""
    event, at, kind, code, *others = row
    if not isinstance(at, datetime):
        raise TypeError("the second column is the time")
    time_ = _microseconds(at)
    form = json.dumps([_FORM, event, time_, kind, code, *others], ensure_ascii=False, sort_keys=True)
    sealed_kind = EventKind.REJECTED if code is not None else kind
    return Digest(int(str(event)), time_, str(sealed_kind), hashlib.sha256(form.encode()).digest())


def _pack(entry: Digest) -> bytes:
    kind = entry.kind.encode()
    return _HEAD.pack(entry.event, entry.at, len(kind)) + kind + entry.sha256


def _unpack(packed: bytes) -> Iterator[Digest]:
    place = 0
    while place < len(packed):
        event, at, length = _HEAD.unpack_from(packed, place)
        place += _HEAD.size
        yield Digest(event, at, packed[place : place + length].decode(), packed[place + length : place + length + 32])
        place += length + 32


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


_PRUNED = frozenset(map(str, journal.PRUNED_KINDS))
