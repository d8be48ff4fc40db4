"""What a move takes along, and what is taken from a bundle. Runs with the host's python3 (3.10 or newer)."""

import re
import shutil
from pathlib import Path

from manifest import ArchiveError

TRAVELLING = re.compile(
    r"""env | database\.(dump|sql)
    | secrets/(kernal_data_key|totp_key|backup_identity|backup_webhook)
    | https_certificates/(self-signed-)?(fullchain|privkey)\.pem
    | data/keys/(keyring(\.replaced-[^/]+)?|data-key)\.json
    | data/files/[0-9a-f]{64}
    | data/functions/.+""",
    re.VERBOSE,
)
"""The names of what travels. No program that the host runs is among it, and no configuration of nginx."""
FOLDERS = ("secrets", "https_certificates", "data/keys", "data/files", "data/functions")
IRREPLACEABLE = {"env", "secrets/kernal_data_key", "data/keys/keyring.json"}
"""What a move cannot do without, beside the database."""


def travels(name: str, *, is_folder: bool = False) -> bool:
    """Return whether a file travels, or files of a folder may."""
    if is_folder:
        return name in {"data", *FOLDERS} or travels(f"{name}/file")
    return TRAVELLING.fullmatch(name) is not None


def stage(checkout: Path, folder: Path) -> None:
    """Gather everything but the database in a folder.

    Hard links are safe: the service replaces its files and never writes into them.

    Raises:
        ArchiveError: something is neither a file nor a folder, or an irreplaceable file is missing.
    """
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
        if (checkout / name).is_dir():
            _link_all(checkout, checkout / name, folder)
    shutil.copyfile(checkout / ".env", folder / "env")
    for name in sorted(IRREPLACEABLE):
        if not (folder / name).is_file():
            raise ArchiveError(f"缺少此文件，无法导出 nothing can be exported without it: {checkout / name}")


def hooks_in(checkout: Path) -> list[str]:
    """Return the names of the backup hooks, which stay behind."""
    folder = checkout / "data/backup-hooks.d"
    return sorted(str(hook.relative_to(checkout)) for hook in folder.iterdir()) if folder.is_dir() else []


def _link_all(checkout: Path, source: Path, folder: Path) -> None:
    for entry in source.iterdir():
        name = str(entry.relative_to(checkout))
        if entry.is_dir() and not entry.is_symlink():
            if travels(name, is_folder=True):
                (folder / name).mkdir()
                _link_all(checkout, entry, folder)
        elif travels(name):
            _link(entry, folder / name)


def _link(source: Path, target: Path) -> None:
    if source.is_symlink() or not source.is_file():
        raise ArchiveError(f"既非文件也非目录，无法搬迁 cannot travel, neither a file nor a folder: {source}")
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)
