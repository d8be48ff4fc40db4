"""The settings of the service: one frozen dataclass, read from the environment once and passed down."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from psycopg2 import ProgrammingError
from psycopg2.extensions import parse_dsn

from app.domain.files.buckets import Bucket, check_name
from app.domain.hosts import default_name
from app.runtime.environment import MAX_PORT, SettingsError, is_set, missing, value

__all__ = ["Settings", "SettingsError", "database_url_from"]

_NEEDED_WITH_BUCKET = tuple(f"KADUN_FILES_BUCKET_{part}" for part in ("ENDPOINT", "REGION", "KEY_ID", "SECRET"))
_OF_BUCKET = (*_NEEDED_WITH_BUCKET, "KADUN_FILES_BUCKET_STYLE", "KADUN_FILES_BUCKET_CA")
FOLDER, DATABASE = "folder", "database"
"""Where the signing keys are: in KADUN_KEYS_DIR, or in the database."""
_NAMES = {
    "database_url": "DATABASE_URL",
    "kernal_data_key": "KERNAL_DATA_KEY",
    "journal_keep": "KADUN_JOURNAL_KEEP_DAYS",
}
"""The settings that are not called as their attribute, after KADUN_."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, as docs/reference.md explains them. Secrets do not appear in the repr."""

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
        """Read the settings; raise SettingsError if a setting is wrong or missing."""
        if value(env, "KADUN_KEYS") == DATABASE and value(env, "KADUN_KEYS_IDENTITY") is None:
            raise SettingsError("KADUN_KEYS=database needs KADUN_KEYS_IDENTITY, or KADUN_KEYS_IDENTITY_FILE")
        url = database_url_from(env)
        read = {one.name: value(env, _NAMES.get(one.name, f"KADUN_{one.name.upper()}")) for one in fields(cls)}
        host = read["host"] or default_name(socket.gethostname())
        return cls(**read | {"database_url": url, "host": host, "files_bucket": _bucket(env)})


def database_url_from(env: Mapping[str, str]) -> str:
    """Return the URL of the database, or raise SettingsError; the migration step needs no other setting."""
    url: str = value(env, "DATABASE_URL")
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


def _bucket(env: Mapping[str, str]) -> Bucket | None:
    name = value(env, "KADUN_FILES_BUCKET")
    given = [one for one in _OF_BUCKET if is_set(env, one)]
    if name is None:
        if given:
            raise SettingsError(f"{given[0]} is set without KADUN_FILES_BUCKET, the name of the bucket")
        return None
    for needed in _NEEDED_WITH_BUCKET:
        if needed not in given:
            raise missing(needed)
    virtual_hosted = value(env, "KADUN_FILES_BUCKET_STYLE") == "virtual"
    try:
        check_name(name, virtual_hosted=virtual_hosted)
    except ValueError as error:
        raise SettingsError(f"KADUN_FILES_BUCKET is {name!r}: {error}") from error
    endpoint, region, key_id, secret = (value(env, needed) for needed in _NEEDED_WITH_BUCKET)
    certificates = value(env, "KADUN_FILES_BUCKET_CA")
    return Bucket(name, endpoint, region, key_id, secret, virtual_hosted=virtual_hosted, certificates=certificates)
