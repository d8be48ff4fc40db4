"""The journal (日志) and the daily counts: append entries, count and limit what clients can write, and prune."""

from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Any

from peewee import SQL, Expression, Value, fn

from app.domain.addresses import SITE_SHARE, neighbourhood_of, network_of, site_of
from app.domain.codes import OF_AN_ENVIRONMENT, Change, Code, EventKind
from app.domain.sharing import Environment, environment_of, gets_an_entry
from app.storage.models import DailyCount, Event, database

MAX_REFUSALS_PER_MINUTE = 20
"""The limit of `REFUSALS`, and of refused log-ins, that are journalled for one address; the metrics count all."""
MAX_REFUSALS_PER_MINUTE_OF_SITE = SITE_SHARE * MAX_REFUSALS_PER_MINUTE
"""The same for an IPv6 /48, which has 65,536 networks that count as addresses."""
_OF_NO_CARD = (Code.CARD_NOT_FOUND, Code.CLIENT_BLOCKED)
STRANGERS = (*_OF_NO_CARD, EventKind.LOGIN_REFUSED)
"""What people without a card write: unknown cards, blocked clients, refused log-ins. The newest `STOCK` are kept."""
STOCK = 500_000
REFUSALS = (*_OF_NO_CARD, Code.CARD_FROZEN, Code.CARD_EXPIRED, Code.CARD_SPENT)
"""Refusals, of which the journal has only the first `MAX_REFUSED_HARDWARE` characters of the hardware, and a digest."""
MAX_REFUSED_HARDWARE = 64
MAX_ENTRIES_PER_DAY = 50
"""The limit of entries in the journal of each counted kind that one card has on one day; all are counted."""
PRUNE_BATCH = 10_000
PRUNED_KINDS = (EventKind.REJECTED, EventKind.FILE_DOWNLOADED, EventKind.LOGIN_REFUSED, EventKind.ENVIRONMENT_CHANGED)
"""Kinds that strangers or normal use write. Operators' changes and activations are never pruned."""
PROBE = "cardctl doctor"
"""The card that `cardctl doctor` sends, to see which address arrives (scripts/lib/hostfacts.py).

It deletes the entry again.
"""
is_probe = (Event.kind == EventKind.REJECTED) & (fn.COALESCE(Event.card_id, "") == PROBE)
"""The condition that an entry is of a probe. Anybody can send one: it says nothing."""
code_or_kind = fn.COALESCE(Event.code, Event.kind)
"""The code of a rejection, the kind of any other entry; the indexes are on this expression."""
hardware_sha256 = fn.COALESCE(
    fn.JSONB_EXTRACT_PATH_TEXT(Event.details, "hardware_sha256"),
    fn.ENCODE(fn.SHA256(fn.CONVERT_TO(Event.hardware, "UTF8")), "hex"),
)
"""The digest of a machine, which is kept in the details where the text was cut."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A new journal entry, by the columns of `Event`; `counted`: what it counts as, None if it is always written."""

    at: datetime
    kind: EventKind
    code: Code | None = None
    card_id: str | None = None
    reference: str | None = None
    ip: str | None = None
    claimed_ip: str | None = None
    hardware: str | None = None
    function: str | None = None
    actor: str | None = None
    details: dict[str, Any] | None = None
    counted: Change | Code | None = None

    def row(self) -> dict[str, Any]:
        """Return the values by column."""
        columns = asdict(self)
        del columns["counted"]
        return {**columns, "ip_network": None if self.ip is None else network_of(self.ip)}


def codes_or_kinds(*kinds: EventKind | Code | None) -> list[str]:
    """Return the values of `code_or_kind` that these kinds and codes have; None stands for all."""
    rejections = [str(code) for code in Code if code is not Code.OK]
    found: list[str] = []
    for kind in kinds:
        if kind is None:
            found += rejections + [str(other) for other in EventKind if other is not EventKind.REJECTED]
        else:
            found += rejections if kind is EventKind.REJECTED else [str(kind)]
    return found


_is_of_strangers = code_or_kind.in_(codes_or_kinds(*STRANGERS))  # as the index event_strangers says


def append(entries: list[Entry]) -> None:
    """Write entries, in the caller's transaction."""
    if entries:
        Event.insert_many([entry.row() for entry in entries]).execute()


def append_counted(entries: list[Entry], day: date) -> int:
    """Count a card's entries, write those within the day's limits, and return how many, in the caller's transaction."""
    kept = [entry for entry in entries if _count(entry, day)]
    append(kept)
    return len(kept)


def _count(entry: Entry, day: date) -> bool:
    """Count an entry where it is to be counted; return whether the journal has it.

    `sharing.gets_an_entry` decides; where no environments are kept, the first `MAX_ENTRIES_PER_DAY` times get one.
    The row stays locked: two requests at once are not two entries of one environment.
    """
    if entry.counted is None:
        return True
    environment = environment_of(entry.hardware, entry.ip) if entry.counted in OF_AN_ENVIRONMENT else None
    new = None if environment is None else list(environment)
    (row,) = (
        DailyCount.insert(
            card_id=entry.card_id, day=day, kind=entry.counted, count=1, last_at=entry.at, environments=new
        )
        .on_conflict(
            conflict_target=[DailyCount.card_id, DailyCount.day, DailyCount.kind],
            update={DailyCount.count: DailyCount.count + SQL("1"), DailyCount.last_at: entry.at},
        )
        .returning(DailyCount.count, DailyCount.environments)
        .execute()
    )
    if environment is None or row.environments is None or row.count == 1:
        return bool(row.count <= MAX_ENTRIES_PER_DAY)
    kept = row.environments
    of_the_day = [Environment(*pair) for pair in zip(kept[::2], kept[1::2], strict=True)]
    if not gets_an_entry(environment, of_the_day, MAX_ENTRIES_PER_DAY):
        return False
    of_day = (DailyCount.card_id == entry.card_id) & (DailyCount.day == day) & (DailyCount.kind == entry.counted)
    DailyCount.update(environments=[*kept, *environment]).where(of_day).execute()
    return True


