"""The signing keys beyond the pinned ones, and the floor, as they are stored for all cards of a program and server.

Nothing in the file is trusted: endorsements are verified, and a floor that the pinned keys do not lead to is ignored.
So a release with new keys is not bound by the floor of another chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

from kadun.decoding import decode_base64url, parse_json_object
from kadun.errors import UntrustedAnswer
from kadun.keys import LONGEST_ENDORSEMENT, Floor, Step, TrustedKeys, towards
from kadun.store import State
from kadun.tokens import key_id

_MOST_ENDORSEMENTS = 1000  # on the paths to the floor; with the longest ones the file stays below its limit
_MOST_LATER_KEYS = 16


def take_up(stored: State, keys: TrustedKeys, clock: float) -> State:
    """Take up the stored keys and floor; return the state with the overlap counted on, but nothing learned since."""
    floor = _taken_up(stored, keys, clock)
    return replace(stored, floor=floor) if floor and stored.floor and floor.kid == stored.floor.kid else stored


def with_floor(stored: State, keys: TrustedKeys, clock: float) -> State:
    """Take up the stored keys and floor; return the state with the floor raised, and the keys that lead to it."""
    floor = _taken_up(stored, keys, clock)
    if floor is None or (floor.kid == keys.pinned[0] and not stored.floor):
        return stored  # at the first pinned key the floor excludes none: all others come after it
    former = stored.floor.kid if stored.floor else floor.kid
    steps = lineage(_steps(stored.endorsements), keys.steps, [former, *keys.pinned], floor.kid)
    return replace(stored, endorsements=tuple(steps.values()), floor=floor)


def _taken_up(stored: State, keys: TrustedKeys, clock: float) -> Floor | None:
    with suppress(UntrustedAnswer):  # keys before an invalid endorsement stay
        keys.add_endorsed(stored.endorsements)
    keys.take_up(stored.floor, clock)
    return keys.floor


def lineage(
    stored: Mapping[Step, str], learned: Mapping[Step, str], sources: Iterable[str], kid: str
) -> dict[Step, str]:
    """Select the endorsements to store: one path to a key from each source, and some that lead on from it.

    Stored ones that lead to it stay, because an earlier release of the program may pin their keys. A thief of an
    earlier key can endorse any number of keys: a learned endorsement is stored only if the path of a source needs it.

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
