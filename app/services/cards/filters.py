"""The filters of lists of cards and of the journal, read from the texts that a person typed."""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from app.domain.addresses import read_network
from app.domain.cards.cards import card_id_of, parse_card_id
from app.domain.codes import CardStatus, Code, EventKind
from app.domain.licence.policy import MAX_HARDWARE
from app.domain.texts import MAX_TEXT, RefusedError, Text
from app.services.journal.journal_lists import JournalFilter
from app.storage.card_lists import CardFilter, Sort

CARD_FIELDS = ("q", "status", "batch", "no_batch", "note", "expires", "expires_from", "expires_before", "sort")

EXPIRY_PRESETS = {
    "7d": (Text("7 天内到期", "In 7 days"), timedelta(0), timedelta(days=7)),
    "30d": (Text("30 天内到期", "In 30 days"), timedelta(0), timedelta(days=30)),
    "past7d": (Text("最近 7 天过期", "In the last 7 days"), timedelta(days=-7), timedelta(0)),
    "past30d": (Text("最近 30 天过期", "In the last 30 days"), timedelta(days=-30), timedelta(0)),
}
"""Ranges of expiry relative to now, by their keys: the name, the beginning and the end."""
SORTS = {
    Sort.EXPIRY: Text("到期时间，先到期的在前", "Expiry, soonest first"),
    Sort.EXPIRY_LAST: Text("到期时间，后到期的在前", "Expiry, latest first"),
}
"""Orders that a reader may ask for, by name. They have activated cards only."""


def parse_card_filter(fields: Mapping[str, str], zone: ZoneInfo, now: datetime) -> CardFilter:
    """Return the filter that `CARD_FIELDS` say, or refuse a wrong one; a missing or empty field does not filter.

    `q` is the text to search for, any `no_batch` asks for cards without a batch, `expires` names one of
    `EXPIRY_PRESETS` and `sort` one of `SORTS`. Dates begin in `zone`, the vendor's.
    """
    _check_encoding(fields)
    preset = _choice(fields, "expires", list(EXPIRY_PRESETS))
    status = _choice(fields, "status", [str(status) for status in CardStatus])
    sort = _choice(fields, "sort", [str(sort) for sort in SORTS])
    since = parse_time("expires_from", fields.get("expires_from", ""), zone)
    until = parse_time("expires_before", fields.get("expires_before", ""), zone)
    if preset:
        _name, earliest, latest = EXPIRY_PRESETS[preset]
        since = max(since or now + earliest, now + earliest)
        until = min(until or now + latest, now + latest)
    return CardFilter(
        status=CardStatus(status) if status else None,
        batch="" if fields.get("no_batch") else _text(fields, "batch", MAX_TEXT),
        note=_text(fields, "note", MAX_TEXT),
        expires_from=since,
        expires_before=until,
        text=_text(fields, "q", MAX_HARDWARE),
        sort=Sort(sort) if sort and status != CardStatus.UNUSED else None,
    )


def _check_encoding(fields: Mapping[str, str]) -> None:
    """Refuse bytes that are not UTF-8, which a command line brings as lone surrogates."""
    for name, text in fields.items():
        if any(unicodedata.category(character) == "Cs" for character in text):
            raise RefusedError(f"{name}：不是 UTF-8 文字", f"{name}: the text is not UTF-8")


def _choice(fields: Mapping[str, str], name: str, choices: list[str]) -> str:
    value = fields.get(name, "")
    if value and value not in choices:
        raise RefusedError(
            f"{name}：没有“{value}”，可用：{'、'.join(choices)}",
            f"{name}: there is no “{value}”; use one of {', '.join(choices)}",
        )
    return value


def _text(fields: Mapping[str, str], name: str, max_length: int) -> str | None:
    text = fields.get(name, "").strip()
    if len(text) > max_length:
        raise RefusedError(f"{name}：不得超过 {max_length} 个字符", f"{name}: at most {max_length} characters")
    return text or None


JOURNAL_FIELDS = ("kind", "card", "hardware", "address", "function", "actor", "reference", "since", "until")
REJECTIONS = [code for code in Code if code is not Code.OK]
KINDS: dict[str, EventKind | Code] = {str(kind): kind for kind in [*EventKind, *REJECTIONS]}


def parse_journal_filter(fields: Mapping[str, str], zone: ZoneInfo) -> JournalFilter:
    """Return the filter that `JOURNAL_FIELDS` say, or refuse a wrong one; a missing or empty field does not filter.

    What clients sent, `hardware` and `function`, counts exactly as typed. Dates begin in `zone`, the vendor's.
    """

    def trimmed(name: str) -> str:
        return fields.get(name, "").strip()

    _check_encoding(fields)
    kind, card, address = trimmed("kind"), trimmed("card"), trimmed("address")
    if kind and kind not in KINDS:
        raise RefusedError(
            f"kind：没有“{kind}”这种日志类型或拒绝代码", f"kind: there is no kind of entry and no code “{kind}”"
        )
    try:
        network = read_network(address) if address else None
    except ValueError as error:
        raise RefusedError(
            f"address：“{address}”不是有效的 IP 地址", f"address: “{address}” is not an IP address"
        ) from error
    return JournalFilter(
        kind=KINDS.get(kind),
        card_id=card_id_of(card) if card else None,
        card_text=card if parse_card_id(card) is None and card else None,
        hardware=fields.get("hardware") or None,
        network=network,
        actor=trimmed("actor") or None,
        reference=trimmed("reference").upper() or None,
        function=fields.get("function") or None,
        since=parse_time("since", trimmed("since"), zone),
        until=parse_time("until", trimmed("until"), zone),
    )


_YEARS = range(1970, 2200)


def parse_time(name: str, text: str, zone: ZoneInfo) -> datetime | None:
    """Return the time that the field `name` says, None if it is empty.

    It is a date (its beginning), or a date and time, in `zone`, the vendor's, unless it has an offset. Refuse others.
    """
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.year not in _YEARS:
        raise RefusedError(
            f"{name}：“{text}”不是有效的日期时间，请写成 2026-01-31 或 2026-01-31T18:30",
            f"{name}: “{text}” is not a date and time; write 2026-01-31 or 2026-01-31T18:30",
        )
    aware = time if time.tzinfo is not None else time.replace(tzinfo=zone)
    return aware.astimezone(UTC)  # PostgreSQL knows fewer offsets than Python
