"""Tokens with the genuine signature that answer something else, or contradict themselves."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Callable

from kadun.hostile.world import LIFE_SECONDS, Forger, NotAskedError, Reply, Scenario, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

from kadun.hostile.forging import ABSENT

_GROUP = "声明 claims"
Changes = Callable[[Forger], "dict[str, Any]"]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _span(seconds: float) -> Changes:
    return lambda forger: {"exp": forger.world.now + seconds}


def _is(**changes: Any) -> Changes:  # noqa: ANN401 - any JSON
    return lambda _forger: changes


_CHANGED: dict[str, Changes] = {
    "nonce-other": _is(nonce="A" * 32),
    "nonce-absent": _is(nonce=ABSENT),
    "nonce-null": _is(nonce=None),
    "nonce-empty": _is(nonce=""),
    "nonce-prefix": lambda f: {"nonce": f.request["nonce"][:8]},
    "nonce-longer": lambda f: {"nonce": f.request["nonce"] + "A"},
    "nonce-case": lambda f: {"nonce": f.request["nonce"].swapcase()},
    "nonce-list": lambda f: {"nonce": [f.request["nonce"], "A" * 32]},
    "nonce-name-case": lambda f: {"nonce": ABSENT, "Nonce": f.request["nonce"]},
    "sub-other": _is(sub="Z" * 32),
    "sub-absent": _is(sub=ABSENT),
    "sub-list": lambda f: {"sub": [f.request["card_id"]]},
    "sub-case": lambda f: {"sub": f.request["card_id"].swapcase()},
    "function-other": _is(function="导出报表"),
    "function-absent": _is(function=ABSENT),
    "function-padded": lambda f: {"function": f.request["function"] + " "},
    "hardware-other": _is(hardware_sha256=_sha256("other")),
    "hardware-absent": _is(hardware_sha256=ABSENT),
    "hardware-clear": lambda f: {"hardware_sha256": f.request["hardware"]},
    "hardware-short": lambda f: {"hardware_sha256": _sha256(f.request["hardware"])[:16]},
    "aud-other": _is(aud="kadun-files"),
    "aud-absent": _is(aud=ABSENT),
    "aud-list": _is(aud=["kadun-client", "kadun-files"]),
    "aud-prefix": _is(aud="kadun-client-files"),
    "iss-other": _is(iss="other"),
    "iss-absent": _is(iss=ABSENT),
    "iss-list": lambda f: {"iss": [f.world.issuer, "other"]},
    "exp-before-iat": _span(-1),
    "exp-is-iat": _span(0),
    "exp-301": _span(LIFE_SECONDS + 1),
    "exp-years": _span(10**8),
    "exp-absent": _is(exp=ABSENT),
    "exp-null": _is(exp=None),
    "exp-text": lambda f: {"exp": str(f.world.now + LIFE_SECONDS)},
    "exp-infinite": _is(exp=float("inf")),
    "exp-nan": _is(exp=float("nan")),
    "iat-absent": _is(iat=ABSENT),
    "iat-text": lambda f: {"iat": str(f.world.now)},
    "iat-true": _is(iat=False, exp=True),
    "accepted-false": _is(accepted=False),
    "accepted-text": _is(accepted="true"),
    "accepted-text-false": _is(accepted="false"),
    "accepted-1": _is(accepted=1),
    "accepted-1.0": _is(accepted=1.0),
    "accepted-list": _is(accepted=[True]),
    "accepted-absent": _is(accepted=ABSENT),
    "accepted-null": _is(accepted=None),
    "code-frozen": _is(code="CARD_FROZEN"),
    "code-unknown": _is(code="FINE"),
    "code-case": _is(code="ok"),
    "code-list": _is(code=["OK"]),
    "code-absent": _is(code=ABSENT),
    "code-padded": _is(code="OK "),
}


def _replayed(forger: Forger) -> Reply:
    """What was really said before, to this client or to one just like it."""
    if forger.world.recorded:
        return verdict(forger.world.recorded[0])
    return verdict(forger.token(forger.claims(nonce="A" * 32)))


def _second_try(forger: Forger) -> Reply:
    """Let the first try fail, and answer the second with what would have been right for the first."""
    if forger.earlier is None:
        busy = b'{"type":"about:blank","title":"Busy","status":503,"code":"UNAVAILABLE"}'
        return Reply(503, busy, {"Content-Type": "application/problem+json", "Retry-After": "0"})
    return verdict(Forger(forger.world, forger.earlier).token())


def _twice(members: bytes) -> Callable[[Forger], Reply]:
    """The honest claims, with members put in again before the end or, where they are lies, after the start."""

    def answer(forger: Forger) -> Reply:
        honest = json.dumps(forger.claims()).encode()
        return verdict(forger.token(honest[:-1] + b"," + members + b"}"))

    return answer


def _false_then_true(forger: Forger) -> Reply:
    payload = json.dumps(forger.claims(accepted=False, code="CARD_FROZEN")).encode()
    return verdict(forger.token(payload[:-1] + b',"code":"OK","accepted":true}'))


def _other_nonce_first(forger: Forger) -> Reply:
    nonce = json.dumps(forger.request["nonce"]).encode()
    payload = json.dumps(forger.claims(nonce="A" * 32)).encode()
    return verdict(forger.token(payload[:-1] + b',"nonce":' + nonce + b"}"))


def _no_with_the_key(forger: Forger) -> Reply:
    kept = {name: value for name, value in forger.claims().items() if name.startswith("KERNAL_")}
    return verdict(forger.token(forger.no("CARD_FROZEN", **kept)))


def _no_that_says_yes_outside(forger: Forger) -> Reply:
    body = {"code": "OK", "accepted": True, "message": "验证通过。", "token": forger.token(forger.no("CARD_EXPIRED"))}
    if not forger.asks_sealed:
        body["KERNAL_DATA_KEY"] = forger.world.identity
    return Reply(200, json.dumps(body).encode())


def _clear_key(*, beside: bool) -> Callable[[Forger], Reply]:
    def answer(forger: Forger) -> Reply:
        if not forger.asks_sealed:
            raise NotAskedError
        kept = {} if beside else {"KERNAL_DATA_KEY_SEALED": ABSENT}
        return verdict(forger.token(forger.claims(KERNAL_DATA_KEY=forger.world.identity, **kept)))

    return answer


_SPECIAL: dict[str, Callable[[Forger], Reply]] = {
    "replayed": _replayed,
    "replayed-first-try": _second_try,
    "twice-accepted": _twice(b'"accepted":false'),
    "twice-code": _twice(b'"code":"CARD_FROZEN"'),
    "twice-nonce": _twice(b'"nonce":"AAAAAAAAAAAAAAAA"'),
    "twice-nonce-last": _other_nonce_first,
    "twice-no-then-yes": _false_then_true,
    "twice-escaped": _twice(b'"\\u0063ode":"OK"'),
    "no-with-key": _no_with_the_key,
    "no-said-as-yes": _no_that_says_yes_outside,
    "key-clear": _clear_key(beside=False),
    "key-clear-beside": _clear_key(beside=True),
}


def lies() -> Iterator[Scenario]:
    """All of them."""
    for name, changes in _CHANGED.items():
        yield Scenario(name, _GROUP, _answer(changes), expects=_expects(name))
    for name, answer in _SPECIAL.items():
        yield Scenario(name, _GROUP, answer, expects=_expects(name))


def _expects(name: str) -> str:
    """What contradicts itself, or holds a genuine no, may be taken for a no, though never for a yes."""
    return "rejected" if name.startswith(("accepted-", "code-", "no-", "twice-")) else "refused"


def _answer(changes: Changes) -> Callable[[Forger], Reply]:
    return lambda forger: verdict(forger.token(forger.claims(**changes(forger))))
