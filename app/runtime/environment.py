"""Every setting, in one table, and how settings are read. Standard library only: the functions service uses it."""

import re
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import Flag, auto
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.domain.cards.cards import parse_duration
from app.domain.files.buckets import checked_endpoint
from app.domain.functions import MAX_PLACES
from app.domain.hosts import checked_name

LOG_LEVELS = ("debug", "info", "warning", "error")
MAX_PORT = 65_535


class SettingsError(Exception):
    """A setting is wrong or missing. The message names it and says what would be right."""


class By(Flag):
    """Who reads a setting."""

    SERVICE = auto()
    FUNCTIONS = auto()
    DOTENV = auto()
    """It may stand in `.env`: Compose passes it on to containers, or uses it as the scripts do."""


class Setting(NamedTuple):
    """A setting."""

    name: str  # in the environment; a secret may also be in the file that `NAME_FILE` names
    read: Callable[[str], object]  # returns the value of a text, or raises ValueError, which says what would be right
    default: str | None  # what an absent or empty one stands for; "" where it may be absent, None where it may not
    by: By
    is_secret: bool = False  # it must not be shown, and is kept from where the vendor's code runs


def value(env: Mapping[str, str], name: str) -> Any:  # noqa: ANN401  # its reader knows
    """Return the value of a setting, None where it has none; raise SettingsError if it is wrong, or missing."""
    setting = TABLE[name]
    text = (_secret(env, name) if setting.is_secret else env.get(name)) or setting.default
    if text is None:
        raise missing(name)
    if not text:
        return None
    try:
        return setting.read(text)
    except ValueError as error:
        raise SettingsError(f"{name}{'' if setting.is_secret else f' is {text!r}'}: {error}") from error


def is_set(env: Mapping[str, str], name: str) -> bool:
    """Tell whether a setting is given, itself or by a file."""
    return bool(env.get(name) or env.get(f"{name}_FILE"))


def missing(name: str) -> SettingsError:
    """Return the error for a setting that must be set and is not."""
    file = f": set it, or {name}_FILE to a file that holds it" if TABLE[name].is_secret else ""
    return SettingsError(f"{name} is not set{file}")


def names(by: By) -> set[str]:
    """Return the names of the settings that somebody reads."""
    return {setting.name for setting in TABLE.values() if by in setting.by}


