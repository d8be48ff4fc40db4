"""The frozen test vectors, read by our own client; and frozen they are."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kadun import Secret, UnsealFailed, UntrustedAnswer, Verdict
from kadun.keys import TrustedKeys
from kadun.request import OPEN, VerificationRequest
from kadun.sealing import KeyPair, unseal
from kadun.tokens import key_id
from kadun.verdict import verify_verdict

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests" / "vectors"
PAGES = ("client-authors.md", "client-authors.zh-CN.md")
Vector = dict[str, Any]


def read(name: str) -> Any:
    return json.loads((FOLDER / name).read_text("utf-8"))


def named(vectors: list[Vector]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=lambda vector: vector["name"])


GOOD, BAD, ENDORSED = (read(f"{name}.json") for name in ("answers-good", "answers-bad", "endorsements-bad"))
LIES = [*BAD["answers"], *ENDORSED["answers"]]


def envelope(vector: Vector) -> KeyPair:
    request = vector.get("request", vector)
    key = json.dumps({"x": request["client_public_key"], "d": vector["client_private_key"]})
    restored = KeyPair.from_secret(Secret(key))
    assert restored is not None
    assert restored.public_key == request["client_public_key"]
    return restored


def question(vector: Vector) -> VerificationRequest:
    request = vector["request"]
    fields = ("card_id", "hardware", "function", "client_public_key", "nonce")
    return VerificationRequest(*(request[name] for name in fields))


def answered(vector: Vector, token: str | None = None) -> Verdict:
    """What the client makes of it, the fetching of the key set included."""
    keys = TrustedKeys(GOOD["pinned"])
    token = vector["token"] if token is None else token
    if not isinstance(token, str):
        raise UntrustedAnswer("the token is no string")
    if "key_set_base64" in vector and key_id(token) not in keys:
        keys.learn(base64.b64decode(vector["key_set_base64"]))
    return verify_verdict(token, question(vector), keys, envelope(vector))


def test_there_are_vectors_of_each_kind() -> None:
    assert len(GOOD["answers"]) >= 16
    assert len(LIES) >= 200
    assert GOOD["pinned"] == BAD["pinned"] == ENDORSED["pinned"]
    assert all(vector["why"] and vector["expected"] == "untrusted" for vector in LIES)


@named(GOOD["answers"])
def test_a_good_answer_is_believed(vector: Vector) -> None:
    verdict = answered(vector)
    assert verdict.code == vector["code"]
    assert verdict.accepted is (vector["expected"] == "opened")
    assert verdict.reference == vector["jti"][-8:]
    key = verdict.data_key.reveal() if verdict.data_key else None
    assert key == vector.get("data_key")


@named(LIES)
def test_a_bad_answer_is_not_believed(vector: Vector) -> None:
    with pytest.raises(UntrustedAnswer):
        answered(vector)


@named(GOOD["answers"][::5])
def test_no_good_token_with_one_changed_character_is_believed(vector: Vector) -> None:
    token = vector["token"]
    changed = [token[:place] + chr(ord(letter) ^ 1) + token[place + 1 :] for place, letter in enumerate(token)]
    believed = []
    for lie in changed:
        try:
            believed.append(answered(vector, lie))
        except UntrustedAnswer:
            continue
    assert believed == []


@named(read("keys.json"))
def test_a_kid_is_the_thumbprint_of_the_key(vector: Vector) -> None:
    digest = hashlib.sha256(vector["thumbprint_of"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == vector["thumbprint"] == vector["jwk"]["kid"]
    pinned = {"iss": "kadun", "keys": [vector["jwk"]]}
    assert vector["thumbprint"] in TrustedKeys(pinned)


@pytest.mark.parametrize("vector", read("requests.json"), ids=lambda vector: vector["utf8_hex"][:12])
def test_the_hardware_string_is_digested_exactly_as_it_is(vector: Vector) -> None:
    assert vector["hardware"].encode().hex() == vector["utf8_hex"]
    assert VerificationRequest("card", vector["hardware"], OPEN).hardware_sha256 == vector["hardware_sha256"]


@named(read("sealed-keys.json"))
def test_a_sealed_key_opens(vector: Vector) -> None:
    assert envelope(vector).open(vector["jwe"]).reveal() == vector["plaintext"]
    derived = hashlib.sha256(bytes.fromhex(vector["kdf_input_hex"])).hexdigest()
    assert derived == vector["content_key_hex"]
    assert vector["shared_secret_hex"] in vector["kdf_input_hex"]


@named(read("age-files.json"))
def test_an_age_file_opens_or_is_refused(vector: Vector) -> None:
    sealed, key = base64.b64decode(vector["file_base64"]), Secret(vector["data_key"])
    if vector["expected"] == "refused":
        with pytest.raises(UnsealFailed):
            unseal(sealed, key)
    else:
        core = unseal(sealed, key)
        assert (len(core), hashlib.sha256(core).hexdigest()) == (
            vector["plaintext_bytes"],
            vector["plaintext_sha256"],
        )


def test_the_vectors_are_as_they_were_made() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "client" / "src"), str(ROOT)))}
    command = [sys.executable, "-m", "tests.vectors.make", "--check"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_name_every_file(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    files = {path.name for path in FOLDER.glob("*.json")}
    assert set(re.findall(r"`([\w-]+\.json)`", text)) >= files


def test_both_pages_have_the_same_headings_and_code() -> None:
    english, chinese = ((ROOT / "docs" / page).read_text("utf-8") for page in PAGES)
    fence = re.compile(r"^```[^\n]*\n.*?^```$", re.MULTILINE | re.DOTALL)
    levels = [re.findall(r"^(#+) ", fence.sub("", text), re.MULTILINE) for text in (english, chinese)]
    assert levels[0] == levels[1]
    assert fence.findall(english) == fence.findall(chinese) != []


def test_the_page_shows_the_vectors_own_bytes() -> None:
    text = (ROOT / "docs" / PAGES[0]).read_text("utf-8")
    key, sealed, answer = read("keys.json")[0], read("sealed-keys.json")[0], GOOD["answers"][0]
    assert f"{key['thumbprint_of']}\n→ {key['thumbprint']}\n" in text
    assert json.dumps(answer["request"], ensure_ascii=False) in text
    assert f"{sealed['shared_secret_hex'][:8]}…{sealed['shared_secret_hex'][-6:]} " in text
    assert len(sealed["kdf_input_hex"]) == 2 * 59
    assert OPEN.encode().hex(" ") in text
