"""Sealing: KERNAL_DATA_KEY to clients, files to it, and secrets to the sealing key for their row alone."""
# Owns token-sealed-key, data-key.

import base64
import io
import json
import secrets
import string

import pyrage
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from app.tokens import sealing
from app.tokens.sealing import NoRecipientError
from app.tokens.sealing_key import SealingKey, SealingKeyError
from tests.support.secrets import SEALING, SEALING_KEY

P = 2**255 - 19
# Every encoding of a point of small order (https://cr.yp.to/ecdh.html#validate), the unused bit aside.
LOW_ORDER = [
    *(0, 1, P - 1, P, P + 1),
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]


def encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def public_half(key: OKPKey) -> str:
    return str(key.as_dict(private=False)["x"])


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_the_sealed_form_has_a_key_of_its_own_and_opens_with_the_private_half_alone(text: str) -> None:
    key, other = (OKPKey.generate_key("X25519", private=True) for _ in range(2))
    first, second = (sealing.seal_to(public_half(key), text) for _ in range(2))
    assert first.split(".")[0] != second.split(".")[0]
    header, encrypted_key, *_ = first.split(".")
    protected = json.loads(base64.urlsafe_b64decode(header + "=="))
    assert protected == {"alg": "ECDH-ES", "enc": "A256GCM", "epk": protected["epk"]}
    assert protected["epk"] == {"kty": "OKP", "crv": "X25519", "x": protected["epk"]["x"]}
    assert (encrypted_key, (jwe.decrypt_compact(first, key).plaintext or b"").decode()) == ("", text)
    with pytest.raises(JoseError):
        jwe.decrypt_compact(first, other)


GOOD = encode(bytes(range(1, 33)))


def test_a_public_key_is_32_bytes_in_canonical_base64url_and_not_of_low_order() -> None:
    for last in string.ascii_letters + string.digits + "-_":
        if last in "AEIMQUYcgkosw048":  # the last character carries 4 bits of 6: one in four is canonical
            sealing.check_public_key(GOOD[:-1] + last)
            continue
        with pytest.raises(ValueError, match=r"^not 32 bytes in canonical base64url$"):
            sealing.check_public_key(GOOD[:-1] + last)
    low = [encode((number | bit).to_bytes(32, "little")) for number in LOW_ORDER for bit in (0, 1 << 255)]
    malformed = [
        *("", "=", GOOD[:-1], GOOD + "A", GOOD + "=", GOOD[:-1] + "=", " " + GOOD[1:], GOOD[:-1] + "\n"),
        *(f"{GOOD[:10]}{other}{GOOD[11:]}" for other in "+/!，"),
        *("\ud800" * 43, "=" * 43, encode(bytes(31)), encode(bytes(33)), encode(bytes(64))),
    ]
    for text, reason in (
        *((text, r"^Error computing shared key\.$") for text in low),
        *((text, "base64|padding|ASCII|^not 32 bytes") for text in malformed),
    ):
        with pytest.raises(ValueError, match=reason):
            pytest.fail(f"{text!r} is taken: {sealing.check_public_key(text)}")


def test_a_file_of_any_size_is_sealed_to_the_first_of_several_identities_as_a_plain_age_file() -> None:
    newest, older = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()
    for separator in ("\n", "\r\n", "\n\n", " \n "):
        recipient = sealing.age_recipient(f" {newest}{separator}{older}\n")
        assert str(recipient) == str(newest.to_public()), separator
    for size in (0, 1, 64 * 1024, 64 * 1024 + 1, 300_000):
        content, target = secrets.token_bytes(size), io.BytesIO()
        sealing.seal_file(io.BytesIO(content), target, recipient)
        assert target.getvalue().startswith(b"age-encryption.org/v1\n-> X25519 ")
        assert pyrage.decrypt(target.getvalue(), [newest]) == content, size
        assert pyrage.decrypt(sealing.seal_bytes(content, recipient), [newest]) == content, size
        with pytest.raises(pyrage.DecryptError):
            pyrage.decrypt(target.getvalue(), [older])


def test_a_key_of_the_vendors_own_scheme_has_no_recipient() -> None:
    identity = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
    wrong = ("AGE-SECRET-KEY-1QQQQ", f"AGE-SECRET-KEY-1{'Q' * 58}")
    for key in ("my own scheme", "核心数据密钥", *wrong, f"own\n{identity}"):
        with pytest.raises(NoRecipientError, match="a key of your own scheme, no age identity") as refusal:
            sealing.age_recipient(key)
        assert key not in str(refusal.value)


def test_a_text_opens_with_its_own_identity_alone() -> None:
    identity, other = (str(pyrage.x25519.Identity.generate()) for _ in range(2))
    sealed = sealing.seal_text(b"ring", identity)
    assert sealed.startswith("-----BEGIN AGE ENCRYPTED FILE-----")
    assert sealing.unseal_text(sealed, identity) == b"ring"
    for text, opener in ((sealed, other), (sealed[:-80], identity), (sealed, "no identity")):
        with pytest.raises(sealing.NotSealedToError) as refused:
            sealing.unseal_text(text, opener)
        assert str(refused.value) == str(refused.value.__cause__)


SECRET, ROW = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", ("operator", 7)


def test_a_sealed_secret_opens_for_its_row_only_is_never_sealed_alike_and_a_changed_byte_is_found() -> None:
    sealed = SEALING.seal(*ROW, SECRET)
    assert (SECRET in sealed, SEALING.seal(*ROW, SECRET) == sealed) == (False, False)
    assert SealingKey(SEALING_KEY).open(*ROW, sealed) == SECRET
    for other, *row in ((SEALING, "operator", 70), (SEALING, "webhook", 7), (SealingKey("a5" * 32), *ROW)):
        with pytest.raises(SealingKeyError, match="sealed with another key, or for another row"):
            other.open(*row, sealed)
    content = base64.urlsafe_b64decode(sealed[3:])
    flipped = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(len(content))]
    changed = [f"v1.{base64.urlsafe_b64encode(each).decode()}" for each in flipped]
    for wrong in (*changed, "v1.", "v1.AAAA", f"v1.{'A' * 80}", "v1.A", "v1.é"):
        with pytest.raises(SealingKeyError):
            SEALING.open(*ROW, wrong)


def test_secrets_in_clear_open_until_they_are_sealed_and_without_a_key_stay_so() -> None:
    assert SEALING.open(*ROW, SECRET) == SECRET
    sealed = SEALING.seal(*ROW, SECRET)
    assert SEALING.seal(*ROW, sealed) == sealed
    opens = (SEALING.opens(*ROW, SECRET), SEALING.opens(*ROW, sealed), SEALING.opens("operator", 8, sealed))
    assert opens == (None, True, False)
    without = SealingKey(None)
    assert (without.is_set, SEALING.is_set) == (False, True)
    assert without.seal(*ROW, SECRET) == without.open(*ROW, SECRET) == SECRET
    with pytest.raises(SealingKeyError, match="KADUN_SEALING_KEY is not set"):
        without.open(*ROW, sealed)
