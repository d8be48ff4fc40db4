"""Marks of KERNAL_DATA_KEY in the folder of the signing keys, by which `cardctl doctor` recognises a wrong key.

`data-key.json` is a list of texts, one for each line of KERNAL_DATA_KEY: for an age identity a known text that is
sealed to it (armored age), for any other line a salted scrypt digest. A key without an age identity, such as a PEM
block, has one mark in all, because other keys have lines in common with it. No mark reveals the key. The file lies
beside the signing keys, so that it moves with them, and a restored database does not matter.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

import msgspec
import pyrage

from app.tokens import key_folder
from app.tokens.keyring import KeyRingError

FILE = "data-key.json"
_CANARY = b"kadun: this opens with the KERNAL_DATA_KEY of this installation"
_SCRYPT = "scrypt"


def accept(folder: Path, kernal_data_key: str) -> None:
    """Mark this key as the one in use, in place of all former marks."""
    key_folder.write_file(folder / FILE, msgspec.json.encode([_mark(line) for line in _lines(kernal_data_key)]))


def keep(folder: Path, kernal_data_key: str) -> bool:
    """Return whether any line of the key has a mark, or none had; mark exactly its lines then.

    An age identity may so be replaced by way of both: a new line above the old one, and later without the old one.
    """
    marks, lines = _marks(folder), _lines(kernal_data_key)
    if marks is None:
        accept(folder, kernal_data_key)
        return True
    fitting = [(line, mark) for line in lines for mark in marks if _fits(line, mark)]
    if fitting and ({line for line, _ in fitting}, {mark for _, mark in fitting}) != (set(lines), set(marks)):
        accept(folder, kernal_data_key)
    return bool(fitting)


def is_in_use(folder: Path, kernal_data_key: str) -> bool | None:
    """Return whether any line of the key has a mark; None if no key is marked yet."""
    marks = _marks(folder)
    return None if marks is None else any(_fits(line, mark) for line in _lines(kernal_data_key) for mark in marks)


def _lines(kernal_data_key: str) -> list[str]:
    """Return what is marked: each line, or the whole key where no line is an age identity."""
    lines = [line.strip() for line in kernal_data_key.splitlines() if line.strip()]
    return lines if any(map(_recipient, lines)) else ["\n".join(lines)]


def _recipient(line: str) -> pyrage.x25519.Recipient | None:
    try:
        return pyrage.x25519.Identity.from_str(line).to_public()
    except pyrage.IdentityError:
        return None


def _marks(folder: Path) -> list[str] | None:
    path = folder / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[str])
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise KeyRingError(
            f"{path} cannot be read: put your copy of data/keys back, or run `scripts/cardctl key accept`"
        ) from error


def _mark(line: str) -> str:
    recipient = _recipient(line)
    if recipient is None:
        salt = secrets.token_hex(16)
        return f"{_SCRYPT}:{salt}:{_digest(line, salt)}"
    return str(pyrage.encrypt(_CANARY, [recipient], armored=True), "ascii")


def _fits(line: str, mark: str) -> bool:
    kind, _, rest = mark.partition(":")
    if kind == _SCRYPT:
        salt, _, digest = rest.partition(":")
        return hmac.compare_digest(_digest(line, salt), digest)
    try:
        return bool(pyrage.decrypt(mark.encode(), [pyrage.x25519.Identity.from_str(line)]) == _CANARY)
    except (pyrage.IdentityError, pyrage.DecryptError):
        return False


def _digest(line: str, salt: str) -> str:
    return hashlib.scrypt(
        line.encode(), salt=salt.encode(), n=1 << 14, r=8, p=1
    ).hex()  # 16 MiB, a twentieth of a second
