"""Every single byte of every good token counts: not one that was changed is accepted."""

from __future__ import annotations

import json
import string
from typing import TYPE_CHECKING, Any

import pytest
from kadun import Client, UntrustedAnswer
from kadun.keys import TrustedKeys
from kadun.request import VerificationRequest
from kadun.sealing import KeyPair
from kadun.verdict import verify_verdict

from tests.support.client.forge import (
    CARD,
    HARDWARE,
    NOW,
    OPEN,
    FakeServer,
    SigningKey,
    Tweak,
    claims_for,
    pinned,
    reject,
    seal,
    setting,
    verdict_answer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kadun.responses import Response

NUMERALS_AND_LETTERS = string.ascii_letters + string.digits
BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"
STRANGE = ".=+ \n\0\u0130\ud800"  # the other alphabet's, padding, white space, what decoders like to skip
IDENTITY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
GOOD: dict[str, tuple[str, Tweak]] = {
    "an opening": (OPEN, lambda _claims: None),
    "an opening that may stand in": (OPEN, setting(offline_until=NOW + 600, card_expires_at=None, activated=True)),
    "a report": ("导出报表", lambda _claims: None),
    "a rejection": (OPEN, reject("CARD_FROZEN")),
    "an expiry": (OPEN, reject("CARD_EXPIRED")),
}


class Good:
    """A token that passes, with all that it is checked against."""

    def __init__(self, key: SigningKey, function: str, tweak: Tweak) -> None:
        self.envelope = KeyPair() if function == OPEN else None
        public_key = self.envelope.public_key if self.envelope else None
        self.question = VerificationRequest(CARD, HARDWARE, function, public_key)
        claims = claims_for(json.loads(self.question.body()), IDENTITY)
        tweak(claims)
        self.token = key.sign(claims)
        self.keys = TrustedKeys(pinned(key))

    def accepts(self, token: str) -> bool:
        """Whether it passes, be it as a yes or as a no. Any other error than the promised one fails the test."""
        try:
            verify_verdict(token, self.question, self.keys, self.envelope)
        except UntrustedAnswer:
            return False
        return True


def neighbours(character: str) -> str:
    """Some other characters for one: near it in the alphabet (one bit apart, a spare one included), and strange."""
    place = BASE64URL.find(character)
    near = "".join(BASE64URL[place ^ bit] for bit in (1, 8, 32)) if place >= 0 else "AZaz09-_"
    return (near + STRANGE).replace(character, "")


def everything(character: str) -> str:
    """All other characters that a byte can be, and some beyond."""
    return ("".join(map(chr, range(256))) + "\u0130\u2028\ud800").replace(character, "")


def mutations(token: str, others: Callable[[str], str]) -> Iterator[str]:
    """The token with each character replaced, removed, doubled, and swapped with the next."""
    for place, character in enumerate(token):
        before, after = token[:place], token[place + 1 :]
        for other in others(character):
            yield before + other + after
        yield before + after
        yield before + character * 2 + after
        if after and after[0] != character:
            yield before + after[0] + character + after[1:]
    yield from (token + end for end in (*NUMERALS_AND_LETTERS, *STRANGE, ".", ".."))
    yield from (start + token for start in (*NUMERALS_AND_LETTERS, *STRANGE, "\ufeff"))


@pytest.mark.parametrize("what", GOOD)
def test_no_verdict_with_a_single_change_is_accepted(what: str, signing_key: SigningKey) -> None:
    good = Good(signing_key, *GOOD[what])
    tried = [token for token in mutations(good.token, neighbours) if good.accepts(token)]
    assert tried == []
    assert good.accepts(good.token)


def test_no_byte_has_any_other_value_that_passes(signing_key: SigningKey) -> None:
    """All 255 other values: of each byte of header and signature, and of every fourth in what they sign."""
    good = Good(signing_key, *GOOD["a rejection"])
    payload = range(good.token.index(".") + 1, good.token.rindex("."))
    for place, character in enumerate(good.token):
        if place in payload and place % 4:
            continue
        for other in everything(character):
            assert not good.accepts(good.token[:place] + other + good.token[place + 1 :])
    assert good.accepts(good.token)


def test_no_endorsement_with_a_single_change_is_believed(signing_key: SigningKey) -> None:
    successor = SigningKey()
    endorsement = signing_key.endorse(successor)

    def believes(changed: str) -> bool:
        keys = TrustedKeys(pinned(signing_key))
        try:
            keys.add_endorsed([changed])
        except UntrustedAnswer:
            return False
        return successor.kid in keys or len(keys.endorsements) > 0

    assert [changed for changed in mutations(endorsement, neighbours) if believes(changed)] == []
    assert believes(endorsement)


def test_no_sealed_key_with_a_single_change_opens() -> None:
    envelope = KeyPair()
    sealed = seal(IDENTITY, envelope.public_key)

    def opens(changed: str) -> bool:
        try:
            envelope.open(changed)
        except UntrustedAnswer:
            return False
        return True

    # The X25519 field has a few more spellings of one point than points (RFC 7748, section 5); the header that holds
    # the spelling is authenticated, so that even those do not open.
    assert [changed for changed in mutations(sealed, neighbours) if opens(changed)] == []
    assert opens(sealed)


def test_the_client_itself_accepts_none_of_them(client: Client, server: FakeServer) -> None:
    """The same once more through the front door, a change at each byte: the answer as it comes from the network."""

    def spoiled(place: int) -> Callable[[dict[str, Any]], Response]:
        def answer(request: dict[str, Any]) -> Response:
            token = json.loads(server.truth(request).body)["token"]
            other = BASE64URL[BASE64URL.find(token[place]) ^ 1] if token[place] != "." else "A"
            return verdict_answer(token[:place] + other + token[place + 1 :])

        return answer

    question = json.loads(VerificationRequest(CARD, HARDWARE, "导出报表").body())
    for place in range(len(json.loads(server.truth(question).body)["token"])):
        server.script = [spoiled(place)]
        with pytest.raises(UntrustedAnswer):
            client.report("导出报表")
    assert client.report("导出报表").accepted
