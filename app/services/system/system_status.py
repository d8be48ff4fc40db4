"""System status: what owners see of the installation in the console, without secrets."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from app.domain.programs import issuer_of, named
from app.functions.client import FunctionsClient
from app.runtime.clock import Clock
from app.runtime.settings import Settings
from app.services.files.file_store import FileStore
from app.services.system.doctor.checks import run_checks
from app.services.system.doctor.facts import AllFacts
from app.services.system.doctor.gather import gather_facts
from app.storage import schema
from app.storage.database import Database
from app.storage.models import File
from app.tokens.signer import Signer

_SHOWN = (
    *("issuer", "timezone", "offline_grace", "require_sealed", "owners_need_totp", "confirm_cards", "journal_keep"),
    *("function_seconds", "behind_proxy", "workers", "threads"),
)
"""The settings that explain what the service does, none of them a secret."""
# Sizes are in bytes, indexes included; `journal_rows` is PostgreSQL's estimate, if it has one.
_FIGURES = """
SELECT current_setting('server_version') AS version, pg_postmaster_start_time() AS started_at,
    pg_database_size(current_database()) AS size,
    (SELECT nullif(reltuples, -1)::bigint FROM pg_class WHERE oid = 'event'::regclass) AS journal_rows,
    pg_total_relation_size('event') AS journal_size
"""


@dataclass(frozen=True, slots=True)
class SystemStatus:
    """Read-only status of the installation, whose service started at `started_at`."""

    database: Database
    settings: Settings
    functions: FunctionsClient
    signer: Signer
    clock: Clock
    started_at: datetime

    def files(self, program: str | None) -> list[File]:
        """Return the licensed files of a program, None for all, by name."""
        store = FileStore.of_installation(self.database, self.settings, "console", self.clock, lambda _text: None)
        return store.listed(program)

    def pinned(self, program: str) -> dict[str, Any]:
        """Return the keys for clients of a program to pin, as `cardctl key export` prints them."""
        return {"iss": issuer_of(self.settings.issuer, program), **named(program), "keys": self.signer.pinned()}

    def health(self) -> dict[str, Any]:
        """Return what the page of the system's health shows, with the results of the checks possible in the service."""
        bucket = self.settings.files_bucket
        figures = self.database.execute_sql(_FIGURES)
        database = dict(zip((column.name for column in figures.description), figures.fetchone(), strict=True))
        return {
            "results": run_checks(AllFacts(service_if_any=gather_facts(self.settings, self.database))),
            "schema": schema.expected_version(),
            "database": database,
            "disk": _space(self.settings.files_dir),
            "started_at": self.started_at,
            "settings": {name: getattr(self.settings, name) for name in _SHOWN}
            | {"files_bucket": bucket and bucket.name},
        }


def _space(folder: Path) -> Any:  # noqa: ANN401  # shutil's type is private; None if the disk cannot be seen
    # The first file creates the folder, on its parent's disk.
    for place in (folder, folder.parent):
        with suppress(OSError):
            return shutil.disk_usage(place)
    return None
