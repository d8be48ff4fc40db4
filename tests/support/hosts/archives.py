"""Archives of scripts/backup.sh, opened, and changed as a fault or an attacker would."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyrage

Members = dict[str, bytes]
"""The content of an archive's files by their names."""


def decrypted(backup: Path, identity: Path) -> bytes:
    """Return the tar in a backup."""
    key = pyrage.x25519.Identity.from_str(identity.read_text().split()[-1])
    plain: bytes = pyrage.decrypt(backup.read_bytes(), [key])
    return plain


def members(plain: bytes) -> Members:
    """Return the files in a tar."""
    with tarfile.open(fileobj=io.BytesIO(plain)) as source:
        files = [info for info in source if info.isfile()]
        return {info.name: (source.extractfile(info) or io.BytesIO()).read() for info in files}


def repacked(plain: bytes, change: Callable[[Members], object]) -> bytes:
    """Return a tar with other files."""
    files, output = members(plain), io.BytesIO()
    change(files)
    with tarfile.open(fileobj=output, mode="w") as target:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            target.addfile(info, io.BytesIO(content))
    return output.getvalue()
