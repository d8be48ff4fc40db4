"""Marks of KERNAL_DATA_KEY in the folder of the signing keys, by which `cardctl doctor` recognises a wrong key.

`data-key.json` is a list of salted scrypt digests, one for each line of KERNAL_DATA_KEY. A key without an age
identity, such as a PEM block, has one mark in all, because other keys have lines in common with it. No mark reveals the
key. The file lies beside the signing keys, so that it moves with them, and a restored database does not matter.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

import msgspec

from app.tokens import key_folder, sealing
from app.tokens.keyring import KeyRingError

FILE = "data-key.json"
_SCRYPT = "scrypt:"


def accept(folder: Path, kernal_data_key: str) -> None:
    """Mark this key as the one in use, in place of all former marks."""
    marks = [_mark(line, salt=secrets.token_hex(16)) for line in _lines(kernal_data_key)]
    key_folder.write_file(folder / FILE, msgspec.json.encode(marks))


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
    return lines if any(map(sealing.is_identity, lines)) else ["\n".join(lines)]


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


def _mark(line: str, salt: str) -> str:
    digest = hashlib.scrypt(line.encode(), salt=salt.encode(), n=1 << 14, r=8, p=1)  # 16 MiB, a twentieth of a second
    return f"{_SCRYPT}{salt}:{digest.hex()}"


def _fits(line: str, mark: str) -> bool:
    salt = mark.removeprefix(_SCRYPT).partition(":")[0]
    return hmac.compare_digest(_mark(line, salt).encode(), mark.encode())
