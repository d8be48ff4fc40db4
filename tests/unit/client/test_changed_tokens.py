"""Every character of a token counts: no verdict, endorsement or sealed key with a single change is accepted."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest
from kadun import UntrustedAnswer
from kadun.keys import TrustedKeys
from kadun.request import VerificationRequest
from kadun.sealing import KeyPair
from kadun.verdict import verify_verdict

from tests.support.client.fake_server import (
    CARD,
    HARDWARE,
    OPEN,
    SigningKey,
    Tweak,
    claims_for,
    forger_for,
    pinned,
    reject,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("unmeasured")

BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
STRANGE = ".=+ \n\0\u0130\ud800"  # the other alphabet's, padding, white space, what decoders like to skip
IDENTITY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
GENUINE: dict[str, Tweak] = {"an opening": lambda _claims: None, "a rejection": reject("CARD_FROZEN")}


class Genuine:
    """A genuine token, with all that it is verified against."""

    def __init__(self, key: SigningKey, tweak: Tweak) -> None:
        self.key_pair = KeyPair()
        self.request = VerificationRequest(CARD, HARDWARE, OPEN, "A" * 32, None)
        claims = claims_for({**vars(self.request), "client_public_key": self.key_pair.public_key}, IDENTITY)
        tweak(claims)
        self.token = key.token(claims)
        self.keys = TrustedKeys(pinned(key))

    def accepts(self, token: str) -> bool:
        """Whether it passes, as an acceptance or a rejection. Any error but UntrustedAnswer fails the test."""
        try:
            verify_verdict(token, self.request, self.keys, self.key_pair)
        except UntrustedAnswer:
            return False
        return True


def neighbours(character: str) -> str:
    """Some other characters: near it in the alphabet (one bit apart, unused bits included), and strange ones."""
    place = BASE64URL.find(character)
    near = "".join(BASE64URL[place ^ bit] for bit in (1, 8, 32)) if place >= 0 else "AZaz09-_"
    return (near + STRANGE).replace(character, "")


def everything(character: str) -> str:
    """All other characters of one byte, and some beyond."""
    return ("".join(map(chr, range(256))) + "\u0130\u2028\ud800").replace(character, "")


def mutations(token: str) -> Iterator[str]:
    """The token with each character replaced, removed, doubled, and swapped with the next."""
    for place, character in enumerate(token):
        before, after = token[:place], token[place + 1 :]
        for other in neighbours(character):
            yield before + other + after
        yield before + after
        yield before + character * 2 + after
        if after and after[0] != character:
            yield before + after[0] + character + after[1:]
    yield from (token + end for end in (*BASE64URL, *STRANGE, ".."))
    yield from (start + token for start in (*BASE64URL, *STRANGE, "\ufeff"))


@pytest.mark.parametrize("what", GENUINE)
def test_no_verdict_with_a_single_change_is_accepted(what: str, signing_key: SigningKey) -> None:
    genuine = Genuine(signing_key, GENUINE[what])
    assert [token for token in mutations(genuine.token) if genuine.accepts(token)] == []
    assert genuine.accepts(genuine.token)


@pytest.mark.nightly
def test_no_byte_has_another_value_that_is_accepted(signing_key: SigningKey) -> None:
    """All 255 other values: of each byte of header and signature, and of every fourth byte of the payload."""
    genuine = Genuine(signing_key, GENUINE["a rejection"])
    token = genuine.token
    payload = range(token.index(".") + 1, token.rindex("."))
    for place, character in enumerate(token):
        if place not in payload or place % 4 == 0:
            for other in everything(character):
                assert not genuine.accepts(token[:place] + other + token[place + 1 :])
    assert genuine.accepts(token)


def test_no_endorsement_with_a_single_change_is_believed(signing_key: SigningKey) -> None:
    successor = SigningKey()
    endorsement = signing_key.endorse(successor.jwk)

    def believes(changed: str) -> bool:
        keys = TrustedKeys(pinned(signing_key))
        try:
            keys.add_endorsed([changed])
        except UntrustedAnswer:
            return False
        return successor.kid in keys or len(keys.steps) > 0

    assert [changed for changed in mutations(endorsement) if believes(changed)] == []
    assert believes(endorsement)


def test_no_sealed_key_with_a_single_change_opens() -> None:
    """Not even one with another spelling of the same point (RFC 7748, section 5): the header is authenticated."""
    key_pair = KeyPair()
    sealed = forger_for({"client_public_key": key_pair.public_key}, IDENTITY).sealed()

    def opens(changed: str) -> bool:
        try:
            key_pair.open(changed)
        except UntrustedAnswer:
            return False
        return True

    assert [changed for changed in mutations(sealed) if opens(changed)] == []
    assert opens(sealed)
