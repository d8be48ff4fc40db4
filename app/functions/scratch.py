"""Folders for what calls write while they run: one customer's files are not there for the next, and do not add up."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

# Not where `tempfile` looks: a module may have told it another place, and at last it takes the vendor's folder.
_ROOT = Path("/tmp")  # noqa: S108


def make(zygote: int) -> Path:
    """Make a folder for a call.

    Args:
        zygote: The process that the call comes from: `remove_all` finds its folders.

    Raises:
        OSError: there is no room.
    """
    return Path(tempfile.mkdtemp(prefix=_prefix(zygote), dir=_ROOT))


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it; all who could write there have ended."""
    with contextlib.suppress(OSError):
        folder.rmdir()  # nearly always it is empty
        return
    with contextlib.suppress(OSError, RecursionError):
        _open_up(folder)
        shutil.rmtree(folder)


def remove_all(zygote: int) -> None:
    """Remove what calls of a zygote have left whose supervisors were killed."""
    for folder in _ROOT.glob(f"{_prefix(zygote)}*"):
        remove(folder)


def _prefix(zygote: int) -> str:
    return f"kadun-call-{zygote}-"


def _open_up(folder: Path) -> None:
    """Give us back the right to empty folders that the function has locked."""
    folder.chmod(0o700)
    for where, folders, _ in os.walk(folder):
        for inner in (Path(where, name) for name in folders):
            if not inner.is_symlink():
                inner.chmod(0o700)
