"""Each lie that a false server could tell, and the client that believes none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kadun import Client, KadunError, UntrustedAnswer
from kadun.keys import TrustedKeys
from kadun.request import VerificationRequest
from kadun.responses import Response
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
    b64,
    claims_for,
    pinned,
    reject,
    seal,
    setting,
    signed_by_secret,
    unb64,
    unsigned,
    verdict_answer,
    without,
)

CLAIM_LIES: dict[str, Tweak] = {
    "another audience": setting(aud="kadun-files"),
    "a list of audiences": setting(aud=["kadun-client"]),
    "another issuer": setting(iss="other"),
    "another nonce": setting(nonce="A" * 32),
    "another card": setting(sub="Z" * 32),
    "the card in lower case": setting(sub=CARD.lower()),
    "another function": setting(function="导出报表"),
    "other hardware": setting(hardware_sha256="0" * 64),
    "valid for 301 seconds": setting(exp=NOW + 301),
    "valid for years": setting(exp=NOW + 10**8),
    "expired when issued": setting(exp=NOW),
    "expired before it was issued": setting(exp=NOW - 1),
    "exp is text": setting(exp=str(NOW + 300)),
    "exp is true": setting(exp=True),
    "exp is infinite": setting(exp=float("1e308") * 10),
    "iat is null": setting(iat=None),
    "iat is beyond all calendars": setting(iat=10**15, exp=10**15 + 300),
    "iat is a number of 400 digits": setting(iat=10**400, exp=10**400 + 300),
    "accepted without OK": setting(code="CARD_EXPIRED"),
    "OK without accepted": setting(accepted=False),
    "accepted is 1": setting(accepted=1),
    "accepted is the text true": setting(accepted="true"),
    "code is ok": setting(code="ok"),
    "code holds an escape": setting(code="OK\x1b[2J"),
    "code is a list": setting(code=["OK"]),
    "activated is 1": setting(activated=1),
    "jti is short": setting(jti="short"),
    "jti holds an escape": setting(jti="reference\x1b[2J"),
    "jti is a number": setting(jti=12345678),
    "the expiry is true": setting(card_expires_at=True),
    "the expiry is text": setting(card_expires_at="2030-01-01"),
    "the expiry is beyond all calendars": setting(card_expires_at=10**18),
    "the activation is null": setting(card_activated_at=None),
    "offline_until is text": setting(offline_until="for ever"),
    "the key in clear beside the sealed one": setting(KERNAL_DATA_KEY="AGE-SECRET-KEY-1…"),
    "a sealed key that is no JWE": setting(KERNAL_DATA_KEY_SEALED="sealed"),
    "a sealed key that is a number": setting(KERNAL_DATA_KEY_SEALED=5),
    "a sealed key for someone else": setting(KERNAL_DATA_KEY_SEALED=seal("the key", KeyPair().public_key)),
    **{
        f"no {name}": without(name)
        for name in claims_for(
            {
                **dict.fromkeys(("card_id", "nonce", "hardware"), "x"),
                "function": OPEN,
                "client_public_key": KeyPair().public_key,
            }
        )
    },
}


@pytest.mark.parametrize("lie", CLAIM_LIES)
def test_a_signed_token_with_one_wrong_claim_is_not_believed(lie: str, client: Client, server: FakeServer) -> None:
    server.tweak = CLAIM_LIES[lie]
    with pytest.raises(UntrustedAnswer):
        client.open()


def test_the_same_token_without_a_lie_is_believed(client: Client) -> None:
    assert client.open().accepted


def test_the_key_in_clear_instead_of_the_sealed_one_is_not_believed(client: Client, server: FakeServer) -> None:
    def tweak(claims: dict[str, Any]) -> None:
        del claims["KERNAL_DATA_KEY_SEALED"]
        claims["KERNAL_DATA_KEY"] = "the key"

    server.tweak = tweak
    with pytest.raises(UntrustedAnswer, match="in clear"):
        client.open()


@pytest.mark.parametrize("name", ["KERNAL_DATA_KEY", "KERNAL_DATA_KEY_SEALED", "offline_until"])
@pytest.mark.parametrize("function", [OPEN, "导出报表"])
def test_what_was_not_earned_is_not_believed(name: str, function: str, client: Client, server: FakeServer) -> None:
    def tweak(claims: dict[str, Any]) -> None:
        if function == OPEN:
            reject("CARD_FROZEN")(claims)
        claims[name] = NOW

    server.tweak = tweak
    with pytest.raises(UntrustedAnswer):
        client.open() if function == OPEN else client.report(function)


@pytest.mark.parametrize("code", ["", "ok", "CARD FROZEN", "CARD_FROZEN\x1b[2J", "\u5361", "X" * 65])
def test_a_no_with_a_code_that_is_none_is_not_believed(code: str, client: Client, server: FakeServer) -> None:
    server.tweak = reject(code)
    with pytest.raises(UntrustedAnswer):
        client.open()


def test_a_no_that_claims_to_have_activated_the_card_is_not_believed(client: Client, server: FakeServer) -> None:
    def tweak(claims: dict[str, Any]) -> None:
        reject("CARD_FROZEN")(claims)
        claims["activated"] = True

    server.tweak = tweak
    with pytest.raises(UntrustedAnswer):
        client.open()


@pytest.mark.parametrize("missing", ["card_activated_at", "card_expires_at"])
def test_an_expired_card_without_its_dates_is_not_believed(missing: str, client: Client, server: FakeServer) -> None:
    def tweak(claims: dict[str, Any]) -> None:
        reject("CARD_EXPIRED")(claims)
        del claims[missing]

    server.tweak = tweak
    with pytest.raises(UntrustedAnswer):
        client.open()


HEADER_LIES: dict[str, dict[str, Any]] = {
    "typ of a download": {"typ": "file+jwt"},
    "typ of an endorsement": {"typ": "key+jwt"},
    "typ of any token": {"typ": "JWT"},
    "no typ": {"typ": None},
    "no kid": {"kid": None},
    "kid is a number": {"kid": 1},
    "kid of nobody": {"kid": "A" * 43},
    "no alg": {"alg": None},
    "alg none": {"alg": "none"},
    "alg HS256": {"alg": "HS256"},
    "alg Ed25519": {"alg": "Ed25519"},
    "alg in lower case": {"alg": "eddsa"},
    "alg is a list": {"alg": ["EdDSA"]},
    "a critical extension": {"crit": ["exp"]},
    "an unencoded payload": {"b64": False},
}


@pytest.mark.parametrize("lie", HEADER_LIES)
def test_a_token_with_another_header_is_not_believed(lie: str, client: Client, server: FakeServer) -> None:
    server.header = HEADER_LIES[lie]
    with pytest.raises(UntrustedAnswer):
        client.open()


def test_a_signature_by_another_key_under_the_pinned_kid_is_not_believed(
    client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    server.key = SigningKey()
    server.header = {"kid": signing_key.kid}
    with pytest.raises(UntrustedAnswer, match="signature"):
        client.open()


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "EdDSA", ""])
def test_an_unsigned_token_is_not_believed(
    alg: str, client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    server.script = [lambda request: verdict_answer(unsigned(claims_for(request), signing_key.kid, alg))]
    with pytest.raises(UntrustedAnswer):
        client.open()


def test_hs256_with_the_public_key_as_secret_is_not_believed(
    client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    secrets = [signing_key.raw, signing_key.jwk["x"].encode(), json.dumps(signing_key.jwk).encode()]
    for secret in secrets:
        server.script = [
            lambda request, secret=secret: verdict_answer(
                signed_by_secret(claims_for(request), secret, signing_key.kid)
            )
        ]
        with pytest.raises(UntrustedAnswer):
            client.open()


def test_a_verdict_cannot_be_replayed(client: Client, server: FakeServer) -> None:
    recorded: list[Response] = []

    def record(request: dict[str, Any]) -> Response:
        recorded.append(server.truth(request))
        return recorded[0]

    server.script = [record, lambda _request: recorded[0]]
    client.open()
    with pytest.raises(UntrustedAnswer, match="nonce"):
        client.open()


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"null", b"{", b'{"iss":"kadun","iss":"kadun"}', b"\xff", b'{"a":NaN}', b"[" * 100_000],
)
def test_a_signed_payload_that_is_no_plain_object_is_not_believed(
    payload: bytes, client: Client, server: FakeServer, signing_key: SigningKey
) -> None:
    server.script = [verdict_answer(signing_key.sign(payload))]
    with pytest.raises(UntrustedAnswer):
        client.open()


@pytest.mark.parametrize(
    "answer",
    [
        Response(200, b""),
        Response(200, b"<html>Please sign in</html>"),
        Response(200, b"\xff\xfe"),
        Response(200, b"null"),
        Response(200, b"{}"),
        Response(200, b"[" * 200_000),
        Response(200, b'{"token": NaN}'),
        Response(200, b'{"token": null}'),
        Response(200, b'{"token": {"code": "OK"}}'),
        Response(200, b'{"token": ""}'),
        Response(200, b'{"token": ".."}'),
        Response(200, b'{"token": "a.b"}'),
        Response(200, b'{"token": "e30.e30.e30"}'),
        Response(200, b'{"token": "e30.e30.e30.e30.e30"}'),
        Response(200, '{"token": "密.密.密"}'.encode()),
        Response(200, b'{"token": "\\ud800.e30.e30"}'),
        Response(200, b'{"code": "OK", "accepted": true}'),
        Response(302, b"", None),
        Response(301, b'{"code": "OK"}'),
        Response(404, b"<html>not found</html>"),
        Response(403, b'{"title": "Forbidden"}'),
    ],
    ids=lambda answer: f"{answer.status} {answer.body[:30]!r}",
)
def test_an_answer_that_is_no_verdict_is_not_believed(answer: Response, client: Client, server: FakeServer) -> None:
    server.script = [answer]
    with pytest.raises(UntrustedAnswer):
        client.open()


def good_token(key: SigningKey) -> tuple[str, VerificationRequest, KeyPair]:
    envelope = KeyPair()
    question = VerificationRequest(CARD, HARDWARE, OPEN, envelope.public_key)
    return key.sign(claims_for(json.loads(question.body()))), question, envelope


def test_no_change_of_one_byte_of_a_good_token_is_believed(signing_key: SigningKey) -> None:
    token, question, envelope = good_token(signing_key)
    keys = TrustedKeys(pinned(signing_key))
    assert verify_verdict(token, question, keys, envelope).accepted
    changed = [
        token[:place] + chr(ord(token[place]) ^ (1 << bit)) + token[place + 1 :]
        for place in range(len(token))
        for bit in range(7)
    ]
    changed += [token[:place] + token[place + 1 :] for place in range(len(token))]
    changed += [token[:place] + added + token[place:] for place in range(len(token) + 1) for added in "A.=\n"]
    believed = []
    for lie in changed:
        try:
            verify_verdict(lie, question, keys, envelope)
        except UntrustedAnswer:
            continue
        believed.append(lie)
    assert believed == []


def test_every_other_spelling_of_the_signature_is_refused(signing_key: SigningKey) -> None:
    """64 bytes leave four spare bits in their last character: 15 other texts decode to the same signature."""
    token, question, envelope = good_token(signing_key)
    keys = TrustedKeys(pinned(signing_key))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    signature = unb64(token.rsplit(".", 1)[1])
    twins = [token[:-1] + last for last in alphabet if unb64((token[:-1] + last).rsplit(".", 1)[1]) == signature]
    assert len(twins) == 16
    for twin in set(twins) - {token}:
        with pytest.raises(UntrustedAnswer):
            verify_verdict(twin, question, keys, envelope)


SEALED_LIES: dict[str, Any] = {
    "another enc": lambda public: seal("the key", public, {"enc": "A128GCM"}),
    "compressed": lambda public: seal("the key", public, {"zip": "DEF"}),
    "a further header": lambda public: seal("the key", public, {"typ": "JWT"}),
    "party info": lambda public: seal("the key", public, {"apu": "QQ"}),
    "empty": lambda public: seal("", public),
    "not UTF-8": lambda public: seal(b"\xff\xfe", public),
    "cut": lambda public: seal("the key", public)[:-4],
    "a short tag": lambda public: seal("the key", public).rsplit(".", 1)[0] + ".AAAA",
    "two parts": lambda public: ".".join(seal("the key", public).split(".")[:2]),
    "an encrypted key": lambda public: seal("the key", public).replace("..", ".AAAA."),
    "no epk": lambda _public: f"{b64(json.dumps({'alg': 'ECDH-ES', 'enc': 'A256GCM'}).encode())}..AA.AA.AA",
    "epk of low order": lambda public: with_epk(public, {"kty": "OKP", "crv": "X25519", "x": "A" * 43}),
    "epk too short": lambda public: with_epk(public, {"kty": "OKP", "crv": "X25519", "x": "AA"}),
    "epk without x": lambda public: with_epk(public, {"kty": "OKP", "crv": "X25519"}),
    "epk of another curve": lambda public: with_epk(public, {"kty": "OKP", "crv": "X448", "x": "A" * 75}),
    "epk is text": lambda public: with_epk(public, "epk"),
    "alg dir": lambda public: with_epk(public, None, alg="dir"),
}


def with_epk(public_key: str, epk: object, alg: str = "ECDH-ES") -> str:
    header = {"alg": alg, "enc": "A256GCM", "epk": epk}
    return ".".join([b64(json.dumps(header).encode()), *seal("the key", public_key).split(".")[1:]])


@pytest.mark.parametrize("lie", SEALED_LIES)
def test_a_key_sealed_in_any_other_way_is_not_believed(lie: str, client: Client, server: FakeServer) -> None:
    def tweak(claims: dict[str, Any]) -> None:
        public_key = server.requests[-1]["client_public_key"]
        claims["KERNAL_DATA_KEY_SEALED"] = SEALED_LIES[lie](public_key)

    server.tweak = tweak
    with pytest.raises(UntrustedAnswer):
        client.open()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    claim=st.sampled_from(sorted(claims_for({"card_id": "x", "nonce": "x", "hardware": "x", "function": "f"}))),
    value=json_values,
)
def test_a_claim_of_any_shape_ends_in_a_verdict_or_in_an_error_of_ours(
    claim: str, value: object, client: Client, server: FakeServer
) -> None:
    server.tweak = setting(**{claim: value})
    try:
        verdict = client.open()
    except KadunError:
        return
    assert verdict.accepted


@given(status=st.integers(200, 599), body=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_an_answer_of_any_shape_ends_in_an_error_of_ours(
    status: int, body: bytes, client: Client, server: FakeServer
) -> None:
    server.script = [Response(status, body)] * 3
    with pytest.raises(KadunError):
        client.open()
