"""The filter of a list of cards, read from the texts that a person typed."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.domain.codes import CardStatus
from app.domain.texts import MAX_TEXT, RefusedError, Text
from app.services.times import parse_time
from app.storage.card_lists import CardFilter

CARD_FIELDS = ("q", "status", "batch", "no_batch", "note", "expires", "expires_from", "expires_before")


class ExpiryPreset(NamedTuple):
    """A range of expiry by name, relative to now."""

    name: Text
    since: timedelta
    until: timedelta


EXPIRY_PRESETS = {
    "7d": ExpiryPreset(Text("7 天内到期", "In 7 days"), timedelta(0), timedelta(days=7)),
    "30d": ExpiryPreset(Text("30 天内到期", "In 30 days"), timedelta(0), timedelta(days=30)),
    "past7d": ExpiryPreset(Text("最近 7 天过期", "In the last 7 days"), timedelta(days=-7), timedelta(0)),
    "past30d": ExpiryPreset(Text("最近 30 天过期", "In the last 30 days"), timedelta(days=-30), timedelta(0)),
}
_MAX_SEARCH = 1024  # the longest hardware string


def parse_card_filter(fields: Mapping[str, str], zone: ZoneInfo, now: datetime) -> CardFilter:
    """Return the filter that the fields say.

    Args:
        fields: `CARD_FIELDS`; a missing or empty one does not filter. `q` is the text to search for, any `no_batch`
            asks for cards without a batch, and `expires` names one of `EXPIRY_PRESETS`.
        zone: The vendor's, in which dates begin.
        now: The time, aware.

    Raises:
        RefusedError: names the field and says what would be right.
    """
    preset = EXPIRY_PRESETS.get(_choice(fields, "expires", list(EXPIRY_PRESETS)))
    status = _choice(fields, "status", [str(status) for status in CardStatus])
    since = [parse_time("expires_from", fields.get("expires_from", ""), zone)]
    until = [parse_time("expires_before", fields.get("expires_before", ""), zone)]
    if preset:
        since.append(now + preset.since)
        until.append(now + preset.until)
    return CardFilter(
        status=CardStatus(status) if status else None,
        batch="" if fields.get("no_batch") else _text(fields, "batch", MAX_TEXT),
        note=_text(fields, "note", MAX_TEXT),
        expires_from=max((at for at in since if at), default=None),
        expires_before=min((at for at in until if at), default=None),
        text=_text(fields, "q", _MAX_SEARCH),
    )


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