def without_settings(env: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that needs no setting of ours and must get no secret."""
    secrets = {setting.name for setting in TABLE.values() if setting.is_secret}
    return {
        name: text
        for name, text in env.items()
        if not name.startswith("KADUN_") and name.removesuffix("_FILE") not in secrets
    }


def _secret(env: Mapping[str, str], name: str) -> str:
    text, path = env.get(name, ""), env.get(f"{name}_FILE", "")
    if path and text:
        raise SettingsError(f"both {name} and {name}_FILE are set: keep one")
    if path:
        try:
            text = Path(path).read_text("utf-8")
        except OSError as error:
            raise SettingsError(f"{name}_FILE: cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"{name}_FILE: {path} is not UTF-8 text") from error
        if not text.strip():
            raise SettingsError(f"{name}_FILE: {path} is empty")
    elif any("\ud800" <= character <= "\udfff" for character in text):
        raise SettingsError(f"{name} is not UTF-8 text")
    return text.strip()


def _like(pattern: str, right: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"it must be {right}")
        return text

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    return _like("|".join(words), " or ".join(words))


def _is_true(text: str) -> bool:
    return _one_of("true", "false")(text) == "true"


def _number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise ValueError(f"it must be a whole number from {low} to {high}")
        return int(text)

    return read


def _days(text: str) -> timedelta:
    return timedelta(days=_number(1, 36_500)(text))


def _certificates(path: str) -> str | None:
    try:
        text = Path(path).read_text("ascii")
        if text.strip():  # Compose mounts an empty file where there is none
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise ValueError("it must be a file with certificates in PEM form") from error
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from error
    return text if text.strip() else None


def _timezone(text: str) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (KeyError, OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError("it must be a name like Asia/Shanghai") from error


def _bind(text: str) -> str:
    found = re.fullmatch(r"unix:/[^\0]+|(?:\[[0-9a-fA-F:.]+\]|[^:/\s]+):([0-9]{1,5})", text)
    if found is None or (found[1] and not 1 <= int(found[1]) <= MAX_PORT):
        raise ValueError("it must be host:port or unix:/path/to/socket, the port from 1 to 65535")
    return text


def _user(text: str) -> tuple[int, int]:
    user, _, group = _like("[0-9]{1,9}:[0-9]{1,9}", "a user ID and a group ID, such as 10001:101")(text).partition(":")
    return int(user), int(group)


_S, _F, _E = By.SERVICE, By.FUNCTIONS, By.DOTENV
_URL = _like(r"(?s)postgres(ql)?://.*", "like postgresql://user:password@host:5432/name")
_HEX = _like("[0-9a-f]{64}", "64 random digits from 0-9 and a-f (openssl rand -hex 32)")
_AGE = _like("AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}", "one age identity, AGE-SECRET-KEY-1… (age-keygen)")
_REGION = _like("[a-z0-9][a-z0-9-]{0,62}", "a region's name, such as cn-hangzhou or us-east-1")
_PLACES = _number(1, MAX_PLACES)
TABLE = {
    setting.name: setting
    for setting in (
        Setting("DATABASE_URL", _URL, None, _S, is_secret=True),
        Setting("KADUN_HOST", checked_name, "", _S | _E),
        Setting("KERNAL_DATA_KEY", str, None, _S, is_secret=True),
        Setting("KADUN_SEALING_KEY", _HEX, "", _S, is_secret=True),
        Setting("KADUN_KEYS_DIR", Path, None, _S),
        Setting("KADUN_KEYS", _one_of("folder", "database"), "folder", _S | _E),
        Setting("KADUN_KEYS_IDENTITY", _AGE, "", _S, is_secret=True),
        Setting("KADUN_FILES_DIR", Path, None, _S),
        Setting("KADUN_FILES_BUCKET", str, "", _S | _E),
        Setting("KADUN_FILES_BUCKET_ENDPOINT", checked_endpoint, "", _S | _E),
        Setting("KADUN_FILES_BUCKET_REGION", _REGION, "", _S | _E),
        Setting("KADUN_FILES_BUCKET_STYLE", _one_of("virtual", "path"), "virtual", _S | _E),
        Setting("KADUN_FILES_BUCKET_KEY_ID", str, "", _S, is_secret=True),
        Setting("KADUN_FILES_BUCKET_SECRET", str, "", _S, is_secret=True),
        Setting("KADUN_FILES_BUCKET_CA", _certificates, "", _S | _E),
        Setting("KADUN_FUNCTIONS_SOCKET", Path, None, _S | _F),
        Setting("KADUN_FUNCTION_SECONDS", _number(1, 300), "30", _S | _F | _E),
        Setting("KADUN_ISSUER", str, "kadun", _S | _E),
        Setting("KADUN_BEHIND_PROXY", _is_true, "false", _S),
        Setting("KADUN_REQUIRE_SEALED", _is_true, "false", _S | _E),
        Setting("KADUN_OWNERS_NEED_TOTP", _is_true, "false", _S | _E),
        Setting("KADUN_CONFIRM_CARDS", _number(0, 1_000_000), "100", _S | _E),
        Setting("KADUN_WEBHOOKS_SOCKET", Path, "", _S),
        Setting("KADUN_WEBHOOK_PRIVATE", _is_true, "false", _S | _E),
        Setting("KADUN_OFFLINE_GRACE", parse_duration, "", _S | _E),
        Setting("KADUN_TIMEZONE", _timezone, "Asia/Shanghai", _S | _E),
        Setting("KADUN_JOURNAL_KEEP_DAYS", _days, "365", _S | _E),
        Setting("KADUN_LOG_LEVEL", _one_of(*LOG_LEVELS), "info", _S | _F | _E),
        Setting("KADUN_BIND", _bind, "127.0.0.1:8000", _S),
        Setting("KADUN_WORKERS", _number(1, 64), "2", _S | _E),
        Setting("KADUN_THREADS", _number(1, 64), "8", _S | _E),
        Setting("KADUN_FUNCTIONS_DIR", Path, None, _F),
        Setting("KADUN_FUNCTION_MEMORY_MB", _number(16, 1_048_576), "192", _F | _E),
        Setting("KADUN_FUNCTION_CONCURRENCY", _PLACES, "4", _F | _E),
        Setting("KADUN_FUNCTION_CALLS_PER_CARD", _PLACES, "1", _F | _E),
        Setting("KADUN_FUNCTION_CALLS_PER_ADDRESS", _PLACES, "2", _F | _E),
        Setting("KADUN_FUNCTION_RESULT_KB", _number(1, 512), "256", _F | _E),
        Setting("KADUN_FUNCTION_FIRST_UID", _number(1_000, 999_000_000), "", _F | _E),
        Setting("KADUN_FUNCTIONS_USER", _user, "", _F),
        *(
            Setting(name, str, "", _E)
            for name in (
                *("COMPOSE_PROJECT_NAME", "KADUN_HTTP_PORT", "KADUN_HTTPS_PORT", "KADUN_DOMAIN"),
                *("KADUN_UID", "KADUN_APP_IMAGE", "KADUN_PYTHON_IMAGE", "KADUN_POSTGRES_IMAGE", "KADUN_NGINX_IMAGE"),
                *("PIP_INDEX_URL", "KADUN_FUNCTIONS_MEMORY", "KADUN_FUNCTIONS_NETWORK"),
                *("KADUN_DB_MEMORY", "KADUN_DB_SHARED_BUFFERS", "KADUN_RATE", "KADUN_BURST"),
                *("KADUN_PROXY_PROTOCOL", "KADUN_PROXY_FROM", "KADUN_ADMIN_ALLOW", "KADUN_RESOLVER", "KADUN_HSTS"),
                *("KADUN_CERTIFICATE_HOSTS", "KADUN_BACKUP_DIR", "KADUN_BACKUP_RECIPIENT", "KADUN_BACKUP_HOOKS"),
                *("KADUN_BACKUP_KEEP_DAILY", "KADUN_BACKUP_KEEP_WEEKLY", "KADUN_BACKUP_KEEP_MONTHLY"),
                *("KADUN_BACKUP_HOOK_SECONDS", "KADUN_BACKUP_WEBHOOK", "KADUN_IDENTITY_COPIED"),
            )
        ),
    )
}
"""Every setting by its name. Those of `.env` alone are read by Compose and by scripts, which have their defaults."""
