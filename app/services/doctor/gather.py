"""Gathers the facts where the service runs. Nothing that is missing or broken stops it."""

import contextlib
import ctypes
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import peewee

import app
from app.domain.errors import BucketUnavailableError, UnavailableError
from app.domain.texts import Text
from app.functions.client import FunctionsClient, FunctionsUnavailableError
from app.services.doctor.facts import DatabaseFacts, HostFacts, ServiceFacts
from app.services.doctor.gather_database import database_facts
from app.services.signing_keys import SigningKeys
from app.settings import Settings, SettingsError, database_url_from, host_from
from app.storage import schema
from app.storage.blobs import Blobs
from app.storage.database import Database, connect_to
from app.tokens import canary, sealing
from app.tokens.key_folder import KeyFolder
from app.tokens.keyring import KeyRingError, KeyStore
from app.tokens.keys import KeyRing
from app.tokens.sealing_key import SealingKey

_TIMEX_BYTES = 512  # more than a struct timex holds
_FUNCTIONS_SECONDS = 5
_UNSYNCHRONISED = 5  # TIME_ERROR, adjtimex(2)
MOUNTS = {
    "KADUN_KEYS_DIR": "data/keys",
    "KADUN_FILES_DIR": "data/files",
    "KERNAL_DATA_KEY_FILE": "secrets/kernal_data_key",
    "KADUN_SEALING_KEY_FILE": "secrets/sealing_key",
    "KADUN_KEYS_IDENTITY_FILE": "secrets/keys_identity",
    "DATABASE_URL_FILE": "secrets/database_url",
}
"""The settings with the paths of what the app's container mounts, and where that lies in the checkout."""
MAX_COMPARED_BYTES = 512 * 1024 * 1024  # of licensed files: one to five seconds
MAX_COMPARED_BUCKET_BYTES = 64 * 1024 * 1024  # the vendor pays for what leaves a bucket


def gather(env: Mapping[str, str], host: HostFacts | None) -> ServiceFacts:
    """Gather the facts from the environment of a service, which may be unable to start.

    Args:
        env: The environment.
        host: Its probes of the proxy are looked up in the journal, and removed from there.
    """
    error, settings, keys = None, None, None
    try:
        settings = Settings.from_env(env)
    except SettingsError as problem:
        error = str(problem)
    references = [probe.reference for probe in host.proxy if probe.reference] if host else []
    files_dir = Path(env.get("KADUN_FILES_DIR") or "files")
    bucket = settings.files_bucket if settings else None
    blobs = Blobs(files_dir, bucket)
    try:
        connected = connect_to(Database(database_url_from(env), host=host_from(env)))
        key = SealingKey(settings.sealing_key if settings else None)
        most = MAX_COMPARED_BYTES if bucket is None else MAX_COMPARED_BUCKET_BYTES
        database = database_facts(connected, references, blobs, key, most)
        keys = SigningKeys(connected, settings) if settings else None
    except SettingsError as problem:
        database = str(problem)
    return _service_facts(
        database,
        keys,
        keys_dir=Path(env.get("KADUN_KEYS_DIR") or "keys"),
        files_dir=files_dir,
        blobs=blobs,
        functions_socket=Path(env.get("KADUN_FUNCTIONS_SOCKET") or "functions.sock"),
        data_key=settings.kernal_data_key if settings else "",
        behind_proxy=env.get("KADUN_BEHIND_PROXY") == "true",
        settings_error=error,
        inodes=_inodes({path: Path(env[name]) for name, path in MOUNTS.items() if env.get(name)}),
    )


def gather_running(database: Database, settings: Settings) -> ServiceFacts:
    """Gather the facts that a running service sees of itself; its settings are right, or it would not run."""
    blobs = Blobs(settings.files_dir, settings.files_bucket)
    return _service_facts(
        database_facts(database, (), blobs, SealingKey(settings.sealing_key), compare_bytes=0),
        SigningKeys(database, settings),
        keys_dir=settings.keys_dir,
        files_dir=settings.files_dir,
        blobs=blobs,
        functions_socket=settings.functions_socket,
        data_key=settings.kernal_data_key,
        behind_proxy=settings.behind_proxy,
    )


def _service_facts(  # noqa: PLR0913  # a setting each
    database: DatabaseFacts | str,
    keys: SigningKeys | None,
    *,
    keys_dir: Path,
    files_dir: Path,
    blobs: Blobs,
    functions_socket: Path,
    data_key: str,
    behind_proxy: bool,
    settings_error: str | None = None,
    inodes: dict[str, int] | None = None,
) -> ServiceFacts:
    functions, broken = _functions(functions_socket)
    ring = _key_ring(keys.store if keys else KeyFolder(keys_dir))
    is_unwritable = files_dir.exists() and not os.access(files_dir, os.W_OK | os.X_OK)
    return ServiceFacts(
        settings_error=settings_error,
        behind_proxy=behind_proxy,
        schema_expected=schema.expected_version(),
        database=database,
        key_ids=ring if isinstance(ring, str) else tuple(key.kid for key in ring.keys),
        newest_key_at=None if isinstance(ring, str) else ring.keys[-1].created_at,
        keys_moved_to=_keys_moved_to(keys),
        data_key=tuple(_is_identity(line) for line in data_key.splitlines() if line.strip()),
        data_key_length=len(data_key),
        data_key_in_use=_data_key_in_use(keys_dir, data_key),
        key_modes=_modes(keys_dir, KeyFolder(keys_dir).file),
        clock_synchronised=_clock_synchronised(),
        unwritable_folder=str(files_dir) if is_unwritable else None,
        bucket=_bucket(blobs),
        functions=functions,
        broken=broken,
        program=_program(Path(app.__file__).parent),
        inodes=inodes or {},
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


def _key_ring(store: KeyStore) -> KeyRing | str:
    try:
        return store.load()
    except (KeyRingError, UnavailableError, peewee.PeeweeException) as error:
        return str(error)


def _keys_moved_to(keys: SigningKeys | None) -> str | None:
    try:
        return keys.moved_to() if keys else None
    except (UnavailableError, peewee.PeeweeException):  # other checks tell
        return None


def _data_key_in_use(folder: Path, data_key: str) -> bool | str | None:
    try:
        return canary.is_in_use(folder, data_key)
    except KeyRingError as error:
        return str(error)


def _is_identity(line: str) -> bool:
    try:
        sealing.age_recipient(line)
    except sealing.NoRecipientError:
        return False
    return True


def _modes(*paths: Path) -> dict[str, int]:
    modes = {}
    for path in paths:
        with contextlib.suppress(OSError):
            modes[str(path)] = path.stat().st_mode & 0o7777
    return modes


def _inodes(paths: Mapping[str, Path]) -> dict[str, int]:
    inodes = {}
    for name, path in paths.items():
        with contextlib.suppress(OSError):
            inodes[name] = path.stat().st_ino
    return inodes


def _clock_synchronised() -> bool | None:
    """Ask the kernel, which every container shares with its host, as timedatectl does; None where it does not tell."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):  # no such function: another kernel
        return None
    return None if state < 0 else state != _UNSYNCHRONISED


def _program(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each of the program's files, as scripts/lib/hostfacts.py does for those of the checkout."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.py")
        if path.is_file()
    }
