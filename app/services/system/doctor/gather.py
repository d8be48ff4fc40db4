"""Gathers the facts where the service runs. Nothing that is missing or broken stops it."""

import contextlib
import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import peewee

from app.domain.errors import BucketUnavailableError, UnavailableError
from app.domain.texts import Text
from app.functions.client import FunctionsClient, FunctionsUnavailableError
from app.runtime.settings import Settings, SettingsError
from app.services.keys.signing_keys import SigningKeys
from app.services.system.doctor.facts import AllFacts, Fact, HostFacts, ServiceFacts
from app.services.system.doctor.gather_database import database_facts
from app.storage import schema
from app.storage.blobs import Blobs
from app.storage.database import Database, connect_to
from app.tokens import data_key_marks, sealing
from app.tokens.key_folder import KeyFolder
from app.tokens.keyring import KeyRingError
from app.tokens.sealing_key import SealingKey

_TIMEX_BYTES = 512  # more than a struct timex holds
_FUNCTIONS_SECONDS = 5
_UNSYNCHRONISED = 5  # TIME_ERROR, adjtimex(2)


def gather(env: Mapping[str, str], host: HostFacts | None) -> AllFacts:
    """Gather a service's facts by its environment; the host's probes of the proxy are removed from the journal."""
    try:
        settings = Settings.from_env(env)
    except SettingsError as error:
        return AllFacts(host, settings_error=str(error))
    references = [probe.reference for probe in host.proxy if probe.reference] if host else []
    return AllFacts(host, gather_facts(settings, connect_to(Database(settings.database_url)), references))


def gather_facts(settings: Settings, database: Database, references: Sequence[str] = ()) -> ServiceFacts:
    """Gather the facts that a service sees of itself."""
    keys_dir, files_dir, data_key = settings.keys_dir, settings.files_dir, settings.kernal_data_key
    blobs = Blobs(files_dir, settings.files_bucket)
    keys = SigningKeys(database, settings)
    ring = _or_error(keys.store.load)
    functions, broken = _functions(settings.functions_socket)
    is_unwritable = files_dir.exists() and not os.access(files_dir, os.W_OK | os.X_OK)
    return ServiceFacts(
        behind_proxy=settings.behind_proxy,
        schema_expected=schema.expected_version(),
        database=database_facts(database, references, blobs, SealingKey(settings.sealing_key)),
        key_ids=ring if isinstance(ring, str) else tuple(key.kid for key in ring.keys),
        key_modes=_modes(keys_dir, KeyFolder(keys_dir).file),
        keys_moved_to=_keys_moved_to(keys),
        newest_key_at=None if isinstance(ring, str) else ring.keys[-1].created_at,
        data_key=tuple(sealing.is_identity(line) for line in data_key.splitlines() if line.strip()),
        data_key_length=len(data_key),
        data_key_in_use=_or_error(lambda: data_key_marks.is_in_use(keys_dir, data_key)),
        clock_synchronised=_clock_synchronised(),
        unwritable_folder=str(files_dir) if is_unwritable else None,
        bucket=_bucket(blobs),
        functions=functions,
        broken=broken,
    )


def _bucket(blobs: Blobs) -> Text | bool:
    if blobs.bucket is None:
        return False
    try:
        blobs.bucket.check()
    except BucketUnavailableError as error:
        return error.text
    return True


def _functions(socket: Path) -> tuple[int | None, tuple[str, ...]]:
    try:
        loaded = FunctionsClient(socket, _FUNCTIONS_SECONDS).list()
    except FunctionsUnavailableError:
        return None, ()
    return len(loaded.functions), tuple(one.module for one in loaded.broken)


def _or_error(read: Callable[[], Fact]) -> Fact | str:
    try:
        return read()
    except (KeyRingError, UnavailableError, peewee.PeeweeException) as error:
        return str(error)


def _keys_moved_to(keys: SigningKeys) -> str | None:
    try:
        return keys.moved_to()
    except (UnavailableError, peewee.PeeweeException):  # other checks tell
        return None


def _modes(*paths: Path) -> dict[str, int]:
    modes = {}
    for path in paths:
        with contextlib.suppress(OSError):
            modes[str(path)] = path.stat().st_mode & 0o7777
    return modes


def _clock_synchronised() -> bool | None:
    """Ask the kernel, which every container shares with its host, as timedatectl does; None where it does not tell."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):  # no such function: another kernel
        return None
    return None if state < 0 else state != _UNSYNCHRONISED
