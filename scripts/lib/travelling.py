"""What a move takes along, and what is taken from a bundle. Runs with the host's python3 (3.10 or newer)."""

import json
import re
import shutil
from pathlib import Path

from manifest import CONTENTS, ArchiveError

TRAVELLING = re.compile(
    r"""env | database\.(dump|sql)
    | secrets/(kernal_data_key|totp_key|backup_webhook)
    | https_certificates/(self-signed-)?(fullchain|privkey)\.pem
    | data/keys/(keyring|data-key)\.json
    | data/files/[0-9a-f]{64}
    | data/functions/.+""",
    re.VERBOSE,
)
"""The names of what travels. No program that the host runs is among it."""
FOLDERS = ("secrets", "https_certificates", "data/keys", "data/files", "data/functions")
_HOOKS = "data/backup-hooks.d"
IRREPLACEABLE = {"env", "secrets/kernal_data_key", "data/keys/keyring.json"}
"""What a move cannot do without, beside the database."""


def stage(checkout: Path, folder: Path) -> None:
    """Gather everything but the database in a folder, and note in its CONTENTS which hooks are left behind.

    Hard links are safe: the service replaces its files and never writes into them.

    Raises:
        ArchiveError: something is neither a file nor a folder, or an irreplaceable file is missing.
    """
    for name in FOLDERS:
        if (checkout / name).is_dir():
            (folder / name).mkdir(parents=True)
            _link_all(checkout, checkout / name, folder)
    shutil.copyfile(checkout / ".env", folder / "env")
    for name in sorted(IRREPLACEABLE):
        if not (folder / name).is_file():
            raise ArchiveError(f"缺少此文件，无法导出 nothing can be exported without it: {checkout / name}")
    hooks = checkout / _HOOKS
    with (folder / CONTENTS).open("a", encoding="utf-8") as contents:
        for name in sorted(hook.name for hook in hooks.iterdir() if hook.is_file()) if hooks.is_dir() else ():
            contents.write(f"left {json.dumps(f'{_HOOKS}/{name}', ensure_ascii=False)}\n")


def _link_all(checkout: Path, source: Path, folder: Path) -> None:
    for entry in source.iterdir():
        name = str(entry.relative_to(checkout))
        if entry.is_dir() and not entry.is_symlink() and TRAVELLING.fullmatch(f"{name}/a"):
            (folder / name).mkdir()
            _link_all(checkout, entry, folder)
        elif TRAVELLING.fullmatch(name):
            _link(entry, folder / name)


def _link(source: Path, target: Path) -> None:
    if source.is_symlink() or not source.is_file():
        raise ArchiveError(f"既非文件也非目录，无法搬迁 cannot travel, neither a file nor a folder: {source}")
    try:
        target.hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)
