"""One encrypted file per program and card: what is kept between two starts of a program.

It is readable on this machine only, since its key comes from the machine's hardware string. That keeps copies from
working elsewhere; it keeps nothing from the customer, who has the hardware string too. So nothing in it is believed:
keys and verdicts are checked against their signatures each time that they are read.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Union

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kadun.errors import UntrustedAnswer
from kadun.secret import Secret
from kadun.strict import json_object

_MAGIC = b"kadun state 1\n"
_NONCE_BYTES = 12
_LARGEST_FILE_BYTES = 4 * 1024 * 1024
LATEST_TIME = 253_402_300_799.0
"""The end of the year 9999, in seconds since 1970: no time beyond it is one."""


class _Platform(Enum):
    FOLDER = "the platform's own folder for state"

    def __repr__(self) -> str:
        return "PLATFORM_FOLDER"


PLATFORM_FOLDER = _Platform.FOLDER
StateDir = Union[str, "os.PathLike[str]", _Platform, None]


@dataclass(frozen=True)
class Kept:
    """The last good verdict with what unseals it.

    Attributes:
        token: the verdict as the server signed it.
        nonce: of the request that it answers.
        envelope: the private key that the token's key is sealed to.
        seen: the highest time ever seen, in seconds since 1970: the server's, or this machine's at offline starts.
    """

    token: str
    nonce: str
    envelope: Secret
    seen: float


@dataclass(frozen=True)
class State:
    """All that is kept: the endorsements of learned keys, and the verdict where offline starts are allowed."""

    endorsements: tuple[str, ...] = ()
    kept: Kept | None = field(default=None)


class Store:
    """Reads and writes the file. Where there is no folder, nothing is kept and nothing fails but `save`."""

    def __init__(self, folder: StateDir, program: str, issuer: str, card_id: str) -> None:
        """Choose the file; nothing is read or made yet.

        Args:
            folder: a folder of the vendor's choice, `PLATFORM_FOLDER`, or None to keep nothing.
            program: the program's name; programs of different names share nothing.
            issuer: the name of the server (`iss`).
            card_id: the card as the customer typed it.
        """
        # As JSON, so that no two triples come out the same; and ASCII, so that any string will do.
        self._context = json.dumps([program, issuer, card_id]).encode("ascii")
        place = _platform_folder() if isinstance(folder, _Platform) else folder
        name = hashlib.sha256(_MAGIC + self._context).hexdigest()[:32]
        self._path = None if place is None else Path(place) / f"{name}.state"

    def load(self, hardware: str) -> State:
        """What was kept on this machine. A file that is damaged, foreign or unreadable counts as absent."""
        try:
            blob = self._read()
            plaintext = self._cipher(hardware).decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], _MAGIC)
            return _state(plaintext)
        except (OSError, ValueError, InvalidTag, UntrustedAnswer):
            return State()

    def save(self, state: State, hardware: str) -> None:
        """Replace the file as a whole, or remove it when there is nothing to keep.

        Raises:
            OSError: it could not be written; what was there before is still there.
        """
        if self._path is None:
            raise FileNotFoundError("there is no folder to keep state in")
        if state == State():
            with suppress(FileNotFoundError):
                self._path.unlink()
            return
        nonce = secrets.token_bytes(_NONCE_BYTES)
        blob = _MAGIC + nonce + self._cipher(hardware).encrypt(nonce, _plaintext(state), _MAGIC)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(self._path, blob)

    def erase(self) -> None:
        """Remove the file; where even that is refused, there is nothing more to be done."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    def _read(self) -> bytes:
        if self._path is None:
            raise FileNotFoundError
        with self._path.open("rb") as file:
            blob = file.read(_LARGEST_FILE_BYTES)
        if not blob.startswith(_MAGIC):
            raise ValueError("no state file")
        return blob[len(_MAGIC) :]

    def _cipher(self, hardware: str) -> AESGCM:
        """A cipher that only this program, server, card and machine have the key of (RFC 5869)."""
        derive = HKDF(algorithm=SHA256(), length=32, salt=_MAGIC, info=self._context)
        return AESGCM(derive.derive(hardware.encode("utf-8", "surrogatepass")))


def _platform_folder() -> Path | None:
    import platformdirs  # noqa: PLC0415 - a vendor who names a folder pays nothing for it at each start

    try:
        folder = platformdirs.user_state_path("kadun", appauthor=False)
    except RuntimeError:  # an account without a home; older releases say so with a relative path
        return None
    return folder if folder.is_absolute() else None


def _replace(path: Path, blob: bytes) -> None:
    """Write beside it and rename, so that a crash or a full disk leaves the old file or the new, never a half."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(blob)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(beside).unlink()
        raise


def _plaintext(state: State) -> bytes:
    document: dict[str, Any] = {"endorsements": list(state.endorsements)}
    if state.kept:
        document["kept"] = {
            "token": state.kept.token,
            "nonce": state.kept.nonce,
            "envelope": state.kept.envelope.reveal(),
            "seen": state.kept.seen,
        }
    return json.dumps(document).encode("ascii")


def _state(plaintext: bytes) -> State:
    document = json_object(plaintext, "the state")
    endorsements, kept = document.get("endorsements"), document.get("kept")
    if not isinstance(endorsements, list) or not all(isinstance(entry, str) for entry in endorsements):
        return State()
    return State(tuple(endorsements), _kept(kept) if isinstance(kept, dict) else None)


def _kept(members: dict[str, Any]) -> Kept | None:
    token, nonce, envelope = (members.get(name) for name in ("token", "nonce", "envelope"))
    seen = members.get("seen")
    if not (isinstance(token, str) and isinstance(nonce, str) and isinstance(envelope, str)):
        return None
    if isinstance(seen, bool) or not isinstance(seen, (int, float)) or not 0 <= seen <= LATEST_TIME:
        return None
    return Kept(token, nonce, Secret(envelope), seen)
