"""Writes the answers beside it from the conformance kit's table of cases; everything random comes from a seed.

    PYTHONPATH=client/conformance/src:. python -m tests.vectors.generate

A published vector never changes, because authors of clients test against it: add new ones.
The other files are frozen: they have no generator.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kadun_conformance.cases import FORGED, GENUINE, Case
from kadun_conformance.crypto import b64, unb64, x25519_public_key
from kadun_conformance.forger import OPEN, Forger, Vendor

FOLDER = Path(__file__).parent
NOW = 1_800_000_000
FOR_CUSTOMERS = ("notice", "latest_version", "update_url")
IDENTITY = "AGE-SECRET-KEY-15WL2R8HQ73EW3EHK8LMXFVJ7PAH8Q78S5N5XCWUU0GQRV2NKLHFQURCM83"
Vector = dict[str, Any]


class Seeded:
    """Random-looking bytes, the same for the same name."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._count = 0

    def __call__(self, size: int) -> bytes:
        self._count += 1
        return hashlib.shake_256(f"kadun test vectors, {self._name}, {self._count}".encode()).digest(size)


def vendor(name: str) -> Vendor:
    """Return the vendor of all vectors, with randomness of its own for each vector."""
    made = Vendor(Seeded("keys"), issuer="kadun", identity=IDENTITY, now=NOW)
    made.randomness = Seeded(name)
    return made


def request(name: str) -> tuple[bytes, Vector]:
    """Return a client's private key for one start, and its request."""
    random = Seeded(f"request {name}")
    private = random(32)
    return private, {
        "card_id": "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ",
        "hardware": "机器码-1",
        "function": OPEN,
        "nonce": b64(random(24)),
        "client_public_key": x25519_public_key(private),
    }


def answers(cases: Iterable[Case]) -> Iterator[Vector]:
    """Return whole responses: the request, the token and the key set, and what a client must make of them."""
    for case in cases:
        if "live" in case.options:
            continue
        made = vendor(case.name)
        private, asked = request(case.name)
        body = json.dumps(asked).encode() if "body" in case.options else b""
        forger = Forger(made, asked, body=body)
        token = json.loads(case.answer(forger).body)["token"]
        vector: Vector = {"name": case.name, "why": case.about, "request": asked}
        vector |= {"request_body_base64": base64.b64encode(body).decode()} if body else {}
        vector |= {"client_private_key": b64(private), "token": token}
        if case.key_set:
            vector["key_set_base64"] = base64.b64encode(case.key_set(forger).body).decode()
        vector["expected"] = case.expected
        if case.genuine:
            claims = json.loads(unb64(token.split(".")[1]))
            vector |= {"code": claims["code"], "jti": claims["jti"]}
            vector |= {"data_key": made.identity} if case.expected == "opened" else {}
            vector |= {name: claims[name] for name in FOR_CUSTOMERS if name in claims}
        else:
            vector["check"] = case.check
        yield vector


def documents() -> dict[str, str]:
    shared = {"pinned": vendor("x").pinned, "function": OPEN}
    found: dict[str, Any] = {
        "answers-good.json": {**shared, "answers": list(answers(GENUINE))},
        "answers-bad.json": {**shared, "answers": list(answers(case for case in FORGED if not case.key_set))},
        "endorsements-bad.json": {**shared, "answers": list(answers(case for case in FORGED if case.key_set))},
    }
    return {name: json.dumps(document, ensure_ascii=False, indent=1) + "\n" for name, document in found.items()}


if __name__ == "__main__":
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
