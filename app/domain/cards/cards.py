"""Card IDs and validities: writing, reading and adding to them (protocol, sections 2 and 5)."""

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from app.domain.codes import CardStatus
from app.domain.programs import MAIN
from app.domain.texts import RefusedError, Text

ID_LENGTH = 32
ID_RANDOM_BYTES = 20  # 160 bits are 32 characters of 5 bits
REFERENCE_LENGTH = 8
"""A message names its verdict by this many last characters of `jti`, which is written like a card ID."""
MIN_KEY_LENGTH, MAX_KEY_LENGTH = 6, 64
"""The length of an imported card's key in the system that it came from."""
MIN_VALIDITY = timedelta(seconds=1)
MAX_VALIDITY = timedelta(days=100 * 365)

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in CROCKFORD for low in CROCKFORD]  # of 10 bits
_ID = re.compile(f"[{CROCKFORD}]{{{ID_LENGTH}}}")
_KEY_LABEL = b"kadun-imported-key\n"
# Zero-width characters go, full-width forms become plain.
_PLAIN: dict[int, int | None] = {
    **dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)),
    0x3000: 0x20,
    **{code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)},
}
# White space, and what Unicode has as Quotation_Mark (PropList.txt).
_AROUND = (
    "".join(filter(str.isspace, map(chr, range(0x3001))))
    + "\"'\u00ab\u00bb\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\u2e42\u300c\u300d\u300e\u300f"
    + "\u301d\u301e\u301f\ufe41\ufe42\ufe43\ufe44\uff62\uff63"
)
_LABEL = re.compile(f"(?:卡密|卡号|激活码|授权码|注册码|序列号|(?ai:card|key|code|license))[{_AROUND}]*:")
# ASCII only, so that no Unicode case mapping affects card IDs.
_READ_AS = str.maketrans("abcdefghijklmnopqrstuvwxyzILO", "ABCDEFGH1JK1MN0PQRSTUVWXYZ110")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_CHINESE = {"天卡": "1d", "周卡": "7d", "月卡": "30d", "季卡": "90d", "年卡": "365d"}
_NAMED = {"day": "1d", "week": "7d", "month": "30d", "quarter": "90d", "year": "365d", **_CHINESE}
_PERMANENT = ("permanent", "永久", "永久卡")
_DURATION = re.compile(r"([0-9]{1,10})([smhdw])")


class ValidityError(RefusedError):
    """A validity or duration that is malformed or out of range."""


def id_from_random(random_bytes: bytes) -> str:
    """Write `ID_RANDOM_BYTES` random bytes as an ID: 32 characters of Crockford's base32."""
    if len(random_bytes) != ID_RANDOM_BYTES:
        raise ValueError(f"an ID takes {ID_RANDOM_BYTES} random bytes, not {len(random_bytes)}")
    number = int.from_bytes(random_bytes)
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(150, -1, -10)])


def half_width(text: str) -> str:
    """Return a text without zero-width characters, its full-width forms as plain ones."""
    return text.translate(_PLAIN)


def plain(text: str) -> str:
    """Return the card that a text has, without what people paste with it.

    Zero-width characters go, full-width forms become plain, and white space, quotation marks and labels such as 卡密：
    around the card go, in any order and however often.
    """
    card = half_width(text).strip(_AROUND)
    while label := _LABEL.match(card):
        card = card[label.end() :].lstrip(_AROUND)
    return card


def parse_card_id(text: str) -> str | None:
    """Read a card ID as typed or pasted by a person; return None for anything else.

    It is read as `plain` text, without white space, dashes and underscores; letters become upper case, I and L read as
    1, O as 0.
    """
    if _ID.fullmatch(text):
        return text
    candidate = as_crockford(plain(text))
    return candidate if _ID.fullmatch(candidate) else None


def card_id_of(text: str) -> str:
    """Return the ID of the card that a text names, whether or not there is one, by its ID as typed or imported key."""
    return parse_card_id(text) or _imported_id(plain(text))


def answers_to(text: str, *, is_imported: bool) -> bool:
    """Whether a text shows that who sent it has the card: of an imported card only the key does.

    The ID of an imported card is a public digest of its key: by IDs, keys could be guessed without a limit.
    """
    return not is_imported or parse_card_id(text) is None


def _imported_id(key: str) -> str:
    # Lone surrogates come from a command line alone, and no card has them.
    digest = hashlib.sha256(_KEY_LABEL + key.encode("utf-8", "surrogatepass")).digest()
    return id_from_random(digest[:ID_RANDOM_BYTES])


HIDDEN = "•••"
"""What sellers see of a card that is not theirs."""


def masked(card_id: str) -> str:
    """Return a card as people see it who may not have the key."""
    return f"{card_id[:4]}{HIDDEN}"


def check_imported_key(key: str) -> None:
    """Refuse a key that no imported card can have: not 6 to 64 printable characters, or not `plain`."""
    if not MIN_KEY_LENGTH <= len(key) <= MAX_KEY_LENGTH or not key.isprintable() or key != plain(key):
        raise RefusedError(
            f"卡密须为 {MIN_KEY_LENGTH} 到 {MAX_KEY_LENGTH} 个可打印字符，首尾不能有空白",
            f"a card's key is {MIN_KEY_LENGTH} to {MAX_KEY_LENGTH} printable characters without white space at its "
            "ends",
        )


