"""What a move and a machine that joins take along, and what is taken from a bundle.

Runs with the host's python3 (3.10 or newer).
"""

import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from manifest import ArchiveError
from regular import NotRegularError, opened

_BOTH = r"""env
    | secrets/(kernal_data_key|sealing_key|keys_identity|backup_identity|backup_webhook)
    | secrets/files_bucket_(key_id|secret) | https_certificates/bucket-ca\.pem
    | https_certificates/(self-signed-)?(fullchain|privkey)\.pem
    | data/functions/.+"""
"""No program that the host runs is among it, and no configuration of nginx."""


@dataclass(frozen=True)
class Cargo:
    """What travels.

    Attributes:
        names: The names of the files.
        folders: Those that have files of these names.
        irreplaceable: The files without which nothing travels.
    """

    names: re.Pattern[str]
    folders: tuple[str, ...]
    irreplaceable: tuple[str, ...]

    def travels(self, name: str, *, is_folder: bool = False) -> bool:
        """Return whether a file travels, or files of a folder may."""
        if is_folder:
            return name in {"data", *self.folders} or self.travels(f"{name}/file")
        return self.names.fullmatch(name) is not None


_FOLDERS = ("secrets", "https_certificates", "data/functions")
_MOVED = re.compile(
    _BOTH
    + r"""| database\.(dump|sql)
    | data/keys/(keyring(\.replaced-[^/]+)?|data-key)\.json
    | data/files/[0-9a-f]{64}""",
    re.VERBOSE,
)
_URLS = tuple(f"secrets/{role}_url" for role in ("owner", "backup", "database"))
_SECRETS = ("env", "secrets/kernal_data_key")


def _move(keys: str) -> Cargo:
    return Cargo(_MOVED, (*_FOLDERS, "data/keys", "data/files"), (*_SECRETS, keys))


CARGOES = {
    "folder": _move("data/keys/keyring.json"),
    "database": _move("secrets/keys_identity"),
    "join": Cargo(
        re.compile(f"{_BOTH} | {'|'.join(_URLS)}", re.VERBOSE),
        _FOLDERS,
        (*_SECRETS, "secrets/sealing_key", "secrets/keys_identity", *_URLS),
    ),
}
"""What a move takes along, with the signing keys in the folder or in the database; and what a machine needs to join."""


def stage(checkout: Path, folder: Path, name: str) -> None:
    """Gather everything but the database in a folder: the cargo of this name.

    Hard links are safe: the service replaces its files and never writes into them.

    Raises:
        ArchiveError: something is neither a file nor a folder, or an irreplaceable file is missing.
    """
    cargo = CARGOES[name]
    for path in cargo.folders:
        (folder / path).mkdir(parents=True)
        if (checkout / path).is_dir():
            _link_all(checkout, checkout / path, folder, cargo)
    shutil.copyfile(checkout / ".env", folder / "env")
    for path in cargo.irreplaceable:
        if not (folder / path).is_file():
            raise ArchiveError(f"缺少此文件，无法导出 nothing can be exported without it: {checkout / path}")


def hooks_in(checkout: Path) -> list[str]:
    """Return the names of the backup hooks, which stay behind."""
    folder = checkout / "data/backup-hooks.d"
    return sorted(str(hook.relative_to(checkout)) for hook in folder.iterdir()) if folder.is_dir() else []


def _link_all(checkout: Path, source: Path, folder: Path, cargo: Cargo) -> None:
    for entry in source.iterdir():
        name = str(entry.relative_to(checkout))
        if entry.is_dir() and not entry.is_symlink():
            if cargo.travels(name, is_folder=True):
                (folder / name).mkdir()
                _link_all(checkout, entry, folder, cargo)
        elif cargo.travels(name):
            _link(entry, folder / name)


def _link(source: Path, target: Path) -> None:
    """Link or copy a file. The service may exchange it for a link to a secret of the host at any moment."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system
        _copy(source, target)
    if not stat.S_ISREG(target.lstat().st_mode):
        target.unlink()
        raise _not_a_file(source)


def _copy(source: Path, target: Path) -> None:
    try:
        with opened(source) as content, target.open("xb") as copy:
            shutil.copyfileobj(content, copy)
            status = os.fstat(content.fileno())
            os.fchmod(copy.fileno(), stat.S_IMODE(status.st_mode))
    except NotRegularError as error:
        raise _not_a_file(source) from error
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _not_a_file(source: Path) -> ArchiveError:
    return ArchiveError(f"既非文件也非目录，无法搬迁 cannot travel, neither a file nor a folder: {source}")
