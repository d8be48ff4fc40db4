"""scripts/lib/identity.sh makes what age itself would: checked against pyrage, and BIP-173 in Python."""

import secrets
import subprocess
from pathlib import Path

import pyrage
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/lib/identity.sh"
ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bash(code: str, *arguments: str) -> list[str]:
    command = ["bash", "-euo", "pipefail", "-c", f'source "$0"; {code}', str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> i & 1 else 0
    return checksum


def bech32(prefix: str, data: bytes) -> str:
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]
    expanded = [ord(letter) >> 5 for letter in prefix] + [0] + [ord(letter) & 31 for letter in prefix]
    checksum = polymod([*expanded, *values, 0, 0, 0, 0, 0, 0]) ^ 1
    values += [checksum >> 5 * (5 - i) & 31 for i in range(6)]
    return prefix + "1" + "".join(ALPHABET[value] for value in values)


def test_the_encoding_is_that_of_bip_173_and_pyrage_reads_it() -> None:
    keys = [bytes(32), b"\xff" * 32, *(secrets.token_bytes(32) for _ in range(48))]
    made = bash('for hex in "$@"; do identity_from_hex "$hex"; done', *(key.hex() for key in keys))
    assert made == [bech32("age-secret-key-", key).upper() for key in keys]
    for identity in made:
        assert str(pyrage.x25519.Identity.from_str(identity)) == identity


def test_fresh_identities_are_valid_different_and_decrypt() -> None:
    made = bash("for _ in {1..50}; do new_identity; done")
    assert len(set(made)) == 50
    for text in made:
        identity = pyrage.x25519.Identity.from_str(text)
        assert pyrage.decrypt(pyrage.encrypt(b"core data", [identity.to_public()]), [identity]) == b"core data"


@pytest.mark.parametrize(
    ("prefix", "hex_bytes"),
    [("a", ""), ("abcdef", "00443214c74254b635cf84653a56d7c675be77df"), ("x", "00"), ("age", "ffffff")],
)
def test_other_lengths_are_encoded_too(prefix: str, hex_bytes: str) -> None:
    assert bash('bech32 "$@"', prefix, hex_bytes) == [bech32(prefix, bytes.fromhex(hex_bytes))]


def test_the_reference_agrees_with_the_vectors_of_bip_173() -> None:
    assert bech32("a", b"") == "a12uel5l"
    data = bytes.fromhex("00443214c74254b635cf84653a56d7c675be77df")
    assert bech32("abcdef", data) == "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"
