"""The signing keys beyond the pinned ones, and the floor, as they are stored for all cards of a program and server.

Nothing in the file is trusted: endorsements are verified, and a floor that the pinned keys do not lead to is ignored.
So a release with new keys is not bound by the floor of another chain.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from kadun.decoding import decode_base64url, parse_json_object
from kadun.errors import UntrustedAnswer
from kadun.keys import reached
from kadun.tokens import key_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kadun.keys import TrustedKeys
    from kadun.offline import Clock
    from kadun.store import State, StateStore


class LearnedKeys:
    """Keeps the trusted keys and the file in step. Methods may be called from several threads."""

    def __init__(self, store: StateStore, keys: TrustedKeys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._lock = threading.Lock()

    def load(self, hardware: str) -> None:
        """Take up what is stored; call this before a token is verified."""
        with self._lock:
            stored = self._store.load(hardware)
            self._take_up(stored)
            self._save(stored, hardware)

    def saw(self, token: str, hardware: str) -> None:
        """Raise the floor to the key of this genuine verdict, if it is a later one."""
        with self._lock:
            self._keys.saw(key_id(token), self._clock())
            self._save(self._store.load(hardware), hardware)

    def _take_up(self, stored: State) -> None:
        with suppress(UntrustedAnswer):  # keys before an invalid endorsement stay
            self._keys.add_endorsed(stored.endorsements)
        self._keys.take_up(stored.floor, self._clock())

    def _save(self, before: State, hardware: str) -> None:
        if self._after(before) == before:
            return
        with self._store.locked(), suppress(OSError):  # a folder that cannot be written prevents no online start
            before = self._store.load(hardware)
            self._take_up(before)  # another process may have written it
            self._store.save(self._after(before), hardware)

    def _after(self, before: State) -> State:
        floor = self._keys.floor
        if floor is None or not (self._keys.excludes_keys or before.floor):
            return before
        endorsements = lineage((*before.endorsements, *self._keys.endorsements), floor.kid)
        return replace(before, endorsements=endorsements, floor=floor)


def lineage(endorsements: Iterable[str], kid: str) -> tuple[str, ...]:
    """Select the endorsements that lead to a key or on from it, each once; they need not be verified.

    Those of earlier keys stay, because an earlier release of the program may pin them. Others are useless beside the
    floor, and a thief of an earlier key could fill the file with them.
    """
    steps: dict[str, tuple[str, str]] = {}
    for endorsement in endorsements:
        with suppress(UntrustedAnswer):
            steps[endorsement] = key_id(endorsement), _endorsed_key_id(endorsement)
    after = reached([kid], steps.values()) | {kid}
    before = reached([kid], ((endorsed, endorser) for endorser, endorsed in steps.values())) | {kid}
    return tuple(
        endorsement
        for endorsement, (endorser, endorsed) in steps.items()
        if endorser in after or (endorser in before and endorsed in before)
    )


def _endorsed_key_id(endorsement: str) -> str:
    payload = decode_base64url(endorsement.split(".")[1], "a part of the token")
    jwk = parse_json_object(payload, "the token's payload").get("jwk")
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    if not isinstance(kid, str):
        raise UntrustedAnswer("the endorsement has no key")
    return kid