def changes_of_day(card_id: str, day: date) -> int:
    """Return how often the card's hardware or address changed on a day."""
    of_day = (DailyCount.card_id == card_id) & (DailyCount.day == day) & DailyCount.kind.in_([*Change])
    counted: int = DailyCount.select(fn.COALESCE(fn.SUM(DailyCount.count), 0)).where(of_day).scalar()
    return int(counted)


def append_rejection(entry: Entry, day: date) -> bool:
    """Write a rejection within the limits of its card's day and its address's minute; return whether it was written."""
    if entry.code in REFUSALS and _has_too_many_refusals(entry):
        return False
    with database.transact():
        return append_counted([entry], day) > 0


def append_refused_log_in(entry: Entry) -> bool:
    """Write a refused log-in, unless its address or site has reached the limit of the minute; return whether it did."""
    is_within = not _has_too_many_refusals(entry)
    append([entry] if is_within else [])
    return is_within


def recent_refusals(entry: Entry, site: str | None = None) -> Any:  # noqa: ANN401  # a peewee query
    """Return the query for an address's refusals, or refused log-ins, within a minute, up to the limit.

    Of a site, an IPv6 /48, it reads all refusals of that minute, which the limits of addresses keep few.
    """
    where = Event.ip_network == entry.row()["ip_network"] if site is None else _is_within(site)
    limit = MAX_REFUSALS_PER_MINUTE if site is None else MAX_REFUSALS_PER_MINUTE_OF_SITE
    since = entry.at - timedelta(minutes=1)
    # Apart, so that refusals of cards hide no guessing of passwords.
    alike = REFUSALS if entry.kind is EventKind.REJECTED else (entry.kind,)
    return Event.select().where(where & (Event.at > since) & code_or_kind.in_(alike)).limit(limit)


def _is_within(network: str) -> Any:  # noqa: ANN401  # peewee's
    return Expression(Event.ip_network.cast("inet"), "<<=", Value(network).cast("inet"))


def _has_too_many_refusals(entry: Entry) -> bool:
    if recent_refusals(entry).count() >= MAX_REFUSALS_PER_MINUTE:
        return True
    site = None if entry.ip is None else site_of(entry.ip)
    return site is not None and recent_refusals(entry, site).count() >= MAX_REFUSALS_PER_MINUTE_OF_SITE


def has_too_many_refusals(address: str, at: datetime) -> bool:
    """Whether an address, or its IPv6 /48, has reached its limit of the minute: no more of its refusals are written."""
    return _has_too_many_refusals(Entry(at, EventKind.REJECTED, ip=address))


def reference_of_repeated(entry: Entry) -> str | None:
    """Return the reference of the day's entry that a rejection without one repeats, None where it repeats none.

    Of several it is one from the same address, which is where a move by the reference binds the card to.
    """
    if entry.counted is None or entry.ip is None or entry.hardware is None:
        return None
    digest = (entry.details or {}).get("hardware_sha256") or sha256(entry.hardware.encode()).hexdigest()
    alike = (Event.card_id == entry.card_id) & (code_or_kind == entry.code) & (hardware_sha256 == digest)
    where = alike & _is_within(neighbourhood_of(entry.ip)) & (Event.at > entry.at - timedelta(days=1))
    is_same = (Event.ip_network == network_of(entry.ip), Event.function == entry.function)
    found = Event.select(Event.reference).where(where).order_by(*(each.desc() for each in is_same), Event.at.desc())
    reference: str | None = found.limit(1).scalar()
    return reference


def hardware_sha256_of(reference: str) -> str | None:
    """Return the SHA-256 of the hardware of the entry of this reference, None where there is none."""
    named = (Event.reference == reference) & Event.hardware.is_null(is_null=False)
    digest: str | None = Event.select(hardware_sha256).where(named).order_by(Event.id).limit(1).scalar()
    return digest


def prune(before: datetime) -> int:
    """Delete up to `PRUNE_BATCH` entries of `PRUNED_KINDS` older than `before`, and nothing else; return how many."""
    return _delete(code_or_kind.in_(codes_or_kinds(*PRUNED_KINDS)) & (Event.at < before))


def beginning_of_stock() -> datetime | None:
    """Return the time of the oldest of the newest `STOCK` entries of `STRANGERS`, None where there are no more."""
    newest = Event.select(Event.at).where(_is_of_strangers).order_by(Event.at.desc())
    found: datetime | None = newest.offset(STOCK - 1).limit(1).scalar()
    return found


def prune_strangers(before: datetime) -> int:
    """Delete up to `PRUNE_BATCH` entries of `STRANGERS` older than `before`; return how many."""
    return _delete(_is_of_strangers & (Event.at < before))


def _delete(where: Any) -> int:  # noqa: ANN401  # a peewee expression
    old = Event.select(Event.id).where(where).limit(PRUNE_BATCH)
    count: int = Event.delete().where(Event.id.in_(old)).execute()
    return count


def prune_counts(before: date) -> int:
    """Delete up to `PRUNE_BATCH` counts of days before `before`; return how many."""
    old = (
        DailyCount.select(DailyCount.card_id, DailyCount.day, DailyCount.kind)
        .where(DailyCount.day < before)
        .limit(PRUNE_BATCH)
    )
    deleted: int = (
        DailyCount.delete().where(fn.ROW(DailyCount.card_id, DailyCount.day, DailyCount.kind).in_(old)).execute()
    )
    return deleted
