"""The key ring on disk: one file, `keyring.json`, mode 0600, replaced as a whole by rename."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from app.tokens.keyring import KeyRingError, KeyStore, decoded, encoded
from app.tokens.keys import KeyRing

FILE = "keyring.json"


class KeyFolder(KeyStore):
    """The key ring of one machine, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / FILE

    def version(self) -> tuple[int, int]:
        """Return the file's inode number and its time, which differ after a change."""
        try:
            status = self.file.stat()
        except OSError as error:
            raise self._unreadable(error) from error
        return status.st_ino, status.st_mtime_ns

    def exists(self) -> bool:
        """Tell whether there is a key ring, intact or not."""
        return self.file.exists()

    def load(self) -> KeyRing:
        """Read the key ring."""
        content = self._content()
        try:
            return decoded(content)
        except Exception as error:
            raise KeyRingError(f"the signing keys {self.file} are damaged: put your copy of data/keys back") from error

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Keep all others from changing the ring within the block."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise KeyRingError(
                f"cannot write to the folder of the signing keys {self.folder}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def write(self, ring: KeyRing) -> None:
        """Replace the ring durably."""
        write_file(self.file, encoded(ring))

    def put_aside(self, now: datetime) -> None:
        """Keep what there is as `keyring.replaced-TIME.json`."""
        kept = f"{FILE.removesuffix('.json')}.replaced-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}.json"
        write_file(self.folder / kept, self._content())

    def _content(self) -> bytes:
        try:
            return self.file.read_bytes()
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> KeyRingError:
        return KeyRingError(f"cannot read the signing keys {self.file}: {error.strerror}")


def write_file(path: Path, content: bytes) -> None:
    """Replace a file of the key folder, mode 0600, whole and durably."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
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
