"""The sealing key: what it seals opens for the same row only."""

import base64

import pytest

from app.tokens.sealing_key import SealingKey, SealingKeyError
from tests.support.sealing import SEALING, SEALING_KEY
from tests.support.tables import for_each

SECRET, ROW = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", ("operator", 7)


def test_a_sealed_secret_opens_for_its_row_only() -> None:
    sealed = SEALING.seal(*ROW, SECRET)
    assert SECRET not in sealed
    assert SealingKey(SEALING_KEY).open(*ROW, sealed) == SECRET
    for other, *row in ((SEALING, "operator", 70), (SEALING, "webhook", 7), (SealingKey("a5" * 32), *ROW)):
        with pytest.raises(SealingKeyError, match="sealed with another key, or for another row"):
            other.open(*row, sealed)


@for_each("change", range(0, 60, 7))
def test_a_secret_is_never_sealed_alike_and_a_changed_byte_is_found(change: int) -> None:
    assert SEALING.seal(*ROW, SECRET) != SEALING.seal(*ROW, SECRET)
    content = bytearray(base64.urlsafe_b64decode(SEALING.seal(*ROW, SECRET)[3:]))
    content[change] ^= 1
    changed = f"v1.{base64.urlsafe_b64encode(content).decode()}"
    for sealed in (changed, "v1.", "v1.AAAA", f"v1.{'A' * 80}", "v1.A", "v1.é"):
        with pytest.raises(SealingKeyError):
            SEALING.open(*ROW, sealed)


def test_what_was_kept_in_clear_opens_until_it_is_sealed() -> None:
    assert SEALING.open(*ROW, SECRET) == SECRET
    sealed = SEALING.seal(*ROW, SECRET)
    assert SEALING.seal(*ROW, sealed) == sealed
    opens = (SEALING.opens(*ROW, SECRET), SEALING.opens(*ROW, sealed), SEALING.opens("operator", 8, sealed))
    assert opens == (None, True, False)


def test_without_a_key_secrets_stay_in_clear_and_sealed_ones_do_not_open() -> None:
    without = SealingKey(None)
    assert without.seal(*ROW, SECRET) == without.open(*ROW, SECRET) == SECRET
    with pytest.raises(SealingKeyError, match="KADUN_SEALING_KEY is not set"):
        without.open(*ROW, SEALING.seal(*ROW, SECRET))
