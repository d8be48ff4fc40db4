"""System status: what owners see of the installation in the console, without secrets."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from app.clock import Clock
from app.functions.client import FunctionsClient
from app.functions.messages import Listing
from app.services.doctor import CheckResult, Facts, run_checks
from app.services.doctor.gather import gather_running
from app.services.file_store import FileStore, StoredFile
from app.settings import Settings
from app.storage import inspection, schema
from app.storage.database import Database
from app.storage.inspection import DatabaseFigures
from app.tokens.signer import PublicKey, Signer

_SHOWN = (
    *("issuer", "timezone", "offline_grace", "require_sealed", "owners_need_totp", "confirm_cards", "journal_keep"),
    *("function_seconds", "behind_proxy", "workers", "threads"),
)
"""The settings that explain what the service does, none of them a secret."""


class DiskSpace(NamedTuple):
    """The size of the file system of the licensed files, in bytes."""

    total: int
    free: int


@dataclass(frozen=True, slots=True)
class Health:
    """The installation at one moment.

    `disk` is None if the folder of licensed files cannot be seen; `settings` are the `_SHOWN` ones, and
    `files_bucket`, the name of the bucket.
    """

    results: Mapping[str, CheckResult]
    schema: str
    database: DatabaseFigures
    disk: DiskSpace | None
    started_at: datetime
    settings: dict[str, Any]


class SystemStatus:
    """Read-only status of the installation."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        functions: FunctionsClient,
        signer: Signer,
        clock: Clock,
    ) -> None:
        self._database = database
        self._settings = settings
        self._functions = functions
        self._signer = signer
        self._clock = clock
        self._started_at = clock()

    @property
    def issuer(self) -> str:
        """The installation's name in tokens and authenticator apps."""
        return self._settings.issuer

    def files(self) -> list[StoredFile]:
        """Return the licensed files, by name.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        store = FileStore.of_installation(
            self._database, self._settings, "console", self._clock, warn=lambda _text: None
        )
        return store.listed()

    def functions(self) -> Listing:
        """Return the core functions and the broken modules.

        Raises:
            FunctionsUnavailableError: the service that runs them is away, or (FunctionsBusyError) busy.
        """
        return self._functions.list()

    def keys(self) -> list[PublicKey]:
        """Return the public keys that verify signatures, the newest first."""
        return self._signer.public_keys(self._clock())[::-1]

    def pinned(self) -> dict[str, Any]:
        """Return the keys for clients to pin, as `cardctl key export` prints them."""
        return {"iss": self.issuer, "keys": self._signer.pinned()}

    def health(self) -> Health:
        """Run the checks that are possible inside the service.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        bucket = self._settings.files_bucket
        return Health(
            results=run_checks(Facts(service_if_any=gather_running(self._database, self._settings))),
            schema=schema.expected_version(),
            database=self._database.with_connection(lambda: inspection.figures(self._database)),
            disk=_space(self._settings.files_dir),
            started_at=self._started_at,
            settings={name: getattr(self._settings, name) for name in _SHOWN}
            | {"files_bucket": bucket and bucket.name},
        )


def _space(folder: Path) -> DiskSpace | None:
    # The first file creates the folder, on its parent's disk.
    for place in (folder, folder.parent):
        try:
            usage = shutil.disk_usage(place)
        except OSError:
            continue
        return DiskSpace(usage.total, usage.free)
    return None
