"""The test vectors: as the conformance kit's table makes them, readable by the SDK, and as the pages describe them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from kadun import Secret, UnsealFailed
from kadun.keys import TrustedKeys
from kadun.request import OPEN, VerificationRequest
from kadun.sealing import KeyPair, unseal

from tests.support.tables import for_each
from tests.vectors import generate

ROOT = Path(__file__).resolve().parents[3]
FROZEN = {
    "age-files.json": "139725229a497c3b519746ef33678cdd24592257fb6adb40c7b2c06faad8c312",
    "keys.json": "b2906ee3d7bd03544b9b7de5a8ae6581fa6831282a5fdeb5f91ae47db5e46e44",
    "requests.json": "eaffeadc2f7fde8ae591f819280bbbe78fe56b7b7dbdaa46c2bd04d9280c4583",
    "sealed-keys.json": "de782ec286dae0bc9e6ae05a1a2377a99057a761698029a107abd94325e9ec7e",
}
Vector = dict[str, Any]


def read(name: str) -> Any:
    return json.loads((generate.FOLDER / name).read_text("utf-8"))


def test_the_files_are_what_the_table_of_cases_makes() -> None:
    for name, text in generate.documents().items():
        assert (generate.FOLDER / name).read_text("utf-8") == text, f"run python -m tests.vectors.generate: {name}"
    for name, digest in FROZEN.items():
        assert hashlib.sha256((generate.FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_keys_and_hardware_strings_have_the_digests_of_the_vectors() -> None:
    for vector in read("keys.json"):
        assert vector["thumbprint"] in TrustedKeys({"iss": "kadun", "keys": [vector["jwk"]]}), vector
    for vector in read("requests.json"):
        request = VerificationRequest("card", vector["hardware"], OPEN, "nonce", None)
        assert request.hardware_sha256 == vector["hardware_sha256"], vector


@for_each("vector", read("sealed-keys.json"))
def test_a_sealed_key_opens(vector: Vector) -> None:
    secret = Secret(json.dumps({"x": vector["client_public_key"], "d": vector["client_private_key"]}))
    key_pair = KeyPair.from_secret(secret)
    assert key_pair is not None
    assert key_pair.public_key == vector["client_public_key"]
    assert key_pair.open(vector["jwe"]).reveal() == vector["plaintext"]


@for_each("vector", read("age-files.json"))
def test_an_age_file_opens_or_is_refused(vector: Vector) -> None:
    sealed, key = base64.b64decode(vector["file_base64"]), Secret(vector["data_key"])
    if vector["expected"] == "refused":
        with pytest.raises(UnsealFailed):
            unseal(sealed, key)
    else:
        core = unseal(sealed, key)
        digest = hashlib.sha256(core).hexdigest()
        assert (len(core), digest) == (vector["plaintext_bytes"], vector["plaintext_sha256"])


def test_the_pages_name_every_file_and_show_the_bytes_of_the_vectors() -> None:
    files = {path.name for path in generate.FOLDER.glob("*.json")}
    for page in ("client-authors.zh-CN.md", "client-authors.md"):
        text = (ROOT / "docs" / page).read_text("utf-8")
        assert set(re.findall(r"`([\w-]+\.json)`", text)) >= files
    key, sealed, answer = read("keys.json")[0], read("sealed-keys.json")[0], read("answers-good.json")["answers"][0]
    assert f"{key['thumbprint_of']}\n→ {key['thumbprint']}\n" in text
    assert json.dumps(answer["request"], ensure_ascii=False) in text
    assert f"{sealed['shared_secret_hex'][:8]}…{sealed['shared_secret_hex'][-6:]} " in text
    assert len(sealed["kdf_input_hex"]) == 2 * 59
    assert OPEN.encode().hex(" ") in text
