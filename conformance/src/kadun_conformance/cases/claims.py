"""Tokens with a genuine signature that answer another request, or contradict themselves."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Callable

from kadun_conformance.case import with_claims
from kadun_conformance.crypto import ABSENT
from kadun_conformance.forger import LIFETIME_SECONDS, ClearKeyRequestedError, Forger, Reply, verdict

if TYPE_CHECKING:
    from kadun_conformance.case import Answer

Changes = Callable[[Forger], "dict[str, Any]"]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _lifetime(seconds: float) -> Changes:
    return lambda forger: {"exp": forger.vendor.now + seconds}


def _set(**changes: Any) -> Changes:  # noqa: ANN401 - any JSON
    return lambda _forger: changes


# What is changed in the genuine claims.
_CHANGED: dict[str, Changes] = {
    "nonce-other": _set(nonce="A" * 32),
    "nonce-absent": _set(nonce=ABSENT),
    "nonce-null": _set(nonce=None),
    "nonce-empty": _set(nonce=""),
    "nonce-prefix": lambda f: {"nonce": f.request["nonce"][:8]},
    "nonce-longer": lambda f: {"nonce": f.request["nonce"] + "A"},
    "nonce-case": lambda f: {"nonce": f.request["nonce"].swapcase()},
    "nonce-list": lambda f: {"nonce": [f.request["nonce"], "A" * 32]},
    "nonce-name-case": lambda f: {"nonce": ABSENT, "Nonce": f.request["nonce"]},
    "sub-other": _set(sub="Z" * 32),
    "sub-absent": _set(sub=ABSENT),
    "sub-list": lambda f: {"sub": [f.request["card_id"]]},
    "sub-case": lambda f: {"sub": f.request["card_id"].swapcase()},
    "function-other": _set(function="导出报表"),
    "function-absent": _set(function=ABSENT),
    "function-padded": lambda f: {"function": f.request["function"] + " "},
    "hardware-other": _set(hardware_sha256=_sha256("other")),
    "hardware-absent": _set(hardware_sha256=ABSENT),
    "hardware-clear": lambda f: {"hardware_sha256": f.request["hardware"]},
    "hardware-short": lambda f: {"hardware_sha256": _sha256(f.request["hardware"])[:16]},
    "request-other": _set(request_sha256=_sha256("other")),
    "aud-other": _set(aud="kadun-files"),
    "aud-absent": _set(aud=ABSENT),
    "aud-list": _set(aud=["kadun-client", "kadun-files"]),
    "aud-prefix": _set(aud="kadun-client-files"),
    "iss-other": _set(iss="other"),
    "iss-absent": _set(iss=ABSENT),
    "iss-list": lambda f: {"iss": [f.vendor.issuer, "other"]},
    "exp-before-iat": _lifetime(-1),
    "exp-is-iat": _lifetime(0),
    "exp-301": _lifetime(LIFETIME_SECONDS + 1),
    "exp-years": _lifetime(10**8),
    "exp-absent": _set(exp=ABSENT),
    "exp-null": _set(exp=None),
    "exp-text": lambda f: {"exp": str(f.vendor.now + LIFETIME_SECONDS)},
    "iat-true": _set(iat=False, exp=True),
    "exp-infinite": _set(exp=float("inf")),
    "exp-nan": _set(exp=float("nan")),
    "iat-absent": _set(iat=ABSENT),
    "iat-text": lambda f: {"iat": str(f.vendor.now)},
    "accepted-false": _set(accepted=False),
    "accepted-text": _set(accepted="true"),
    "accepted-text-false": _set(accepted="false"),
    "accepted-1": _set(accepted=1),
    "accepted-1.0": _set(accepted=1.0),
    "accepted-list": _set(accepted=[True]),
    "accepted-absent": _set(accepted=ABSENT),
    "accepted-null": _set(accepted=None),
    "code-frozen": _set(code="CARD_FROZEN"),
    "code-update-required": _set(code="UPDATE_REQUIRED", update_url="https://attacker.example/"),
    "code-unknown": _set(code="FINE"),
    "code-case": _set(code="ok"),
    "code-list": _set(code=["OK"]),
    "code-absent": _set(code=ABSENT),
    "code-padded": _set(code="OK "),
}


def _replayed(forger: Forger) -> Reply:
    """Send what the server said to an earlier start."""
    if forger.vendor.recorded:
        return verdict(forger.vendor.recorded[0])
    return verdict(forger.token(forger.claims(nonce="A" * 32)))


def _second_try(forger: Forger) -> Reply:
    """Fail the first try, and answer the second with what would have been right for the first."""
    if forger.earlier is None:
        busy = b'{"type":"about:blank","title":"Busy","status":503,"code":"UNAVAILABLE"}'
        return Reply(503, busy, {"Content-Type": "application/problem+json", "Retry-After": "0"})
    return verdict(Forger(forger.vendor, forger.earlier).token())


def _append(members: bytes, **changes: Any) -> Answer:  # noqa: ANN401 - any JSON
    """Append members to the payload, so that a name occurs twice."""

    def answer(forger: Forger) -> Reply:
        payload = json.dumps(forger.claims(**changes)).encode()
        return verdict(forger.token(payload[:-1] + b"," + members + b"}"))

    return answer


def _other_nonce_first(forger: Forger) -> Reply:
    return _append(b'"nonce":' + json.dumps(forger.request["nonce"]).encode(), nonce="A" * 32)(forger)


def _rejection_with_key(code: str) -> Answer:
    def answer(forger: Forger) -> Reply:
        kept = {name: value for name, value in forger.claims().items() if name.startswith("KERNAL_")}
        return verdict(forger.token(forger.rejection(code, **kept)))

    return answer


def _rejection_in_an_accepting_body(forger: Forger) -> Reply:
    token = forger.token(forger.rejection("CARD_EXPIRED"))
    body = {"code": "OK", "accepted": True, "message": "验证通过。", "token": token}
    if not forger.wants_sealed:
        body["KERNAL_DATA_KEY"] = forger.vendor.identity
    return Reply(200, json.dumps(body).encode())


def _clear_key(**changes: Any) -> Answer:  # noqa: ANN401 - any JSON
    def answer(forger: Forger) -> Reply:
        if not forger.wants_sealed:
            raise ClearKeyRequestedError
        return verdict(forger.token(forger.claims(KERNAL_DATA_KEY=forger.vendor.identity, **changes)))

    return answer


ANSWERS: dict[str, Answer] = {
    **{name: with_claims(changes) for name, changes in _CHANGED.items()},
    "replayed": _replayed,
    "replayed-first-try": _second_try,
    "twice-accepted": _append(b'"accepted":false'),
    "twice-code": _append(b'"code":"CARD_FROZEN"'),
    "twice-nonce": _append(b'"nonce":"AAAAAAAAAAAAAAAA"'),
    "twice-nonce-last": _other_nonce_first,
    "twice-no-then-yes": _append(b'"code":"OK","accepted":true', accepted=False, code="CARD_FROZEN"),
    "twice-escaped": _append(b'"\\u0063ode":"OK"'),
    "no-with-key": _rejection_with_key("CARD_FROZEN"),
    "update-with-key": _rejection_with_key("UPDATE_REQUIRED"),
    "no-said-as-yes": _rejection_in_an_accepting_body,
    "key-clear": _clear_key(KERNAL_DATA_KEY_SEALED=ABSENT),
    "key-clear-beside": _clear_key(),
}
