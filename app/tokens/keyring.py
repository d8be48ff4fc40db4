"""The key ring on disk: one file, `keyring.json`, mode 0600, replaced as a whole by rename."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from app.tokens.keys import RETIRED_FOR, KeyRing

FILE = "keyring.json"


class KeyRingError(Exception):
    """The key ring is missing, unreadable or damaged. The message says what to do."""


def load(folder: Path) -> KeyRing:
    """Read the key ring.

    Raises:
        KeyRingError: it is missing, unreadable or damaged.
    """
    path = folder / FILE
    try:
        return _decoded(_content(folder))
    except KeyRingError:
        raise
    except Exception as error:
        raise KeyRingError(f"the signing keys {path} are damaged: put your copy of data/keys back") from error


def _decoded(content: bytes) -> KeyRing:
    ring = msgspec.json.decode(content, type=KeyRing)
    ring.check()
    return ring


def exists(folder: Path) -> bool:
    """Tell whether the folder has a key ring."""
    return (folder / FILE).exists()


def create(folder: Path, now: datetime, issuer: str) -> KeyRing:
    """Create a key ring with a current and a next key, or return the existing one.

    Args:
        folder: Where the key ring is.
        now: The time, aware.
        issuer: The server's name (`iss`), which endorsements carry.

    Raises:
        KeyRingError: the folder cannot be written, or the existing ring cannot be read.
    """
    with _locked(folder):
        if exists(folder):
            return load(folder)
        ring = KeyRing.new(now, issuer)
        _write(folder, ring)
        return ring


def rotate(folder: Path, now: datetime, issuer: str, *, force: bool = False) -> KeyRing:
    """Make the next key the current one; running services take it up within seconds.

    A second rotation while the key retired last is still published could come between a client's request and its
    look at the key set.

    Args:
        folder: Where the key ring is.
        now: The time, aware.
        issuer: The server's name (`iss`), which endorsements carry.
        force: Rotate although the last rotation was less than `RETIRED_FOR` ago.

    Raises:
        KeyRingError: there is no readable key ring, the folder cannot be written, or the last rotation was less than
            `RETIRED_FOR` ago.
    """
    with _locked(folder):
        ring = load(folder)
        again_at = ring.rotates_again_at
        if again_at is not None and now < again_at and not force:
            minutes = f"{RETIRED_FOR // timedelta(minutes=1)}"
            when = again_at.strftime("%Y-%m-%d %H:%M:%S %Z")
            raise KeyRingError(
                f"距上次轮换不足 {minutes} 分钟，未更改：请在 {when} 之后轮换，或用 --force "
                f"/ the last rotation was less than {minutes} minutes ago, nothing was changed: "
                f"rotate after {when}, or use --force"
            )
        ring = ring.rotated(now, issuer)
        _write(folder, ring)
        return ring


def restore(folder: Path, content: bytes, now: datetime) -> bool:
    """Put a copied key ring in place, unless the present ring is newer; return whether the copy is in place.

    Clients refuse keys older than those that they have seen, so an old copy must not replace a ring that continues
    it. Any other ring, an unrelated one such as a first start makes, or a damaged one, is kept beside the new one as
    `keyring.replaced-TIME.json`.

    Args:
        folder: Where the key ring is.
        content: The content of the copied `keyring.json`.
        now: The time, aware.

    Raises:
        KeyRingError: the copy is damaged, or the folder cannot be written. Nothing was changed.
    """
    try:
        copy = _decoded(content)
    except Exception as error:
        raise KeyRingError(
            "这不是完好的 keyring.json，未更改 / this is not an intact keyring.json: nothing was changed"
        ) from error
    with _locked(folder):
        if exists(folder):
            try:
                present = load(folder)
            except KeyRingError:
                present = None
            if present == copy:
                return True
            if present is not None and present.is_newer_than(copy):
                return False
            kept = f"{FILE.removesuffix('.json')}.replaced-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.json"
            write_file(folder / kept, _content(folder))
        _write(folder, copy)
        return True


def _content(folder: Path) -> bytes:
    try:
        return (folder / FILE).read_bytes()
    except OSError as error:
        raise KeyRingError(f"cannot read the signing keys {folder / FILE}: {error.strerror}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise KeyRingError(f"cannot write to the folder of the signing keys {folder}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def encoded(ring: KeyRing) -> bytes:
    """Return the content of the file for a ring."""
    return msgspec.json.format(msgspec.json.encode(ring), indent=1)


def _write(folder: Path, ring: KeyRing) -> None:
    write_file(folder / FILE, encoded(ring))


def write_file(path: Path, content: bytes) -> None:
    """Replace a file of the key folder, mode 0600, whole and durably.

    Raises:
        KeyRingError: the folder cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeyRingError(
            f"cannot write {path.name} in the folder of the signing keys {path.parent}: {error.strerror}"
        ) from error
