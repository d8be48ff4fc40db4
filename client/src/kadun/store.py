"""The state between starts: an encrypted file for each program, server and card, and one for the keys of the server.

The encryption key derives from this machine's hardware string, so that a copy does not work elsewhere. The customer
knows that string, too: nothing in the file is trusted, and all signatures are verified each time they are read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import unicodedata
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Union

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from kadun import files
from kadun.clocks import Times, times_in
from kadun.decoding import parse_json_object
from kadun.errors import UntrustedAnswer
from kadun.keys import Floor, floor_in
from kadun.sealing import Secret

_MAGIC = b"kadun state 2\n"
_NONCE_BYTES = 12
_LARGEST_FILE_BYTES = 4 * 1024 * 1024
_TEXTS = ("token", "card_id", "nonce", "envelope")  # of a stored verdict
_CARD_ID = re.compile("[0-9A-HJKMNP-TV-Z]{32}")
# ASCII only: Unicode case mapping must not change a card ID.
_READ_AS = str.maketrans("abcdefghijklmnopqrstuvwxyzILO", "ABCDEFGH1JK1MN0PQRSTUVWXYZ110")


class _Platform(Enum):
    FOLDER = "the platform's own folder for state"

    def __repr__(self) -> str:
        return "PLATFORM_FOLDER"


PLATFORM_FOLDER = _Platform.FOLDER
StateDir = Union[str, os.PathLike[str], _Platform, None]


@dataclass(frozen=True)
class CachedVerdict:
    """The last accepted verdict, as the server signed it, and what its verification needs."""

    token: str
    card_id: str  # as it was spelled in the request; the token contains that spelling
    nonce: str
    key_pair: Secret  # the private key that the token's key is sealed to
    times: Times
    body_sha256: str | None = None  # of the request; None in a file of a release that did not keep it


@dataclass(frozen=True)
class Rejection:
    """The last signed rejection."""

    at: float  # by the server's clock, in seconds since 1970
    reference: str


@dataclass(frozen=True)
class State:
    """Of a card: an accepted verdict if it allows offline starts, or the last rejection. Of the server: its keys."""

    endorsements: tuple[str, ...] = ()  # of learned keys; release 1.0 stored them for each card
    cached: CachedVerdict | None = None
    rejection: Rejection | None = None
    floor: Floor | None = None  # the latest signing key seen


class StateStore:
    """Reads and writes the file. Without a folder, nothing is stored and only `save` fails."""

    def __init__(self, folder: StateDir, program: str, issuer: str, card_id: str | None = None) -> None:
        """Determine the path; nothing is read or created yet. Without a card (in any spelling) all cards share it."""
        of_card = [] if card_id is None else [normalized_card_id(card_id)]
        # JSON, so that different lists give different text; ASCII, so that any string is possible.
        self._context = json.dumps([program, issuer, *of_card]).encode("ascii")
        place = _platform_folder() if isinstance(folder, _Platform) else folder
        name = hashlib.sha256(_MAGIC + self._context).hexdigest()[:32]
        self._path = None if place is None else Path(place) / f"{name}.state"

    def load(self, hardware: str) -> State:
        """Return the state of this machine. A damaged, foreign or unreadable file counts as absent."""
        if self._path is None:
            return State()
        try:
            with self._path.open("rb") as file:
                magic, nonce = file.read(len(_MAGIC)), file.read(_NONCE_BYTES)
                sealed = file.read(_LARGEST_FILE_BYTES)
            return _state(self._cipher(hardware).decrypt(nonce, sealed, magic))  # fails for another magic, too
        except (OSError, ValueError, InvalidTag, UntrustedAnswer):
            return State()

    def save(self, state: State, hardware: str) -> None:
        """Replace the file atomically, or remove it if the state is empty; an OSError leaves it unchanged."""
        if self._path is None:
            raise FileNotFoundError("there is no folder to store state in")
        if state == State():
            files.remove(self._path)
            return
        nonce = secrets.token_bytes(_NONCE_BYTES)
        blob = _MAGIC + nonce + self._cipher(hardware).encrypt(nonce, _plaintext(state), _MAGIC)
        if len(blob) > _LARGEST_FILE_BYTES:
            raise OSError(errno.EFBIG, f"the state has more than {_LARGEST_FILE_BYTES} bytes")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.replaced(self._path) as file:
            file.write(blob)

    def update(self, hardware: str, change: Callable[[State], State]) -> None:
        """Replace the file by its changed state, under the lock. A folder that cannot be written is not an error."""
        before = self.load(hardware)
        if change(before) == before:
            return
        with self.locked():
            before = self.load(hardware)  # another process may have written it
            after = change(before)
            try:
                self.save(after, hardware)
            except OSError:
                if self._path and before.cached and not after.cached:  # no file is better than one that accepts
                    files.remove_or_empty(self._path)

    def locked(self) -> AbstractContextManager[None]:
        """Exclude other processes from reading the file to writing it. There is one lock for the folder."""
        return nullcontext() if self._path is None else files.locked(self._path.with_name("lock"))

    def _cipher(self, hardware: str) -> AESGCM:
        # RFC 5869, from program, server, card and machine.
        derive = HKDF(algorithm=SHA256(), length=32, salt=_MAGIC, info=self._context)
        return AESGCM(derive.derive(hardware.encode("utf-8", "surrogatepass")))


def normalized_card_id(card_id: str) -> str:
    """Return the common form of a card ID's spellings; another text may be a key from another system, and stays."""
    kept = "".join(c for c in card_id if not (c.isspace() or unicodedata.category(c) == "Pd"))
    read = kept.translate(_READ_AS)
    return read if _CARD_ID.fullmatch(read) else card_id.strip()


