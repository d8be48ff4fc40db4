"""Every character of a token counts: no verdict, endorsement or sealed key with a single change is accepted."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator

import pytest
from kadun import UntrustedAnswer
from kadun.keys import TrustedKeys
from kadun.request import OPEN, VerificationRequest
from kadun.sealing import KeyPair
from kadun.verdict import verify_verdict

from tests.support.client.fake_server import CARD, HARDWARE, SigningKey, Tweak, claims_for, forger_for, pinned, reject

pytestmark = pytest.mark.usefixtures("unmeasured")

BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
STRANGE = ".=+ \n\0\u0130\ud800"  # the other alphabet's, padding, white space, what decoders like to skip
IDENTITY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
Genuine = tuple[str, Callable[[str], object]]  # a token, and what verifies it


def verdict(key: SigningKey, tweak: Tweak = lambda _claims: None) -> Genuine:
    key_pair = KeyPair()
    request = VerificationRequest(CARD, HARDWARE, OPEN, "A" * 32, None)
    claims = claims_for({**vars(request), "client_public_key": key_pair.public_key}, IDENTITY)
    tweak(claims)
    keys = TrustedKeys(pinned(key))
    return key.token(claims), lambda token: verify_verdict(token, request, keys, key_pair)


def rejection(key: SigningKey) -> Genuine:
    return verdict(key, reject("CARD_FROZEN"))


def endorsement(key: SigningKey) -> Genuine:
    successor = SigningKey()

    def believed(token: str) -> object:
        keys = TrustedKeys(pinned(key))
        keys.add_endorsed([token])
        return successor.kid in keys or keys.steps

    return key.endorse(successor.jwk), believed


def sealed_key(_key: SigningKey) -> Genuine:
    """Not even another spelling of the same point opens (RFC 7748, section 5): the header is authenticated."""
    key_pair = KeyPair()
    return forger_for({"client_public_key": key_pair.public_key}, IDENTITY).sealed(), key_pair.open


def accepted(token: str, verify: Callable[[str], object]) -> bool:
    """Whether it passes, as an acceptance or a rejection. Any error but UntrustedAnswer fails the test."""
    try:
        return bool(verify(token))
    except UntrustedAnswer:
        return False


def neighbours(character: str) -> str:
    """Some other characters: near it in the alphabet (one bit apart, unused bits included), and strange ones."""
    place = BASE64URL.find(character)
    near = "".join(BASE64URL[place ^ bit] for bit in (1, 8, 32)) if place >= 0 else "AZaz09-_"
    return (near + STRANGE).replace(character, "")


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


@pytest.mark.parametrize("make", [verdict, rejection, endorsement, sealed_key])
def test_no_token_with_a_single_change_is_accepted(
    make: Callable[[SigningKey], Genuine], signing_key: SigningKey
) -> None:
    token, verify = make(signing_key)
    assert [changed for changed in mutations(token) if accepted(changed, verify)] == []
    assert accepted(token, verify)


@pytest.mark.nightly
def test_no_byte_has_another_value_that_is_accepted(signing_key: SigningKey) -> None:
    """All 255 other values: of each byte of header and signature, and of every fourth byte of the payload."""
    token, verify = rejection(signing_key)
    payload = range(token.index(".") + 1, token.rindex("."))
    for place, character in enumerate(token):
        if place not in payload or place % 4 == 0:
            for other in {*map(chr, range(256)), "\u0130", "\u2028", "\ud800"} - {character}:
                assert not accepted(token[:place] + other + token[place + 1 :], verify)
