"""Archives of backup.sh and export.sh, as somebody who can write to where they lie would change them."""

import io
import json
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import signature

from app.tokens import keyring
from app.tokens.keys import KeyRing


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
