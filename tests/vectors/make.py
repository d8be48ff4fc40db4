"""Writes the test vectors beside it. Run again it writes the same bytes: all that is random comes from a seed.

    PYTHONPATH=client/src:. python -m tests.vectors.make [--check]

A vector once published is never changed, since authors of clients hold theirs against it: add new ones at the end.
"""

import base64
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from kadun.hostile import lies_claims, lies_keys, lies_sealed, lies_tokens, report
from kadun.hostile.catalog import CONTROLS
from kadun.hostile.forging import b64, concat_kdf, seal, unb64
from kadun.hostile.world import OPEN, Forger, Scenario, World

from tests.vectors.age_files import Seeded, age_files, identity

FOLDER = Path(__file__).parent
NOW = 1_800_000_000
# Too large to be worth freezing, a matter of several requests, a genuine no in false words, or not the same each time.
LEFT_OUT = {"payload-deep", "endorsed-flood", "replayed", "replayed-first-try", "no-said-as-yes", "honest-identities"}
Vector = dict[str, Any]


def world(name: str) -> World:
    """The same keys for all, and randomness of its own for each vector."""
    made = World(Seeded("keys"), identity=identity(Seeded("identity")(32)), now=NOW)
    made.issuer = "kadun"
    made.randomness = Seeded(name)
    return made


def question(name: str) -> tuple[bytes, Vector]:
    """A client's private key for one start, and its request."""
    random = Seeded(f"request {name}")
    private = random(32)
    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    request = {
        "card_id": "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ",
        "hardware": "机器码-1",
        "function": OPEN,
        "nonce": b64(random(24)),
        "client_public_key": b64(public),
    }
    return private, request


def requests() -> Iterator[Vector]:
    """What a client sends, and what the answer must therefore hold."""
    for hardware in ("machine-1", "机器码-1", "é", "e\u0301", " padded ", "😀", "x" * 1024):
        digest = hashlib.sha256(hardware.encode()).hexdigest()
        yield {"hardware": hardware, "utf8_hex": hardware.encode().hex(), "hardware_sha256": digest}


def keys() -> Iterator[Vector]:
    """Signing keys with their thumbprints: private ones too, so that authors can sign lies of their own."""
    made = world("keys")
    random = Seeded("keys")
    names = ("chain-0", "chain-1", "chain-2", "chain-3", "chain-4", "stranger")
    for name, key in zip(names, [*made.chain, made.stranger], strict=True):
        seed = random(32)
        hashed = f'{{"crv":"Ed25519","kty":"OKP","x":"{key.jwk["x"]}"}}'
        yield {"name": name, "private_key": b64(seed), "jwk": key.jwk, "thumbprint_of": hashed, "thumbprint": key.kid}


def answers(scenarios: list[Scenario]) -> Iterator[Vector]:
    """Whole answers: the request, the token and the key set, and what a client makes of them."""
    for scenario in scenarios:
        if scenario.name in LEFT_OUT:
            continue
        made = world(scenario.name)
        private, request = question(scenario.name)
        token = json.loads(scenario.answer(Forger(made, request)).body)["token"]
        vector: Vector = {"name": scenario.name, "why": report.words(scenario.name)}
        vector |= {"request": request, "client_private_key": b64(private), "token": token}
        if scenario.group == "密钥 keys" or scenario.name.startswith("honest-rotated"):
            vector["key_set_base64"] = base64.b64encode(scenario.keys(made).body).decode()
        if scenario.honest:
            payload = json.loads(unb64(token.split(".")[1]))
            vector |= {"expected": scenario.expects, "code": payload["code"], "jti": payload["jti"]}
            if scenario.expects == "opened":
                vector["data_key"] = made.identity
        else:
            vector["expected"] = "untrusted"
        yield vector


def sealed() -> Iterator[Vector]:
    """The key alone, with each step on the way to it."""
    for name, plaintext in {"an identity": world("x").identity, "another scheme": "卖家自己的密钥 🔑\n"}.items():
        private, request = question(f"sealed {name}")
        jwe = seal(plaintext.encode(), request["client_public_key"], Seeded(f"sealed {name}"))
        header, _none, iv, ciphertext, tag = jwe.split(".")
        epk = json.loads(unb64(header))["epk"]
        ours = X25519PrivateKey.from_private_bytes(private)
        shared = ours.exchange(X25519PublicKey.from_public_bytes(unb64(epk["x"])))
        other = (7).to_bytes(4, "big") + b"A256GCM" + bytes(8) + (256).to_bytes(4, "big")
        yield {
            "name": name,
            "client_private_key": b64(private),
            "client_public_key": request["client_public_key"],
            "jwe": jwe,
            "header": json.loads(unb64(header)),
            "shared_secret_hex": shared.hex(),
            "kdf_input_hex": ((1).to_bytes(4, "big") + shared + other).hex(),
            "content_key_hex": concat_kdf(shared, "A256GCM", 256).hex(),
            "aad": header,
            "iv_hex": unb64(iv).hex(),
            "ciphertext_hex": unb64(ciphertext).hex(),
            "tag_hex": unb64(tag).hex(),
            "plaintext": plaintext,
        }


def documents() -> dict[str, Any]:
    """Each file's name and what stands in it."""
    shared = {"pinned": world("x").pinned, "function": OPEN}
    lies = [*lies_claims.lies(), *lies_tokens.lies(), *lies_sealed.lies()]
    return {
        "requests.json": list(requests()),
        "keys.json": list(keys()),
        "answers-good.json": {**shared, "answers": list(answers(list(CONTROLS)))},
        "answers-bad.json": {**shared, "answers": list(answers(lies))},
        "endorsements-bad.json": {**shared, "answers": list(answers(list(lies_keys.lies())))},
        "sealed-keys.json": list(sealed()),
        "age-files.json": list(age_files()),
    }


def main() -> int:
    """Write them, or with `--check` say whether they are as they would be written."""
    different = []
    for name, document in documents().items():
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        path = FOLDER / name
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            different.append(name)
    if different:
        sys.stderr.write(f"not as frozen: {', '.join(different)}\n")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
