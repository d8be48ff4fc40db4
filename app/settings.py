"""The settings: one frozen dataclass, read from the environment once and passed down."""

import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from app.domain.buckets import Bucket, check_name, check_region, checked_endpoint
from app.domain.cards import ValidityError, parse_duration
from app.domain.hosts import checked_name, default_name
from app.environment import LOG_LEVELS, SettingsError, boolean, choice, integer, required

__all__ = ["Settings", "SettingsError", "bind_from", "database_url_from"]

MAX_PORT = 65_535
_BUCKET_SETTINGS = (
    *("KADUN_FILES_BUCKET_ENDPOINT", "KADUN_FILES_BUCKET_REGION", "KADUN_FILES_BUCKET_STYLE"),
    *("KADUN_FILES_BUCKET_KEY_ID", "KADUN_FILES_BUCKET_SECRET", "KADUN_FILES_BUCKET_CA"),
)
Result = TypeVar("Result")
FOLDER, DATABASE = "folder", "database"
"""Where the signing keys are: in KADUN_KEYS_DIR, or in the database."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings; the environment's names and defaults stand in docs/reference.md.

    Secrets do not appear in the repr.
    """

    database_url: str = field(repr=False)
    host: str
    kernal_data_key: str = field(repr=False)
    sealing_key: str | None = field(repr=False)
    keys_dir: Path
    keys: str
    keys_identity: str | None = field(repr=False)
    files_dir: Path
    files_bucket: Bucket | None
    functions_socket: Path
    function_seconds: int
    issuer: str
    behind_proxy: bool
    require_sealed: bool
    owners_need_totp: bool
    confirm_cards: int
    webhooks_socket: Path | None
    webhook_private: bool
    offline_grace: timedelta | None
    timezone: ZoneInfo
    journal_keep: timedelta
    log_level: str
    bind: str
    workers: int
    threads: int

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Read the settings.

        Raises:
            SettingsError: a setting is wrong or missing.
        """
        grace = env.get("KADUN_OFFLINE_GRACE", "")
        keys, keys_identity = _key_store(env)
        return cls(
            database_url=database_url_from(env),
            host=_host(env),
            kernal_data_key=_secret(env, "KERNAL_DATA_KEY"),
            sealing_key=_sealing_key(env),
            keys_dir=Path(required(env, "KADUN_KEYS_DIR")),
            keys=keys,
            keys_identity=keys_identity,
            files_dir=Path(required(env, "KADUN_FILES_DIR")),
            files_bucket=_bucket(env),
            functions_socket=Path(required(env, "KADUN_FUNCTIONS_SOCKET")),
            function_seconds=integer(env, "KADUN_FUNCTION_SECONDS", 30, 1, 300),
            issuer=env.get("KADUN_ISSUER") or "kadun",
            behind_proxy=boolean(env, "KADUN_BEHIND_PROXY"),
            require_sealed=boolean(env, "KADUN_REQUIRE_SEALED"),
            owners_need_totp=boolean(env, "KADUN_OWNERS_NEED_TOTP"),
            confirm_cards=integer(env, "KADUN_CONFIRM_CARDS", 100, 0, 1_000_000),
            webhooks_socket=Path(env["KADUN_WEBHOOKS_SOCKET"]) if env.get("KADUN_WEBHOOKS_SOCKET") else None,
            webhook_private=boolean(env, "KADUN_WEBHOOK_PRIVATE"),
            offline_grace=_duration("KADUN_OFFLINE_GRACE", grace) if grace else None,
            timezone=_timezone(env.get("KADUN_TIMEZONE") or "Asia/Shanghai"),
            journal_keep=timedelta(days=integer(env, "KADUN_JOURNAL_KEEP_DAYS", 365, 1, 36_500)),
            log_level=choice(env, "KADUN_LOG_LEVEL", "info", LOG_LEVELS),
            bind=bind_from(env),
            workers=integer(env, "KADUN_WORKERS", 2, 1, 64),
            threads=integer(env, "KADUN_THREADS", 8, 1, 64),
        )


def database_url_from(env: Mapping[str, str]) -> str:
    """Return the URL of the database; the migration step needs no other setting.

    Raises:
        SettingsError: it is missing or malformed.
    """
    url = _secret(env, "DATABASE_URL")
    if not url.startswith(("postgresql://", "postgres://")):
        raise SettingsError("DATABASE_URL must be like postgresql://user:password@host:5432/name")
    try:
        ports = parse_dsn(url).get("port", "").split(",")
    except ProgrammingError as error:
        # libpq's message may quote the URL, and with it the password.
        raise SettingsError(
            "DATABASE_URL is malformed: % and other special characters in it must be %-encoded"
        ) from error
    if not all(re.fullmatch(r"[0-9]{0,5}", port) and 0 <= int(port or 1) <= MAX_PORT for port in ports):
        raise SettingsError("DATABASE_URL names a port that is not from 1 to 65535")
    return url


def _host(env: Mapping[str, str]) -> str:
    name = env.get("KADUN_HOST", "")
    return _valid("KADUN_HOST", name, checked_name) if name else default_name(socket.gethostname())


def bind_from(env: Mapping[str, str]) -> str:
    """Return where the service listens, `host:port` or `unix:/path`; a health check needs no other setting.

    Raises:
        SettingsError: it is in neither form.
    """
    value = env.get("KADUN_BIND") or "127.0.0.1:8000"
    if not re.fullmatch(r"unix:/[^\0]+|(\[[0-9a-fA-F:.]+\]|[^:/\s]+):[0-9]{1,5}", value):
        raise SettingsError(f"KADUN_BIND is {value!r}: it must be host:port or unix:/path/to/socket")
    port = value.rpartition(":")[2]
    if not value.startswith("unix:") and not 1 <= int(port) <= MAX_PORT:
        raise SettingsError(f"KADUN_BIND is {value!r}: it must be host:port or unix:/path, the port from 1 to 65535")
    return value


def _sealing_key(env: Mapping[str, str]) -> str | None:
    key = _optional_secret(env, "KADUN_SEALING_KEY")
    if key is not None and not re.fullmatch("[0-9a-f]{64}", key):
        raise SettingsError("KADUN_SEALING_KEY must be 64 random digits from 0-9 and a-f (openssl rand -hex 32)")
    return key


def _bucket(env: Mapping[str, str]) -> Bucket | None:
    name = env.get("KADUN_FILES_BUCKET", "")
    if not name:
        stray = next((one for one in _BUCKET_SETTINGS if env.get(one) or env.get(f"{one}_FILE")), None)
        if stray is not None:
            raise SettingsError(f"{stray} is set without KADUN_FILES_BUCKET, the name of the bucket")
        return None
    virtual_hosted = choice(env, "KADUN_FILES_BUCKET_STYLE", "virtual", ("virtual", "path")) == "virtual"
    _valid("KADUN_FILES_BUCKET", name, partial(check_name, virtual_hosted=virtual_hosted))
    endpoint = required(env, "KADUN_FILES_BUCKET_ENDPOINT")
    region = required(env, "KADUN_FILES_BUCKET_REGION")
    _valid("KADUN_FILES_BUCKET_REGION", region, check_region)
    return Bucket(
        name=name,
        endpoint=_valid("KADUN_FILES_BUCKET_ENDPOINT", endpoint, checked_endpoint),
        region=region,
        key_id=_secret(env, "KADUN_FILES_BUCKET_KEY_ID"),
        secret=_secret(env, "KADUN_FILES_BUCKET_SECRET"),
        virtual_hosted=virtual_hosted,
        certificates=_certificates("KADUN_FILES_BUCKET_CA", env.get("KADUN_FILES_BUCKET_CA", "")),
    )


def _valid(name: str, value: str, check: Callable[[str], Result]) -> Result:
    try:
        return check(value)
    except ValueError as error:
        raise SettingsError(f"{name} is {value!r}: {error}") from error


def _certificates(name: str, path: str) -> str | None:
    if not path:
        return None
    try:
        text = Path(path).read_text("ascii")
        if text.strip():  # Compose mounts an empty file where there is none
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError(f"{name}: cannot read {path}: it holds no certificate in PEM form") from error
    except OSError as error:
        raise SettingsError(f"{name}: cannot read {path}: {error.strerror}") from error
    return text if text.strip() else None


def _key_store(env: Mapping[str, str]) -> tuple[str, str | None]:
    store = choice(env, "KADUN_KEYS", FOLDER, (FOLDER, DATABASE))
    identity = _optional_secret(env, "KADUN_KEYS_IDENTITY")
    if identity is not None and not re.fullmatch("AGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}", identity):
        raise SettingsError("KADUN_KEYS_IDENTITY must be one age identity, AGE-SECRET-KEY-1… (age-keygen)")
    if store == DATABASE and identity is None:
        raise SettingsError("KADUN_KEYS=database needs KADUN_KEYS_IDENTITY, or KADUN_KEYS_IDENTITY_FILE")
    return store, identity


def _optional_secret(env: Mapping[str, str], name: str) -> str | None:
    return _secret(env, name) if env.get(name) or env.get(f"{name}_FILE") else None


def _secret(env: Mapping[str, str], name: str) -> str:
    """Read a secret from NAME, or from the file that NAME_FILE names."""
    path = env.get(f"{name}_FILE", "")
    if path and env.get(name):
        raise SettingsError(f"both {name} and {name}_FILE are set: keep one")
    if not path:
        value = env.get(name, "")
        if not value.strip():
            raise SettingsError(f"{name} is not set: set it, or {name}_FILE to a file that holds it")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise SettingsError(f"{name} is not UTF-8 text")
    else:
        try:
            value = Path(path).read_text("utf-8")
        except OSError as error:
            raise SettingsError(f"{name}_FILE: cannot read {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"{name}_FILE: {path} is not UTF-8 text") from error
        if not value.strip():
            raise SettingsError(f"{name}_FILE: {path} is empty")
    return value.strip()


def _duration(name: str, value: str) -> timedelta:
    try:
        return parse_duration(value)
    except ValidityError as error:
        raise SettingsError(f"{name}: {error}") from error


def _timezone(value: str) -> ZoneInfo:
    try:
        return ZoneInfo(value)
    except (KeyError, OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise SettingsError(f"KADUN_TIMEZONE is {value!r}: it must be a name like Asia/Shanghai") from error
