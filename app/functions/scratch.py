"""The temporary folder of each call, removed after it: no call finds the files of another, and they do not add up."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

# Not `tempfile.gettempdir()`, which a module may have changed.
_ROOT = Path("/tmp")  # noqa: S108


def create(zygote: int) -> Path:
    """Create a folder for a call.

    Args:
        zygote: The process that the call is forked from, by which `remove_all` finds the folder.

    Raises:
        OSError: the disk is full.
    """
    return Path(tempfile.mkdtemp(prefix=_prefix(zygote), dir=_ROOT))


def remove(folder: Path) -> None:
    """Remove a folder and its contents, when every process that could write there has ended."""
    with contextlib.suppress(OSError):
        folder.rmdir()  # nearly always it is empty
        return
    with contextlib.suppress(OSError, RecursionError):
        _open_up(folder)
        shutil.rmtree(folder)


def remove_all(zygote: int) -> None:
    """Remove the folders of a zygote's calls whose supervisors were killed."""
    for folder in _ROOT.glob(f"{_prefix(zygote)}*"):
        remove(folder)


def _prefix(zygote: int) -> str:
    return f"kadun-call-{zygote}-"


def _open_up(folder: Path) -> None:
    """Restore our permission to empty the folders, which the function may have taken away."""
    folder.chmod(0o700)
    for where, folders, _ in os.walk(folder):
        for inner in (Path(where, name) for name in folders):
            if not inner.is_symlink():
                inner.chmod(0o700)
