"""Operators and shops: who they are and what each may do."""

from datetime import datetime, timedelta
from enum import StrEnum

from app.domain.texts import RefusedError

MIN_PASSWORD = 12
MAX_PASSWORD = 256
MAX_NAME = 64
_MIN_DIFFERENT = 5
_TELLING_NAME = 3  # shorter ones are in many a good password


class Role(StrEnum):
    """What an operator of the console may do: an owner everything there, a seller issues and looks up."""

    OWNER = "owner"
    SELLER = "seller"


class Scope(StrEnum):
    """What a shop's token may do."""

    CARDS_ISSUE = "cards:issue"
    CARDS_READ = "cards:read"
    CARDS_FREEZE = "cards:freeze"
    CARDS_EXTEND = "cards:extend"


CONSOLE_ACTOR, SHOP_ACTOR = "console:", "shop:"
"""How the journal's actors begin that are operators of the console, and shops."""


def console_actor(name: str) -> str:
    """Return an operator as the journal names them."""
    return CONSOLE_ACTOR + name


def shop_actor(name: str) -> str:
    """Return a shop as the journal names it."""
    return SHOP_ACTOR + name


def check_name(name: str) -> None:
    """Refuse a name that an operator or a token cannot have.

    Raises:
        RefusedError: it is empty, too long, not printable, or begins or ends with white space.
    """
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise RefusedError(
            f"名称必须是 1 到 {MAX_NAME} 个可打印字符，首尾没有空格",
            f"a name must be 1 to {MAX_NAME} printable characters, without white space at its ends",
        )


def check_password(password: str, name: str) -> None:
    """Refuse a password that is too easy, or longer than anybody types (NIST SP 800-63B: length, not composition).

    Raises:
        RefusedError: says what would have been right.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise RefusedError(
            f"密码必须是 {MIN_PASSWORD} 到 {MAX_PASSWORD} 个字符",
            f"a password must be {MIN_PASSWORD} to {MAX_PASSWORD} characters",
        )
    has_name = len(name) >= _TELLING_NAME and name.casefold() in password.casefold()
    if len(set(password)) < _MIN_DIFFERENT or has_name:
        raise RefusedError(
            "密码过于简单：不能只有几个不同的字符，也不能包含用户名",
            "the password is too easy: not a few characters repeated, and not with the name in it",
        )


FREE_FAILURES = 5
FORGOTTEN_AFTER = timedelta(hours=1)
_LONGEST_WAIT = timedelta(minutes=15)


def next_attempt(failures: int, last_at: datetime) -> datetime:
    """Return from when on whoever failed so often may try again.

    The first `FREE_FAILURES` cost nothing, then each doubles the wait: 1 s, 2 s, 4 s, … up to 15 minutes.
    """
    if failures < FREE_FAILURES:
        return last_at
    return last_at + min(timedelta(seconds=2 ** min(failures - FREE_FAILURES, 20)), _LONGEST_WAIT)
