"""The signing keys beyond the pinned ones, and the floor, as they are stored for all cards of a program and server.

Nothing in the file is trusted: endorsements are verified, and a floor that the pinned keys do not lead to is ignored.
So a release with new keys is not bound by the floor of another chain.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from kadun.decoding import decode_base64url, parse_json_object
from kadun.errors import UntrustedAnswer
from kadun.keys import LONGEST_ENDORSEMENT, Floor, Step, TrustedKeys, towards
from kadun.offline import Clock
from kadun.store import State, StateStore
from kadun.tokens import key_id

_MOST_ENDORSEMENTS = 1000  # on the paths to the floor; with the longest ones the file stays below its limit
_MOST_LATER_KEYS = 16


class LearnedKeys:
    """Keeps the trusted keys and the file in step. Methods may be called from several threads."""

    def __init__(self, store: StateStore, keys: TrustedKeys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._lock = threading.Lock()

    def load(self, hardware: str) -> None:
        """Take up what is stored; call this before a token is verified. Nothing learned since is stored."""
        with self._lock:
            self._store.update(hardware, self._counted_down)

    def saw(self, token: str, hardware: str) -> None:
        """Raise the floor to the key of this genuine verdict, if it is a later one; store the keys that lead to it."""
        with self._lock:
            self._keys.saw(key_id(token), self._clock())
            self._store.update(hardware, self._after)

    def _take_up(self, stored: State) -> Floor | None:
        with suppress(UntrustedAnswer):  # keys before an invalid endorsement stay
            self._keys.add_endorsed(stored.endorsements)
        self._keys.take_up(stored.floor, self._clock())
        return self._keys.floor

    def _counted_down(self, before: State) -> State:
        floor = self._take_up(before)
        return replace(before, floor=floor) if floor and before.floor and floor.kid == before.floor.kid else before

    def _after(self, before: State) -> State:
        floor = self._take_up(before)
        if floor is None or (floor.kid == self._keys.pinned[0] and not before.floor):
            return before  # at the first pinned key the floor excludes none: all others come after it
        former = before.floor.kid if before.floor else floor.kid
        steps = lineage(_steps(before.endorsements), self._keys.steps, [former, *self._keys.pinned], floor.kid)
        return replace(before, endorsements=tuple(steps.values()), floor=floor)


def lineage(
    stored: Mapping[Step, str], learned: Mapping[Step, str], sources: Iterable[str], kid: str
) -> dict[Step, str]:
    """Select the endorsements to store: one path to a key from each source, and some that lead on from it.

    Stored ones that lead to it stay, because an earlier release of the program may pin their keys; they need not be
    verified. A thief of an earlier key can endorse any number of keys and let them endorse the later ones, which are
    public. So a learned endorsement is stored only if the path of a source needs it.

    Args:
        stored: the endorsements in the file.
        learned: the verified ones; they replace stored ones of the same step.
        sources: the floor in the file first, which a thief of an earlier key cannot lead on from; then the pinned keys.
        kid: the floor.
    """
    known = {**stored, **learned}
    kept: set[Step] = set()
    for source in sources:
        there = {kid}.union(*kept)
        on_from = towards(there, stored)
        on_from.update(towards(there.union(on_from), known))
        path: set[Step] = set()
        here = source
        while here in on_from:
            path.add((here, on_from[here]))
            here = on_from[here]
        if len(kept) + len(path) <= _MOST_ENDORSEMENTS:
            kept.update(path)
    before = list(towards({kid}.union(*kept), stored).items())
    kept.update(before[: _MOST_ENDORSEMENTS - len(kept)])
    after = towards({kid}, ((endorsed, endorser) for endorser, endorsed in known))
    kept.update((endorser, endorsed) for endorsed, endorser in list(after.items())[:_MOST_LATER_KEYS])
    return {step: endorsement for step, endorsement in known.items() if step in kept}


def _steps(endorsements: Iterable[str]) -> dict[Step, str]:
    steps: dict[Step, str] = {}  # unverified; others than the client could have stored are left out
    for endorsement in endorsements:
        if len(endorsement) <= LONGEST_ENDORSEMENT:
            with suppress(UntrustedAnswer):
                steps.setdefault((key_id(endorsement), _endorsed_key_id(endorsement)), endorsement)
    return steps


def _endorsed_key_id(endorsement: str) -> str:
    payload = decode_base64url(endorsement.split(".")[1], "a part of the token")
    jwk = parse_json_object(payload, "the token's payload").get("jwk")
    kid = jwk.get("kid") if isinstance(jwk, dict) else None
    if not isinstance(kid, str):
        raise UntrustedAnswer("the endorsement has no key")
    return kid
