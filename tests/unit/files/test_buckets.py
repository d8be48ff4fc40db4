"""The bucket: its settings, all that it needs or none, and its address."""

from pathlib import Path
from urllib.parse import parse_qs

import pytest

from app.domain.files.buckets import Bucket, check_name, checked_endpoint
from app.runtime.settings import Settings
from app.storage.bucket import BucketObjects
from tests.support.services.pki import Issued
from tests.support.tables import for_each
from tests.unit.system.test_settings import NEEDED, refusal

HOST = "https://oss-cn-hangzhou.aliyuncs.com"


@for_each("name", ["", "ab", "a" * 64, "My-files", "-ab", "ab-", ".ab", "a_b", "a/b", "文件桶", "abc\n"])
def test_what_is_no_name_of_a_bucket(name: str) -> None:
    for right in ("abc", "my-files", "a.b.c", "0" * 63):
        check_name(right, virtual_hosted=False)
    with pytest.raises(ValueError, match="3 to 63 of a-z"):
        check_name(name, virtual_hosted=False)
    check_name("a-b-c", virtual_hosted=True)
    with pytest.raises(ValueError, match="KADUN_FILES_BUCKET_STYLE=path"):  # no certificate of the vendor's is for dots
        check_name("a.b.c", virtual_hosted=True)


def test_an_endpoint_is_https_and_a_host() -> None:
    for given in (HOST, f"{HOST}/", "https://OSS-cn-hangzhou.aliyuncs.com"):
        assert checked_endpoint(given) == HOST
    assert checked_endpoint("https://localhost:9000") == "https://localhost:9000"
    for address in ("https://203.0.113.7", "https://203.0.113.7:9000"):
        with pytest.raises(ValueError, match="verifies no certificate for an address"):
            checked_endpoint(address)


@for_each(
    "given",
    [
        "", "http://oss.example.com", "oss.example.com", "https://", "https:///x", "https://[::1]", f"{HOST}:x",
        "https://user:password@oss.example.com", f"{HOST}/bucket", f"{HOST}?x", f"{HOST}:", "https://-a.example.com",
        "https://a b", f"{HOST}\n", "https://host;return", "https://host$x", "https://桶.example.com",
    ],
)  # fmt: skip
def test_what_is_no_endpoint(given: str) -> None:
    with pytest.raises(ValueError, match=r"must be like https://oss-cn-hangzhou\.aliyuncs\.com"):
        checked_endpoint(given)


@pytest.fixture
def bucket(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "key_id").write_text("the key's ID\n")
    (tmp_path / "secret").write_text("the secret\n")
    return {
        **NEEDED,
        "KADUN_FILES_BUCKET": "my-files",
        "KADUN_FILES_BUCKET_ENDPOINT": f"{HOST}/",
        "KADUN_FILES_BUCKET_REGION": "cn-hangzhou",
        "KADUN_FILES_BUCKET_KEY_ID_FILE": str(tmp_path / "key_id"),
        "KADUN_FILES_BUCKET_SECRET_FILE": str(tmp_path / "secret"),
    }


def test_a_bucket_is_virtual_hosted_unless_told_otherwise_and_its_secrets_are_not_shown(bucket: dict[str, str]) -> None:
    expected = Bucket("my-files", HOST, "cn-hangzhou", "the key's ID", "the secret", virtual_hosted=True)
    assert Settings.from_env(bucket).files_bucket == expected
    assert expected.origin == "https://my-files.oss-cn-hangzhou.aliyuncs.com"
    found = Settings.from_env(bucket | {"KADUN_FILES_BUCKET_STYLE": "path"}).files_bucket
    assert found is not None
    assert (found.virtual_hosted, found.origin) == (False, HOST)
    shown = repr(Settings.from_env(bucket))
    assert not [secret for secret in ("the secret", "the key's ID") if secret in shown]


def test_a_signed_path_reads_one_object_for_some_minutes(bucket: dict[str, str]) -> None:
    found = Settings.from_env(bucket).files_bucket
    assert found is not None
    path, _, query = BucketObjects(found).sign("0" * 64).partition("?")
    signed = parse_qs(query)
    assert (path, signed["X-Amz-Expires"], signed["X-Amz-SignedHeaders"]) == (f"files/{'0' * 64}", ["300"], ["host"])
    assert "the secret" not in query


@for_each("missing", ["ENDPOINT", "REGION", "KEY_ID_FILE", "SECRET_FILE"])
def test_a_setting_that_is_missing_is_named(bucket: dict[str, str], missing: str) -> None:
    settings = {name: value for name, value in bucket.items() if name != f"KADUN_FILES_BUCKET_{missing}"}
    assert refusal(**settings).startswith(f"KADUN_FILES_BUCKET_{missing.removesuffix('_FILE')} is not set")


@for_each("stray", ["ENDPOINT", "REGION", "STYLE", "CA", "KEY_ID", "SECRET_FILE"])
def test_a_setting_without_the_buckets_name_is_refused(stray: str) -> None:
    line = refusal(**{f"KADUN_FILES_BUCKET_{stray}": "path"})
    assert line.startswith(f"KADUN_FILES_BUCKET_{stray.removesuffix('_FILE')} is set without KADUN_FILES_BUCKET")


def test_a_wrong_setting_is_named_with_what_would_be_right(bucket: dict[str, str]) -> None:
    for name, value, right in (
        ("", "My_Files", "3 to 63 of a-z"),
        ("", "my.files", "KADUN_FILES_BUCKET_STYLE=path"),
        ("_ENDPOINT", "http://oss-cn-hangzhou.aliyuncs.com", "https"),
        *(("_REGION", region, "such as cn-hangzhou") for region in ("China East", "CN", "-x", "a" * 64, "a/b")),
        ("_STYLE", "host", "virtual or path"),
        ("_CA", "/nowhere.pem", "it cannot be read: No such file"),
    ):
        line = refusal(**bucket | {f"KADUN_FILES_BUCKET{name}": value})
        assert line.startswith(f"KADUN_FILES_BUCKET{name}"), (name, value)
        assert right in line, (name, value)


def test_an_authority_of_ones_own_is_a_certificate_in_pem_form(bucket: dict[str, str], tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    bucket |= {"KADUN_FILES_BUCKET_CA": str(authority)}
    pem = Issued.make("authority", authority=True).pem.decode()
    for text, certificates in ((pem, pem), ("", None)):  # nothing is what Compose mounts where there is none
        authority.write_text(text)
        found = Settings.from_env(bucket).files_bucket
        assert found is not None
        assert found.certificates == certificates
    for content in (b"no certificate", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nx\n"):
        authority.write_bytes(content)
        assert refusal(**bucket).endswith("/ca.pem': it must be a file with certificates in PEM form")
