"""What an owner sees of the installation in the console; the command line changes it, and no secret is here."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

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


class DiskSpace(NamedTuple):
    """Of the file system that the licensed files lie on, in bytes."""

    total: int
    free: int


class ShownSettings(NamedTuple):
    """The settings that explain what the service does; those of them that name no secret."""

    issuer: str
    timezone: str
    offline_grace: timedelta | None
    require_sealed: bool
    journal_keep_days: int
    function_seconds: int
    behind_proxy: bool
    workers: int
    threads: int


@dataclass(frozen=True, slots=True)
class Health:
    """The installation at one moment. `disk` is None where the folder of licensed files cannot be seen."""

    results: Mapping[str, CheckResult]
    schema: str
    database: DatabaseFigures
    disk: DiskSpace | None
    started_at: datetime
    settings: ShownSettings


class SystemStatus:
    """Looks around.

    Args:
        database: The service's.
        settings: Those that it runs with.
        functions: Asks the service that runs the vendor's code.
        signer: Has the keys.
        clock: Returns the time now, aware.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        functions: FunctionsClient,
        signer: Signer,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._settings = settings
        self._functions = functions
        self._signer = signer
        self._clock = clock
        self._started_at = clock()

    @property
    def issuer(self) -> str:
        """What this installation calls itself."""
        return self._settings.issuer

    def files(self) -> list[StoredFile]:
        """Return the licensed files, by name.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        folder = self._settings.files_dir
        return FileStore.in_folder(self._database, folder, "console", self._clock, warn=lambda _text: None).listed()

    def functions(self) -> Listing:
        """Return what core functions there are, and the modules that are broken.

        Raises:
            FunctionsUnavailableError: the service that runs them is away, or busy (FunctionsBusyError).
        """
        return self._functions.list()

    def keys(self) -> list[PublicKey]:
        """Return the public side of the signing keys, the newest first."""
        return self._signer.public_keys(self._clock())[::-1]

    def pinned(self) -> dict[str, Any]:
        """Return what clients are to pin, as `cardctl key export` prints it."""
        return {"iss": self.issuer, "keys": self._signer.pinned()}

    def health(self) -> Health:
        """Look at everything that is seen from inside the service.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        return Health(
            results=run_checks(Facts(service_if_any=gather_running(self._database, self._settings))),
            schema=schema.expected_version(),
            database=self._database.with_connection(lambda: inspection.figures(self._database.connection())),
            disk=_space(self._settings.files_dir),
            started_at=self._started_at,
            settings=self._shown_settings(),
        )

    def _shown_settings(self) -> ShownSettings:
        settings = self._settings
        return ShownSettings(
            issuer=settings.issuer,
            timezone=settings.timezone.key,
            offline_grace=settings.offline_grace,
            require_sealed=settings.require_sealed,
            journal_keep_days=settings.journal_keep.days,
            function_seconds=settings.function_seconds,
            behind_proxy=settings.behind_proxy,
            workers=settings.workers,
            threads=settings.threads,
        )


def _space(folder: Path) -> DiskSpace | None:
    # The folder is made when the first file comes; its parent's disk is where that will be.
    for place in (folder, folder.parent):
        try:
            usage = shutil.disk_usage(place)
        except OSError:
            continue
        return DiskSpace(usage.total, usage.free)
    return None
