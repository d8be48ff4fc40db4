"""Archives of backup.sh and export.sh, whole, or changed by an attacker who can write to their folder."""

import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import archive
import signature

from app.tokens import keyring
from app.tokens.keys import KeyRing

CONTENTS = "schema 0007_x\ntable card 2 17\ntable schema_migration 7 5\nfile {digest} a file.bin\nbytes 8192\n"
"""What contents.sql prints of a small database; `digest` is that of its licensed file."""


def staged(folder: Path) -> Path:
    """Make a folder with a dump, as it is packed."""
    folder.mkdir()
    (folder / "database.dump").write_bytes(b"rows")
    (folder / archive.CONTENTS).write_text(CONTENTS.format(digest="a" * 64))
    return folder


def packed(folder: Path, ring: Path | None = None, **facts: str) -> bytes:
    """Return an archive of a folder, signed if there is a key ring."""
    output = io.BytesIO()
    archive.pack(folder, facts, output, ring)
    return output.getvalue()


def rewritten(content: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """Return an archive whose manifest was changed, and nothing else."""
    output = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(content)) as source, tarfile.open(fileobj=output, mode="w") as target:
        for info in source:
            file = source.extractfile(info)
            member = file.read() if file else b""
            if info.name == "manifest.json":
                manifest = json.loads(member)
                change(manifest)
                member = json.dumps(manifest).encode()
                info.size = len(member)
            target.addfile(info, io.BytesIO(member))
    return output.getvalue()


def unsigned(content: bytes) -> bytes:
    """Return an archive without its signature, as older versions made them."""
    return rewritten(content, lambda manifest: manifest.pop("signature"))


def signed_by(content: bytes, ring: Path) -> bytes:
    """Return an archive with a signature by another key ring, which goes along."""
    return rewritten(content, lambda manifest: manifest.update(signature=signature.sign(manifest, ring)))


def strangers_ring(folder: Path) -> Path:
    """Make the key ring of somebody else."""
    file = folder / "strangers.json"
    file.write_bytes(keyring.encoded(KeyRing.new(datetime.now(UTC), "kadun")))
    return file
