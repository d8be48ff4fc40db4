"""What a list of cards is asked for: its filter, as it stands in the address."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.console.forms import Form
from app.console.times import parse_time
from app.domain.codes import CardStatus
from app.domain.texts import MAX_TEXT, RefusedError, Text
from app.storage.card_lists import CardFilter

FIELDS = ("q", "status", "batch", "no_batch", "note", "expires", "expires_from", "expires_before")
SIZES = (50, 200, 500)


class Span(NamedTuple):
    """A preset of `expires`: what it is called, from when and until when, seen from now."""

    name: Text
    since: timedelta
    until: timedelta


SPANS = {
    "7d": Span(Text("7 天内到期", "In 7 days"), timedelta(0), timedelta(days=7)),
    "30d": Span(Text("30 天内到期", "In 30 days"), timedelta(0), timedelta(days=30)),
    "past7d": Span(Text("最近 7 天过期", "In the last 7 days"), timedelta(days=-7), timedelta(0)),
    "past30d": Span(Text("最近 30 天过期", "In the last 30 days"), timedelta(days=-30), timedelta(0)),
}
_MAX_SEARCH = 1024  # the longest hardware


@dataclass(frozen=True, slots=True)
class CardQuery:
    """A filter, what is searched for besides, and how many rows a page has."""

    wanted: CardFilter
    text: str | None
    size: int


def typed(query: Form) -> dict[str, str]:
    """Return the filter as it was typed, by field."""
    return {name: query.one(name) for name in FIELDS}


def read_query(query: Form, zone: ZoneInfo, now: datetime) -> CardQuery:
    """Read what a query asks for.

    Args:
        query: The request's.
        zone: The vendor's: days are days there.
        now: The time, aware.

    Raises:
        RefusedError: a state, a preset or a day is none, or a text too long.
    """
    status, span = query.one("status"), query.one("expires")
    if status and status not in set(CardStatus):
        raise RefusedError(f"没有“{status}”这种状态", f"there is no state “{status}”")
    if span and span not in SPANS:
        raise RefusedError(f"没有“{span}”这个到期范围", f"there is no such range of expiry: “{span}”")
    since = [parse_time(query.one("expires_from"), zone)]
    until = [parse_time(query.one("expires_before"), zone)]
    if span:
        since.append(now + SPANS[span].since)
        until.append(now + SPANS[span].until)
    wanted = CardFilter(
        status=CardStatus(status) if status else None,
        batch="" if query.one("no_batch") else _text(query, "batch", MAX_TEXT),
        note=_text(query, "note", MAX_TEXT),
        expires_from=max((at for at in since if at), default=None),
        expires_before=min((at for at in until if at), default=None),
    )
    size = query.one("size")
    return CardQuery(wanted, _text(query, "q", _MAX_SEARCH), int(size) if size in map(str, SIZES) else SIZES[0])


def _text(query: Form, name: str, longest: int) -> str | None:
    text = query.one(name)
    if len(text) > longest:
        raise RefusedError(f"搜索内容不得超过 {longest} 个字符", f"nothing longer than {longest} characters is found")
    return text or None
