"""Looks around where the service runs. Nothing here judges, and nothing that is missing or broken stops it."""

import ctypes
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import peewee
import psycopg2

import app
from app.clock import utc_now
from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.functions.client import FunctionsClient, FunctionsUnavailableError
from app.services.doctor.facts import DatabaseFacts, InsideFacts, Mode, Role
from app.settings import Settings, SettingsError, database_url_from
from app.storage import files, inspection, schema
from app.storage.blobs import Blob, Blobs
from app.storage.database import Database, connect_to
from app.tokens import keyring, sealing

_TIMEX_BYTES = 512  # more than a struct timex holds
_FUNCTIONS_SECONDS = 5
_UNSYNCHRONISED = 5  # TIME_ERROR, adjtimex(2)


def gather(env: Mapping[str, str], references: Sequence[str]) -> InsideFacts:
    """Look at everything once.

    Args:
        env: The environment of the service.
        references: Verdicts whose entries in the journal are wanted.
    """
    error, data_key, behind_proxy = None, "", env.get("KADUN_BEHIND_PROXY") == "true"
    try:
        data_key = Settings.from_env(env).kernal_data_key
    except SettingsError as problem:
        error = str(problem)
    keys_dir = Path(env.get("KADUN_KEYS_DIR") or "keys")
    files_dir = Path(env.get("KADUN_FILES_DIR") or "files")
    places = _Places(keys_dir, files_dir, Path(env.get("KADUN_FUNCTIONS_SOCKET") or "functions.sock"))
    facts = _facts(_database(env, references, files_dir), places, data_key)
    program = program_digest(Path(app.__file__).parent)
    return replace(facts, settings=error, behind_proxy=behind_proxy, program=program)


def look(database: Database, settings: Settings) -> InsideFacts:
    """Look at everything that a running service sees of itself; its settings are right, or it would not run."""
    places = _Places(settings.keys_dir, settings.files_dir, settings.functions_socket)
    facts = _facts(_told(database, (), settings.files_dir), places, settings.kernal_data_key)
    return replace(facts, behind_proxy=settings.behind_proxy)


class _Places(NamedTuple):
    keys_dir: Path
    files_dir: Path
    functions_socket: Path


def _facts(database: DatabaseFacts | str, places: _Places, data_key: str) -> InsideFacts:
    keys_dir, files_dir, socket = places
    functions, broken = _functions(socket)
    return InsideFacts(
        settings=None,
        behind_proxy=False,
        schema_expected=schema.expected_version(),
        database=database,
        key_ids=_key_ids(keys_dir),
        data_key=tuple(_is_identity(line) for line in data_key.splitlines() if line.strip()),
        data_key_length=len(data_key),
        modes=(_mode(keys_dir, 0o700), _mode(keys_dir / keyring.FILE, 0o600)),
        kernel_synchronised=_kernel_synchronised(),
        program="",
        closed_folder=str(files_dir) if files_dir.exists() and not os.access(files_dir, os.W_OK | os.X_OK) else None,
        functions=functions,
        broken=broken,
    )


def _functions(socket: Path) -> tuple[int | None, tuple[str, ...]]:
    try:
        loaded = FunctionsClient(socket, _FUNCTIONS_SECONDS).list()
    except FunctionsUnavailableError:
        return None, ()
    return len(loaded.functions), tuple(one.module for one in loaded.broken)


def _database(env: Mapping[str, str], references: Sequence[str], files_dir: Path) -> DatabaseFacts | str:
    try:
        database = connect_to(Database(database_url_from(env)))
    except SettingsError as error:
        return str(error)
    return _told(database, references, files_dir)


def _told(database: Database, references: Sequence[str], files_dir: Path) -> DatabaseFacts | str:
    try:
        return database.with_connection(lambda: _ask(database, references, Blobs(files_dir)))
    except (DatabaseUnavailableError, ConflictError) as error:
        return str(error)
    except (psycopg2.Error, peewee.PeeweeException) as error:  # whoever may not even read the tables
        return str(error).strip().split("\n")[0]


def _ask(database: Database, references: Sequence[str], blobs: Blobs) -> DatabaseFacts:
    connection = database.connection()
    before = utc_now()
    theirs = inspection.clock(connection)
    offset = theirs - before - (utc_now() - before) / 2
    found = schema.current_version(connection)
    database.rollback()  # an empty database has refused the question
    if found is None:
        return DatabaseFacts(None, offset.total_seconds(), ())
    roles = tuple(Role(name, tuple(wrong)) for name, wrong in inspection.role_problems(connection).items())
    recorded = inspection.recorded_addresses(references) if references else {}
    if references:
        inspection.forget(references)
    known = found == schema.expected_version()
    listed = [row for row, _ in files.listed()] if known else None
    lost = [row.name for row in listed or () if not blobs.holds(Blob(row.sha256, row.size))]
    return DatabaseFacts(
        found,
        offset.total_seconds(),
        roles,
        recorded,
        files=None if listed is None else len(listed),
        lost_files=tuple(lost),
        operators=inspection.operators() if known else None,
    )


def _key_ids(folder: Path) -> tuple[str, ...] | str:
    try:
        ring = keyring.load(folder)
    except keyring.KeyRingError as error:
        return str(error)
    return ring.current.kid, ring.keys[-1].kid


def _is_identity(line: str) -> bool:
    try:
        sealing.age_recipient(line)
    except sealing.NoRecipientError:
        return False
    return True


def _mode(path: Path, allowed: int) -> Mode:
    try:
        return Mode(str(path), path.stat().st_mode & 0o7777, allowed)
    except OSError:
        return Mode(str(path), None, allowed)


def _kernel_synchronised() -> bool | None:
    """Ask the kernel, which every container shares with its host; None where it does not tell."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):  # no such function: another kernel
        return None
    return None if state < 0 else state != _UNSYNCHRONISED


def program_digest(folder: Path) -> str:
    """Return the digest of the program's files, as `sha256sum` would print it (scripts/lib/hostfacts.sh)."""
    files = sorted(
        (path for path in folder.rglob("*.py") if path.is_file()), key=lambda p: os.fsencode(p.relative_to(folder))
    )
    lines = (f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder)}\n" for p in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
