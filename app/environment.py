"""Strict readers of settings from an environment. Standard library only: the functions service uses them."""

import re
from collections.abc import Mapping

LOG_LEVELS = ("debug", "info", "warning", "error")
_SETTINGS = ("DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_")
"""How the names of settings begin, of which some are secrets."""


class SettingsError(Exception):
    """A setting is wrong or missing. The message names it and says what would be right."""


def required(env: Mapping[str, str], name: str) -> str:
    """Return a setting that has no default.

    Raises:
        SettingsError: it is missing.
    """
    value = env.get(name, "")
    if not value:
        raise SettingsError(f"{name} is not set")
    return value


def boolean(env: Mapping[str, str], name: str) -> bool:
    """Return a setting that is `true` or `false`; the default is false.

    Raises:
        SettingsError: it is neither.
    """
    return choice(env, name, "false", ("true", "false")) == "true"


def choice(env: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    """Return a setting that is one of these words.

    Raises:
        SettingsError: it is another word.
    """
    value = env.get(name) or default
    if value not in choices:
        raise SettingsError(f"{name} is {value!r}: it must be {' or '.join(choices)}")
    return value


def integer(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """Return a setting that is a whole number from `low` to `high`.

    Raises:
        SettingsError: it is not such a number.
    """
    value = env.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
        raise SettingsError(f"{name} is {value!r}: it must be a whole number from {low} to {high}")
    return int(value)


def without_settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that needs no setting and must get no secret."""
    return {name: value for name, value in env.items() if not name.startswith(_SETTINGS)}
