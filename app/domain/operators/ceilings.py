"""Ceilings of operators and shops' tokens: how many cards a day they issue, and how long their cards may last."""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from app.domain.cards.cards import MAX_VALIDITY, CardFacts, format_validity, validity_text
from app.domain.operators.operators import Role
from app.domain.texts import RefusedError

MAX_CARDS_PER_DAY = 1_000_000
MAX_CHANGES_PER_DAY = 10_000
"""How many cards one operator in the console, or one shop's token, may change in one vendor's day.

Each change adds an entry to the journal that is kept for ever: without a bound, a stolen session or token that freezes
and unfreezes the same cards again and again would fill the disk. All actions on existing cards count together.
"""


class Ceilings(NamedTuple):
    """The ceilings of one operator or token.

    `cards_per_day` counts the cards that they issue in one vendor's day. No card that they issue, extend or import
    lasts longer than `longest_validity`; `MAX_VALIDITY` there allows permanent cards, too. None is a ceiling that was
    never set, as of accounts from before there were ceilings: no limit.

    `changes_per_day` is of sellers alone: how many cards that they issued themselves they unbind and move in one day.
    None and 0 allow none.
    """

    cards_per_day: int | None = None
    longest_validity: timedelta | None = None
    changes_per_day: int | None = None

    def given(self) -> dict[str, Any]:
        """Return the ceilings that are set, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}


OPERATOR_DEFAULTS = {Role.OWNER: Ceilings(10_000, MAX_VALIDITY), Role.SELLER: Ceilings(1_000, timedelta(days=365))}
TOKEN_DEFAULTS = Ceilings(1_000, timedelta(days=365))


class CeilingExceededError(RefusedError):
    """More than a ceiling allows. `field` is what exceeds it: `count`, `validity`, `batch`, `by` or `ids`."""

    def __init__(self, field: str, zh: str, en: str) -> None:
        self.field = field
        super().__init__(zh, en)


def check_ceilings(ceilings: Ceilings) -> None:
    """Refuse ceilings that cannot be set; a validity is already checked when it is read."""
    if ceilings.cards_per_day is not None and not 1 <= ceilings.cards_per_day <= MAX_CARDS_PER_DAY:
        raise RefusedError(
            f"每天发卡上限必须是 1 到 {MAX_CARDS_PER_DAY}",
            f"the ceiling of cards a day must be from 1 to {MAX_CARDS_PER_DAY}",
        )
    if ceilings.changes_per_day is not None and not 0 <= ceilings.changes_per_day <= MAX_CHANGES_PER_DAY:
        raise RefusedError(
            f"每天解绑、换绑的上限必须是 0 到 {MAX_CHANGES_PER_DAY}",
            f"the ceiling of cards unbound and moved a day must be from 0 to {MAX_CHANGES_PER_DAY}",
        )


def changes_allowed(ceilings: Ceilings, role: Role | None) -> int:
    """Return how many cards an operator of this role, or a shop's token (None), may change in one day."""
    return MAX_CHANGES_PER_DAY if role is not Role.SELLER else ceilings.changes_per_day or 0


def check_count(ceilings: Ceilings, issued_today: int, count: int) -> None:
    """Refuse to issue `count` cards more than the `issued_today` of this vendor's day, if that is too many."""
    limit = ceilings.cards_per_day
    if limit is not None and issued_today + count > limit:
        left = max(limit - issued_today, 0)
        raise CeilingExceededError(
            "count",
            f"每天最多发 {limit} 张，今天还可发 {left} 张；所有者可以调整上限",
            f"the ceiling is {limit} cards a day, and {left} are left today; an owner can raise it",
        )


def check_changes(allowed: int, changed_today: int, count: int) -> None:
    """Refuse to change more cards than `allowed` in a vendor's day, in which `changed_today` were changed."""
    left = max(allowed - changed_today, 0)
    if count > left:
        raise CeilingExceededError(
            "ids",
            f"每天最多改动 {allowed} 张卡密，今天还可改动 {left} 张；服务器上的命令行不受此限",
            f"at most {allowed} cards a day may be changed, and {left} are left today; "
            "the command line on the server has no such bound",
        )


def check_validity(ceilings: Ceilings, lasting: timedelta | None) -> None:
    """Refuse a new card that lasts longer than allowed; None is permanent."""
    if not _allows(ceilings, lasting):
        zh, longest = validity_text(ceilings.longest_validity).zh, format_longest(ceilings.longest_validity)
        raise CeilingExceededError(
            "validity",
            f"有效期最长为 {zh}；所有者可以调整上限",
            f"the longest validity allowed is {longest}; an owner can raise it",
        )


def check_batches(role: Role | None, licensed: Collection[str]) -> None:
    """Refuse new cards of batches that a licensed file is for, unless an owner makes them; None is a shop's token."""
    if licensed and role is not Role.OWNER:
        batch = min(licensed)
        raise CeilingExceededError(
            "batch",
            f"有文件仅供批次“{batch}”，只有所有者能发这个批次的卡密：请换一个批次，或请所有者发卡",
            f"a file is for the batch “{batch}”, so only owners issue its cards: choose another batch, or ask an owner",
        )


def check_extended(ceilings: Ceilings, card: CardFacts, now: datetime) -> None:
    """Refuse an extension after which `card` would last longer than allowed, counted from now if it is activated."""
    if not _allows(ceilings, time_left(card.validity, card.expires_at, now)):
        zh, longest = validity_text(ceilings.longest_validity).zh, format_longest(ceilings.longest_validity)
        raise CeilingExceededError(
            "by",
            f"卡密 {card.id} 的剩余时间将超过您的上限 {zh}；所有者可以调整上限",
            f"card {card.id} would last longer than the ceiling of {longest} from now; an owner can raise it",
        )


def with_defaults(ceilings: Ceilings, defaults: Ceilings) -> Ceilings:
    """Return ceilings with the default in place of each that is not set."""
    return defaults._replace(**ceilings.given())


def described(ceilings: Ceilings) -> dict[str, object]:
    """Return the ceilings that are set, as the journal and lists show them."""
    shown = ceilings.given()
    if ceilings.longest_validity is not None:
        shown["longest_validity"] = format_longest(ceilings.longest_validity)
    return shown


def longest_of(validity: timedelta | None) -> timedelta:
    """Return a validity as a ceiling: permanent, None, is as high as ceilings are."""
    return MAX_VALIDITY if validity is None else validity


def format_longest(longest: timedelta | None) -> str | None:
    """Write a ceiling of the validity as people type it, None where there is none."""
    if longest is None:
        return None
    return format_validity(None if longest >= MAX_VALIDITY else longest)


def _allows(ceilings: Ceilings, lasting: timedelta | None) -> bool:
    longest = ceilings.longest_validity
    if longest is None or longest >= MAX_VALIDITY:
        return True
    return lasting is not None and lasting <= longest


def time_left(validity: timedelta | None, expires_at: datetime | None, now: datetime) -> timedelta | None:
    """Return how long a card lasts: from now if it is activated, else from its activation; None is permanent."""
    return validity if expires_at is None else expires_at - now
