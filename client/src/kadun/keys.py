"""Trusted signing keys: the keys pinned in the program, and the keys that they endorse, down to the floor.

The floor is the latest key of the chain that signed a verdict here: an earlier one may be stolen. The rules, and why
earlier keys count for 15 minutes more: docs/protocol.md, "Keys".
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Union

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kadun.decoding import decode_base64url, encode_base64url, parse_json_object
from kadun.errors import UntrustedAnswer
from kadun.tokens import AUDIENCE, key_id, verify_token

PublicKeys = Union[Mapping[str, Any], str]
Step = tuple[str, str]  # an endorser and the key that it endorses, by `kid`
LONGEST_ENDORSEMENT = 2048  # characters; the server's have about 400
OVERLAP_SECONDS = 900.0
_LATEST_TIME = 1e12


class Floor(NamedTuple):
    """The latest key seen."""

    kid: str
    left: float  # for how many seconds earlier keys still count
    clock: float  # what this machine's clock showed then, in seconds since 1970; 0 once nothing is left

    def at(self, clock: float) -> Floor:
        """Return the floor at a later time of the clock. A clock that was set back ends the overlap, for good."""
        passed = clock - self.clock
        if not 0 <= passed < self.left:
            return Floor(self.kid, 0.0, 0.0)
        return Floor(self.kid, self.left - passed, clock)


def floor_in(members: object) -> Floor | None:
    """Parse the floor of a file; return None if there is none. With odd times nothing of the overlap is left."""
    if not isinstance(members, list) or len(members) != len(Floor._fields) or not isinstance(members[0], str):
        return None
    if not all(isinstance(member, (int, float)) and abs(member) <= _LATEST_TIME for member in members[1:]):
        return Floor(members[0], 0.0, 0.0)
    kid, left, clock = members
    return Floor(kid, min(float(left), OVERLAP_SECONDS), float(clock))


class TrustedKeys:
    """Public keys by `kid`. Methods may be called from several threads."""

    def __init__(self, pinned: PublicKeys) -> None:
        """Load the output of `cardctl key export`, as a dict or as JSON text; anything else is a ValueError."""
        document = _document(pinned)
        issuer, keys = document.get("iss"), document.get("keys")
        if not isinstance(issuer, str) or not issuer or not isinstance(keys, list) or not keys:
            raise ValueError('public_keys must be {"iss": …, "keys": […]}, as `cardctl key export` prints it')
        if any(isinstance(key, dict) and "d" in key for key in keys):
            raise ValueError("public_keys contains a PRIVATE key; never ship that: use `cardctl key export`")
        self.issuer, self.program = issuer, document.get("program")  # the ID of the program, None for `main`
        try:
            self._keys = dict(_load(key) for key in keys)
        except UntrustedAnswer as refusal:
            raise ValueError(f"public_keys: {refusal.detail}") from None
        self.pinned = list(self._keys)  # their IDs, in the order of the chain
        self.floor: Floor | None = None  # before the first verdict
        self._endorsements: dict[Step, str] = {}
        self._lock = threading.Lock()  # a new key is seen only together with those that it leads to

    @property
    def steps(self) -> Mapping[Step, str]:
        """A copy of the endorsements by trusted keys, by endorser and endorsed key."""
        with self._lock:
            return self._endorsements.copy()

    def __contains__(self, kid: str) -> bool:
        with self._lock:
            return kid in self._keys and self._counts(kid)

    def __getitem__(self, kid: str) -> Ed25519PublicKey:
        """Return the key with this ID, if it is trusted."""
        with self._lock:
            if kid not in self._keys:
                raise UntrustedAnswer("the token is signed with a key that is neither pinned nor endorsed")
            if not self._counts(kid):
                raise UntrustedAnswer("the token is signed with a key that a later key has replaced")
            return self._keys[kid]

    def saw(self, kid: str, clock: float) -> None:
        """Raise the floor to a key that has signed a verdict, if it comes after the present floor."""
        with self._lock:
            if self.floor is None or kid in self._after(self.floor.kid):
                self.floor = Floor(kid, OVERLAP_SECONDS, clock)

    def take_up(self, stored: Floor | None, clock: float) -> None:
        """Take up a stored floor, unless it is unknown or not after the present one; count the overlap on."""
        with self._lock:
            here = self.floor
            if stored and stored.kid in self._keys and (here is None or stored.kid in self._after(here.kid)):
                here = stored
            elif stored and here and stored.kid == here.kid:
                here = min(here, stored)  # of which less is left
            self.floor = here and here.at(clock)

    def _counts(self, kid: str) -> bool:
        floor = self.floor
        if floor is None or kid == floor.kid or kid in self._after(floor.kid):
            return True
        return floor.left > 0 and floor.kid in self._after(kid)

    def _after(self, kid: str) -> set[str]:
        """Return the keys that a key leads to by endorsements, which count first, and those pinned after it."""
        after = self._endorsed_from([kid])
        if kid in self.pinned:
            pins = self.pinned[self.pinned.index(kid) + 1 :]
            pins = [pin for pin in pins if kid not in self._endorsed_from([pin])]
            after |= {*pins} | self._endorsed_from(pins)
        return after

    def _endorsed_from(self, kids: Iterable[str]) -> set[str]:
        return {*towards(kids, ((endorsed, endorser) for endorser, endorsed in self._endorsements))}

    def add_endorsed(self, endorsements: Sequence[object]) -> None:
        """Add the keys that these endorsements connect to a trusted key, in any order.

        Each key needs a signature by a key that was trusted before it. Endorsements of another issuer do not count: a
        server that changed its name keeps the earlier ones. Nor do those of more than 2048 characters: a thief of an
        earlier key could fill the file with them. Keys added before an invalid endorsement stay.
        """
        known = {*self.steps.values()}
        by_endorser: dict[str, list[str]] = {}
        for endorsement in endorsements:
            if not isinstance(endorsement, str):
                raise UntrustedAnswer("an endorsement is not a token")
            if len(endorsement) <= LONGEST_ENDORSEMENT and endorsement not in known:
                by_endorser.setdefault(key_id(endorsement), []).append(endorsement)
        with self._lock:
            self._follow(by_endorser)

    def _follow(self, by_endorser: dict[str, list[str]]) -> None:
        # Each endorsement is verified once, when its endorser becomes trusted. So the order of the list does not
        # matter, and a hostile list costs at most one verification for each entry.
        newly_trusted = list(self._keys)
        while newly_trusted:
            endorser = newly_trusted.pop()
            for endorsement in by_endorser.pop(endorser, []):
                jwk = self._endorsed(endorsement, self._keys[endorser])
                if jwk is None:
                    continue
                kid, key = _load(jwk)
                if kid not in self._keys:
                    self._keys[kid] = key
                    newly_trusted.append(kid)
                self._endorsements.setdefault((endorser, kid), endorsement)

    def _endorsed(self, endorsement: str, endorser: Ed25519PublicKey) -> Mapping[str, Any] | None:
        claims = verify_token(endorsement, endorser, "key+jwt")
        claims.require("aud", AUDIENCE)
        if "iss" in claims and claims.value("iss") != self.issuer:
            return None
        return claims.of("jwk", dict)


def towards(kids: Iterable[str], steps: Iterable[Step]) -> dict[str, str]:
    """Return each key that leads to one of these, the nearest first, with the next key on its shortest path."""
    endorsers: dict[str, list[str]] = {}
    for endorser, endorsed in steps:
        endorsers.setdefault(endorsed, []).append(endorser)
    targets = set(kids)
    following: dict[str, str] = {}
    waiting = deque(targets)
    while waiting:
        kid = waiting.popleft()
        for endorser in endorsers.get(kid, ()):
            if endorser not in targets and endorser not in following:
                following[endorser] = kid
                waiting.append(endorser)
    return following


def _document(pinned: PublicKeys) -> Mapping[str, Any]:
    if not isinstance(pinned, str):
        return pinned
    try:
        return parse_json_object(pinned.encode("utf-8", "surrogatepass"), "public_keys")
    except UntrustedAnswer as refusal:
        raise ValueError(refusal.detail) from None


def _load(jwk: Any) -> tuple[str, Ed25519PublicKey]:  # noqa: ANN401 - any JSON value
    if not isinstance(jwk, dict) or jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
        raise UntrustedAnswer("a key is not an Ed25519 key")
    if jwk.get("use", "sig") != "sig" or jwk.get("alg", "EdDSA") != "EdDSA":
        raise UntrustedAnswer("a key is not for EdDSA signatures")
    x = jwk.get("x")
    raw = decode_base64url(x, "a key") if isinstance(x, str) else b""
    try:
        key = Ed25519PublicKey.from_public_bytes(raw)
    except ValueError:
        raise UntrustedAnswer("a key is not an Ed25519 key") from None
    # The thumbprint (RFC 7638, section 3), so that no key can use the name of another.
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'
    kid = encode_base64url(hashlib.sha256(members.encode("ascii")).digest())
    if jwk.get("kid") != kid:
        raise UntrustedAnswer("the kid of a key is not its thumbprint")
    return kid, key
