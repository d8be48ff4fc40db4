"""Secrets of second factors are sealed under a key that the database does not hold."""

import base64

import pytest

from app.tokens.second_factors import SecondFactorError, SecondFactors
from tests.support.tables import for_each

KEY, SECRET = "5a" * 32, "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
FACTORS = SecondFactors(KEY)


def test_a_sealed_secret_opens_for_its_operator_only() -> None:
    sealed = FACTORS.seal(7, SECRET)
    assert SECRET not in sealed
    assert FACTORS.open(7, sealed) == SECRET
    assert SecondFactors(KEY).open(7, sealed) == SECRET
    for other_id in (70, 8):
        with pytest.raises(SecondFactorError, match="for another operator"):
            FACTORS.open(other_id, sealed)
    with pytest.raises(SecondFactorError, match="sealed with another key"):
        SecondFactors("5b" * 32).open(7, sealed)


@for_each("change", range(0, 60, 7))
def test_a_secret_is_never_sealed_alike_and_a_changed_byte_is_found(change: int) -> None:
    assert FACTORS.seal(7, SECRET) != FACTORS.seal(7, SECRET)
    content = bytearray(base64.urlsafe_b64decode(FACTORS.seal(7, SECRET)[3:]))
    content[change] ^= 1
    for sealed in (
        f"v1.{base64.urlsafe_b64encode(content).decode()}",
        "v1.",
        "v1.AAAA",
        f"v1.{'A' * 80}",
        "v1.A",
        "v1.é",
    ):
        with pytest.raises(SecondFactorError):
            FACTORS.open(7, sealed)


def test_what_was_kept_in_clear_opens_until_it_is_sealed() -> None:
    assert FACTORS.open(7, SECRET) == SECRET
    sealed = FACTORS.seal(7, SECRET)
    assert FACTORS.seal(7, sealed) == sealed
    assert (FACTORS.opens(7, SECRET), FACTORS.opens(7, sealed), FACTORS.opens(8, sealed)) == (None, True, False)


def test_without_a_key_secrets_stay_in_clear_and_sealed_ones_do_not_open() -> None:
    without = SecondFactors(None)
    assert without.seal(7, SECRET) == without.open(7, SECRET) == SECRET
    with pytest.raises(SecondFactorError, match="KADUN_TOTP_KEY is not set"):
        without.open(7, FACTORS.seal(7, SECRET))


@for_each("key", ["", "5a" * 31, "5A" * 32, "5a" * 32 + "\n"])
def test_another_form_of_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="64 digits"):
        SecondFactors(key)
