"""System status: what owners see of the installation in the console, without secrets."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from app.clock import Clock
from app.functions.client import FunctionsClient
from app.services.doctor import CheckResult, Facts, run_checks
from app.services.doctor.gather import gather_running
from app.services.file_store import FileStore, StoredFile
from app.settings import Settings
from app.storage import schema
from app.storage.database import Database
from app.tokens.signer import PublicKey, Signer

_SHOWN = (
    *("issuer", "timezone", "offline_grace", "require_sealed", "owners_need_totp", "confirm_cards", "journal_keep"),
    *("function_seconds", "behind_proxy", "workers", "threads"),
)
"""The settings that explain what the service does, none of them a secret."""


_FIGURES = """
SELECT current_setting('server_version'), pg_postmaster_start_time(), pg_database_size(current_database()),
    (SELECT nullif(reltuples, -1)::bigint FROM pg_class WHERE oid = 'event'::regclass),
    pg_total_relation_size('event')
"""


class DatabaseFigures(NamedTuple):
    """PostgreSQL's version and start, sizes in bytes, indexes included; `journal_rows` is its estimate, if any."""

    version: str
    started_at: datetime
    size: int
    journal_rows: int | None
    journal_size: int


@dataclass(frozen=True, slots=True)
class Health:
    """The installation at one moment.

    `disk` is what `shutil.disk_usage` says of the licensed files' file system, None if it cannot be seen; `settings`
    are the `_SHOWN` ones, and `files_bucket`, the name of the bucket.
    """

    results: Mapping[str, CheckResult]
    schema: str
    database: DatabaseFigures
    disk: Any
    started_at: datetime
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """Read-only status of the installation, whose service started at `started_at`."""

    database: Database
    settings: Settings
    functions: FunctionsClient
    signer: Signer
    clock: Clock
    started_at: datetime

    def files(self) -> list[StoredFile]:
        """Return the licensed files, by name."""
        store = FileStore.of_installation(self.database, self.settings, "console", self.clock, warn=lambda _text: None)
        return store.listed()

    def keys(self) -> list[PublicKey]:
        """Return the public keys that verify signatures, the newest first."""
        return self.signer.public_keys(self.clock())[::-1]

    def pinned(self) -> dict[str, Any]:
        """Return the keys for clients to pin, as `cardctl key export` prints them."""
        return {"iss": self.settings.issuer, "keys": self.signer.pinned()}

    def health(self) -> Health:
        """Run the checks that are possible inside the service."""
        bucket = self.settings.files_bucket
        return Health(
            results=run_checks(Facts(service_if_any=gather_running(self.database, self.settings))),
            schema=schema.expected_version(),
            database=DatabaseFigures(*self.database.execute_sql(_FIGURES).fetchone()),
            disk=_space(self.settings.files_dir),
            started_at=self.started_at,
            settings={name: getattr(self.settings, name) for name in _SHOWN} | {"files_bucket": bucket and bucket.name},
        )


def _space(folder: Path) -> Any:  # noqa: ANN401  # shutil's type is private
    # The first file creates the folder, on its parent's disk.
    for place in (folder, folder.parent):
        with suppress(OSError):
            return shutil.disk_usage(place)
    return None