def _platform_folder() -> Path | None:
    import platformdirs  # noqa: PLC0415 - not needed, and not paid for at each start, with a folder of the vendor

    try:
        folder = platformdirs.user_state_path("kadun", appauthor=False)
    except RuntimeError:  # an account without a home; older releases return a relative path
        return None
    return folder if folder.is_absolute() else None


def _plaintext(state: State) -> bytes:
    document: dict[str, Any] = {"endorsements": list(state.endorsements)}
    if state.cached:
        cached = state.cached
        texts = zip(_TEXTS, (cached.token, cached.card_id, cached.nonce, cached.key_pair.reveal()))
        document["kept"] = {**dict(texts), "times": list(cached.times), "body_sha256": cached.body_sha256}
    if state.rejection:
        document["refusal"] = vars(state.rejection)
    if state.floor:
        document["floor"] = list(state.floor)
    return json.dumps(document).encode("ascii")


def _state(plaintext: bytes) -> State:
    document = parse_json_object(plaintext, "the state")
    endorsements = document.get("endorsements")
    if not isinstance(endorsements, list) or not all(isinstance(entry, str) for entry in endorsements):
        return State()
    kept, refusal = _kept(document.get("kept")), _refusal(document.get("refusal"))
    return State(tuple(endorsements), kept, refusal, floor_in(document.get("floor")))


def _kept(members: object) -> CachedVerdict | None:
    if not isinstance(members, dict):
        return None
    texts: list[Any] = [members.get(name) for name in _TEXTS]
    times, digest = times_in(members.get("times")), members.get("body_sha256")
    if times is None or not all(isinstance(text, str) for text in texts) or not isinstance(digest, (str, type(None))):
        return None
    token, card_id, nonce, key_pair = texts
    return CachedVerdict(token, card_id, nonce, Secret(key_pair), times, digest)


def _refusal(members: object) -> Rejection | None:
    if not isinstance(members, dict):
        return None
    at, reference = members.get("at"), members.get("reference")
    if not isinstance(reference, str) or isinstance(at, bool) or not isinstance(at, (int, float)):
        return None
    return Rejection(at, reference)
