"""The SDK refuses every forged response of the conformance kit's table, by the check that the table names."""
# Owns token-verdict-check.

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kadun import CardRejected, Client, KadunError, ServerUnreachable, UntrustedAnswer
from kadun.responses import Response
from kadun_conformance.cases import FORGED, GENUINE, Case
from kadun_conformance.forger import Forger, Vendor

from tests.support.client.customer_machine import MakeClient, refused
from tests.support.client.fake_server import NOW, REPORT, FakeServer, Tweak, claims_for, reject, setting
from tests.support.tables import for_each

ERRORS: dict[str, type[KadunError]] = {
    "untrusted": UntrustedAnswer,
    "unreachable": ServerUnreachable,
    "rejected": CardRejected,
}
SPELLING = "a part of the token is not canonical base64url"
SIGNATURE = "the token's signature is wrong"
NO_VERDICT = "HTTP .* without a verdict"
UNTRUSTED = "the token is signed with a key that is neither pinned nor endorsed"
COMPARED = ("nonce", "sub", "function", "hardware_sha256", "request_sha256", "aud", "iss")
CLEAR = "the key is in clear, although it was requested sealed or not at all"
NOT_GRANTED = "the verdict contains a key that it does not grant"
# The error's whole detail, by the check that the table names.
DETAILS = {
    **{name: f"claim {name} is .*" for name in COMPARED},
    "exp": "claim exp is missing or not a time|claim exp is not within 300 seconds after iat",
    "accepted": "claim accepted is missing or not a boolean|claim accepted contradicts code",
    "json": "the token's (header|payload) is not a JSON object",
    "alg": f"the token's alg is not EdDSA|{SPELLING}",  # no signature: its empty part is refused first
    "typ": r"the token's typ is not (verdict|key)\+jwt",
    "crit": "the token's header has critical extensions",
    "kid": f"the token has no kid|{UNTRUSTED}",
    "signature": f"{SIGNATURE}|{SPELLING}",
    "format": f"the token is not a compact JWS|{SPELLING}|{NO_VERDICT}",
    "trust": UNTRUSTED,
    "thumbprint": f"the kid of a key is not its thumbprint|{SIGNATURE}",
    "endorsed key": "a key is not an Ed25519 key",
    "key set": "the key set has no endorsements",
    "sealed key": f"claim KERNAL_DATA_KEY_SEALED is missing or not a string|{NOT_GRANTED}|"
    "the sealed key is not a compact JWE for ECDH-ES|a part of the sealed key is not canonical base64url",
    "sealed header": "the sealed key's header is not alg ECDH-ES, enc A256GCM and epk|"
    "the sealed key's epk is not an X25519 public key",
    "decryption": "the sealed key does not decrypt with this program's key",
    "clear key": CLEAR,
    "no token": f"{NO_VERDICT}|{SIGNATURE}",
    "redirect": NO_VERDICT,
}


class CaseTransport:
    """Sends a case of the table to a client, inside this process."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.vendor = Vendor(issuer="kadun")
        self.requests: list[dict[str, Any]] = []

    def exchange(self, _path: str, body: bytes | None, _language: str) -> Response:
        if body is None:
            reply = (self.case.key_set or Forger.key_set)(Forger(self.vendor))
        else:
            self.requests.append(json.loads(body))
            reply = self.case.answer(Forger(self.vendor, self.requests[-1], body))
        headers = reply.headers
        return Response(reply.status, reply.body, headers.get("Retry-After"), headers.get("Content-Type"))


def answered(case: Case, make_client: MakeClient) -> Client:
    transport = CaseTransport(case)
    return make_client(transport=transport, public_keys=transport.vendor.pinned)


@for_each("case", GENUINE)
def test_a_genuine_response_is_accepted(case: Case, make_client: MakeClient) -> None:
    client = answered(case, make_client)
    if case.expected == "opened":
        assert client.open().data_key is not None
    else:
        refused(client, CardRejected)


@for_each("case", [case for case in FORGED if not case.group.endswith("bounds")])
def test_a_forged_response_is_refused_by_its_check(case: Case, make_client: MakeClient) -> None:
    error = refused(answered(case, make_client), ERRORS[case.expected])
    if case.expected == "untrusted":
        assert re.fullmatch(DETAILS[case.check], error.detail), (case.check, error.detail)


def without(name: str, before: Tweak = lambda _claims: None) -> Tweak:
    def tweak(claims: dict[str, Any]) -> None:
        before(claims)
        del claims[name]

    return tweak


OFFLINE = "claim offline_until in a verdict that is not an accepted opening"
MALFORMED = (
    "claim [a-z_]+ is missing or not a (time|string|boolean)|claim code or jti is malformed|"
    f"claim activated contradicts code|{OFFLINE}|{CLEAR}"
)
# Claims that this SDK reads beyond what the protocol asks of every client.
STRICTER: dict[str, Tweak] = {
    "exp is true": setting(exp=True),
    "iat is null": setting(iat=None),
    "iat is negative": setting(iat=-1, exp=299),
    "activated is 1": setting(activated=1),
    "card_expires_at is text": setting(card_expires_at="2030-01-01"),
    "card_activated_at is null": setting(card_activated_at=None),
    "offline_until is text": setting(offline_until="for ever"),
    **{f"jti is {jti!r}": setting(jti=jti) for jti in ("short", "reference\x1b[2J", 12345678, "x" * 129)},
    **{f"no {name}": without(name) for name in ("jti", "activated", "card_activated_at", "card_expires_at")},
    **{f"code is {code!r}": reject(code) for code in ("", "ok", "CARD FROZEN", "\u5361", "X" * 65, "CARD_FROZEN\x1b")},
    "a rejection that activates": reject("CARD_FROZEN", activated=True),
    "a rejection with offline_until": reject("CARD_FROZEN", offline_until=NOW),
    "a rejection with the key in clear": reject("CARD_FROZEN", KERNAL_DATA_KEY="the key"),
    "an expired card without card_expires_at": without("card_expires_at", reject("CARD_EXPIRED")),
}


@for_each("change", STRICTER)
def test_a_malformed_claim_is_refused(change: str, client: Client, server: FakeServer) -> None:
    server.tweak = STRICTER[change]
    assert re.fullmatch(MALFORMED, refused(client, UntrustedAnswer).detail)


@for_each("name", ["KERNAL_DATA_KEY", "KERNAL_DATA_KEY_SEALED", "offline_until"])
def test_a_report_grants_no_key_and_no_offline_starts(name: str, client: Client, server: FakeServer) -> None:
    server.tweak = setting(**{name: NOW})
    with pytest.raises(UntrustedAnswer, match=f"{CLEAR}|{NOT_GRANTED}|{OFFLINE}"):
        client.report(REPORT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CLAIMS = claims_for({"card_id": "x", "nonce": "x", "hardware": "x", "function": "f"})


@given(claim=st.sampled_from(sorted(CLAIMS)), value=json_values)
def test_a_claim_of_any_form_ends_in_a_verdict_or_a_kadun_error(
    claim: str, value: object, client: Client, server: FakeServer
) -> None:
    server.tweak = setting(**{claim: value})
    try:
        verdict = client.open()
    except KadunError:
        return
    assert verdict.accepted


@given(status=st.integers(200, 599), body=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_response_of_any_form_ends_in_a_kadun_error(
    status: int, body: bytes, client: Client, server: FakeServer
) -> None:
    server.script = [Response(status, body)] * 3
    with pytest.raises(KadunError):
        client.open()