_GUESSABLE_BITS = 48
_TRIED_CHARACTERS, _MAX_ALIKE = 6, 20


def is_guessable(key: str) -> bool:
    """Whether a key is so short that somebody who tries keys finds one: fewer possible keys than 2^48.

    That is fewer than 15 digits, 10 letters and digits of one case, or 9 of both cases.
    """
    alphabets = ((str.isdecimal, 10), (str.islower, 26), (str.isupper, 26))
    letters = sum(size for belongs, size in alphabets if any(map(belongs, key)))
    counted = sum(character.isalnum() for character in key)
    return counted * math.log2(max(letters, 10)) < _GUESSABLE_BITS


def numbered(keys: Iterable[str]) -> list[str]:
    """Return the keys that somebody who has one of them may find the others by: over 20 differ only in their end."""
    by_beginning: dict[str, list[str]] = {}
    for key in keys:
        by_beginning.setdefault(key[:-_TRIED_CHARACTERS], []).append(key)
    return [key for alike in by_beginning.values() if len(alike) > _MAX_ALIKE for key in alike]


def parse_card_id_beginning(text: str) -> str | None:
    """Read the beginning of a card ID as typed by a person; return None for anything else."""
    candidate = as_crockford(plain(text))
    return candidate if 0 < len(candidate) <= ID_LENGTH and set(candidate) <= set(CROCKFORD) else None


def as_crockford(text: str) -> str:
    """Return what a person typed as Crockford's base32 spells it, without white space, dashes and underscores."""
    kept = "".join(c for c in text if not (c == "_" or c.isspace() or unicodedata.category(c) == "Pd"))
    return kept.translate(_READ_AS)


def parse_duration(text: str) -> timedelta:
    """Read 1 second to 100 years: `30s`, `45m`, `12h`, `30d`, `1w`, day … year, 天卡 … 年卡."""
    match = _DURATION.fullmatch(_NAMED.get(text, text))
    if match is None:
        raise ValidityError(
            f"{text!r} 不是有效时长，请写成 30s、45m、12h、30d、1w，或 天卡、周卡、月卡、季卡、年卡",
            f"{text!r} is no duration: write 30s, 45m, 12h, 30d, 1w, or day, week, month, quarter, year",
        )
    seconds = int(match[1]) * _UNITS[match[2]]
    if not MIN_VALIDITY.total_seconds() <= seconds <= MAX_VALIDITY.total_seconds():
        raise ValidityError(
            f"{text!r} 超出范围：1 秒到 100 年（36500d）",
            f"{text!r} is out of range: from 1 second to 100 years (36500d)",
        )
    return timedelta(seconds=seconds)


def parse_validity(text: str) -> timedelta | None:
    """Read a duration, or one of `permanent`, 永久 and 永久卡 as None."""
    return None if text in _PERMANENT else parse_duration(text)


def trade_name(validity: timedelta | None) -> str | None:
    """Return what the trade in China calls a card of that validity; None if it has no name for it."""
    if validity is None:
        return "永久"
    return next((name for name, written in _CHINESE.items() if parse_duration(written) == validity), None)


def format_validity(validity: timedelta | None) -> str:
    """Write a validity in the largest unit that divides it, as `parse_validity` reads it."""
    if validity is None:
        return "permanent"
    seconds = int(validity.total_seconds())
    unit = next(u for u in ("d", "h", "m", "s") if seconds % _UNITS[u] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


_UNIT_NAMES = {"d": ("天", "day"), "h": ("小时", "hour"), "m": ("分钟", "minute"), "s": ("秒", "second")}


def validity_text(validity: timedelta | None) -> Text:
    """Return how long that is, for people; None is permanent."""
    if validity is None:
        return Text("永久", "permanent")
    written = format_validity(validity)
    number, (zh, en) = written[:-1], _UNIT_NAMES[written[-1]]
    return Text(f"{number} {zh}", f"{number} {en}{'' if number == '1' else 's'}")


class CardFacts(NamedTuple):
    """A card as the rules see it. `validity` None means permanent; times are aware.

    `renewed_card_id` is the card that this one, then unused, renewed; such a card is spent. `batch` matters to renewals
    alone, and is not read for verifications. `is_imported` says that the card has its key from another system.
    """

    id: str
    validity: timedelta | None
    activated_at: datetime | None
    expires_at: datetime | None
    frozen_at: datetime | None
    renewed_card_id: str | None = None
    batch: str | None = None
    is_imported: bool = False
    program: str = MAIN

    @property
    def is_activated(self) -> bool:
        """Whether the card has been used for the first time."""
        return self.activated_at is not None

    def status(self, now: datetime) -> CardStatus:
        """Return the first that holds of spent, frozen, expired, active, unused."""
        if self.renewed_card_id is not None:
            return CardStatus.SPENT
        if self.frozen_at is not None:
            return CardStatus.FROZEN
        if self.activated_at is None:
            return CardStatus.UNUSED
        if self.expires_at is not None and now >= self.expires_at:
            return CardStatus.EXPIRED
        return CardStatus.ACTIVE
