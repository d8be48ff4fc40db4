"""Operators and shops: roles, scopes, names, passwords, and the limits of failed log-ins."""

from datetime import datetime, timedelta

from app.domain.texts import NamedEnum, RefusedError

MIN_PASSWORD = 12
MAX_PASSWORD = 256
MAX_NAME = 64
_MIN_DIFFERENT = 5
_SHORTEST_NAME = 3  # shorter names are part of many good passwords


class Role(NamedEnum):
    """The role of an operator of the console: an owner may do everything, a seller may issue and look up cards."""

    OWNER = "owner", "所有者", "owner"
    SELLER = "seller", "销售", "seller"


class Scope(NamedEnum):
    """A permission of a shop's token."""

    CARDS_ISSUE = "cards:issue", "发卡", "issue cards"
    CARDS_READ = "cards:read", "查询卡密", "look cards up"
    CARDS_FREEZE = "cards:freeze", "冻结与解冻", "freeze and unfreeze"
    CARDS_EXTEND = "cards:extend", "延期", "extend"


CONSOLE_ACTOR, SHOP_ACTOR = "console:", "shop:"
"""The prefixes of actors in the journal: operators of the console, and shops."""


def console_actor(name: str) -> str:
    """Return the journal's name for an operator."""
    return CONSOLE_ACTOR + name


def shop_actor(name: str) -> str:
    """Return the journal's name for a shop."""
    return SHOP_ACTOR + name


def check_name(name: str) -> None:
    """Refuse a name of an operator or a token that is empty, too long, not printable, or not stripped."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable() or name != name.strip():
        raise RefusedError(
            f"名称必须是 1 到 {MAX_NAME} 个可打印字符，首尾没有空格",
            f"a name must be 1 to {MAX_NAME} printable characters, without white space at its ends",
        )


def check_password(password: str, name: str) -> None:
    """Refuse a password that is too short, too long or too simple (NIST SP 800-63B: length, not composition)."""
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise RefusedError(
            f"密码必须是 {MIN_PASSWORD} 到 {MAX_PASSWORD} 个字符",
            f"a password must be {MIN_PASSWORD} to {MAX_PASSWORD} characters",
        )
    has_name = len(name) >= _SHORTEST_NAME and name.casefold() in password.casefold()
    if len(set(password)) < _MIN_DIFFERENT or has_name:
        raise RefusedError(
            "密码过于简单：不能只有几个不同的字符，也不能包含用户名",
            "the password is too easy: not a few characters repeated, and not with the name in it",
        )


MAX_SESSIONS = 20
"""How many sessions an operator has at once: another one ends the session that was not used for longest."""
FREE_FAILURES = 5
FORGOTTEN_AFTER = timedelta(hours=1)
_LONGEST_WAIT = timedelta(minutes=15)


def next_attempt(failures: int, last_at: datetime) -> datetime:
    """Return when the next attempt is free: each after `FREE_FAILURES` doubles the wait, from 1 s to 15 minutes."""
    if failures < FREE_FAILURES:
        return last_at
    return last_at + min(timedelta(seconds=2 ** min(failures - FREE_FAILURES, 20)), _LONGEST_WAIT)
