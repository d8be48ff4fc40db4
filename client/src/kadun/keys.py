"""Trusted signing keys: the keys pinned in the program, and the keys that they endorse."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Union

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from kadun.decoding import decode_base64url, encode_base64url, parse_json_object
from kadun.errors import UntrustedAnswer
from kadun.tokens import AUDIENCE, key_id, verify_token

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PublicKeys = Union["Mapping[str, Any]", str]
_ENDORSEMENT = "key+jwt"


class TrustedKeys:
    """Public keys by `kid`, and the issuer (`iss`) that they belong to."""

    def __init__(self, pinned: PublicKeys) -> None:
        """Load the pinned keys.

        Args:
            pinned: the output of `cardctl key export`, `{"iss": …, "keys": […]}`, as a dict or as JSON text.

        Raises:
            ValueError: it is anything else. This is a mistake of the vendor, therefore not a KadunError.
        """
        document = _document(pinned)
        issuer, keys = document.get("iss"), document.get("keys")
        if not isinstance(issuer, str) or not issuer or not isinstance(keys, list) or not keys:
            raise ValueError('public_keys must be {"iss": …, "keys": […]}, as `cardctl key export` prints it')
        if any(isinstance(key, dict) and "d" in key for key in keys):
            raise ValueError("public_keys contains a PRIVATE key; never ship that: use `cardctl key export`")
        self.issuer = issuer
        try:
            self._keys = dict(_load(key) for key in keys)
        except UntrustedAnswer as refusal:
            raise ValueError(f"public_keys: {refusal.detail}") from None
        self._endorsements: list[str] = []

    @property
    def endorsements(self) -> tuple[str, ...]:
        """The endorsements that lead from the pinned keys to the others, to be stored for the next start."""
        return tuple(self._endorsements)

    def __contains__(self, kid: str) -> bool:
        return kid in self._keys

    def __getitem__(self, kid: str) -> Ed25519PublicKey:
        """Return the key with this ID.

        Raises:
            UntrustedAnswer: the key is not trusted.
        """
        try:
            return self._keys[kid]
        except KeyError:
            raise UntrustedAnswer("the token is signed with a key that is neither pinned nor endorsed") from None

    def learn(self, key_set: bytes) -> None:
        """Add the keys of `/.well-known/jwks.json` that a chain of endorsements connects to a trusted key.

        The key set itself is not trusted: each key needs a signature by a key that was trusted before it.

        Raises:
            UntrustedAnswer: the key set has no endorsements, or an endorsement by a trusted key is invalid.
        """
        endorsements = parse_json_object(key_set, "the key set").get("endorsements")
        if not isinstance(endorsements, list):
            raise UntrustedAnswer("the key set has no endorsements")
        self.add_endorsed(endorsements)

    def add_endorsed(self, endorsements: Sequence[object]) -> None:
        """Add the keys that these endorsements connect to a trusted key, in any order.

        Raises:
            UntrustedAnswer: one is not a token, or one by a trusted key is invalid. Keys added before it stay: each
                has a valid signature of its own.
        """
        by_endorser: dict[str, list[str]] = {}
        for endorsement in endorsements:
            if not isinstance(endorsement, str):
                raise UntrustedAnswer("an endorsement is not a token")
            by_endorser.setdefault(key_id(endorsement), []).append(endorsement)
        # Each endorsement is verified once, when its endorser becomes trusted. So the order of the list does not
        # matter, and a hostile list costs at most one verification for each entry.
        newly_trusted = list(self._keys)
        while newly_trusted:
            for endorsement in by_endorser.pop(newly_trusted.pop(), []):
                kid, key = self._endorsed(endorsement)
                if kid not in self._keys:
                    self._keys[kid] = key
                    self._endorsements.append(endorsement)
                    newly_trusted.append(kid)

    def _endorsed(self, endorsement: str) -> tuple[str, Ed25519PublicKey]:
        claims = verify_token(endorsement, self[key_id(endorsement)], _ENDORSEMENT)
        claims.require("aud", AUDIENCE)
        if "iss" in claims:
            claims.require("iss", self.issuer)
        return _load(claims.mapping("jwk"))


def _document(pinned: PublicKeys) -> Mapping[str, Any]:
    if not isinstance(pinned, str):
        return pinned
    try:
        return parse_json_object(pinned.encode("utf-8", "surrogatepass"), "public_keys")
    except UntrustedAnswer as refusal:
        raise ValueError(refusal.detail) from None


def _load(jwk: Any) -> tuple[str, Ed25519PublicKey]:  # noqa: ANN401 - any JSON value
    """Load a JWK. Its `kid` must be its RFC 7638 thumbprint, so that no key can use the name of another."""
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
    members = f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'  # RFC 7638, section 3
    kid = encode_base64url(hashlib.sha256(members.encode("ascii")).digest())
    if jwk.get("kid") != kid:
        raise UntrustedAnswer("the kid of a key is not its thumbprint")
    return kid, key
