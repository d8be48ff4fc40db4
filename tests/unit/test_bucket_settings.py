"""The settings of the bucket: all that it needs, or none."""

from pathlib import Path

import pytest

from app.domain.buckets import Bucket
from app.settings import Settings, SettingsError
from tests.support.pki import Issued
from tests.support.tables import for_each
from tests.unit.test_settings import NEEDED

ENDPOINT = "https://oss-cn-hangzhou.aliyuncs.com"


@pytest.fixture
def bucket(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "key_id").write_text("the key's ID\n")
    (tmp_path / "secret").write_text("the secret\n")
    return {
        **NEEDED,
        "KADUN_FILES_BUCKET": "my-files",
        "KADUN_FILES_BUCKET_ENDPOINT": f"{ENDPOINT}/",
        "KADUN_FILES_BUCKET_REGION": "cn-hangzhou",
        "KADUN_FILES_BUCKET_KEY_ID_FILE": str(tmp_path / "key_id"),
        "KADUN_FILES_BUCKET_SECRET_FILE": str(tmp_path / "secret"),
    }


def refusal(settings: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(settings)
    line = str(refused.value)
    assert "\n" not in line
    return line


def test_a_bucket_is_virtual_hosted_unless_told_otherwise(bucket: dict[str, str]) -> None:
    expected = Bucket("my-files", ENDPOINT, "cn-hangzhou", "the key's ID", "the secret", virtual_hosted=True)
    assert Settings.from_env(bucket).files_bucket == expected
    found = Settings.from_env(bucket | {"KADUN_FILES_BUCKET_STYLE": "path"}).files_bucket
    assert found is not None
    assert not found.virtual_hosted
    shown = repr(Settings.from_env(bucket))
    assert not [secret for secret in ("the secret", "the key's ID") if secret in shown]


@for_each("missing", ["ENDPOINT", "REGION", "KEY_ID_FILE", "SECRET_FILE"])
def test_a_setting_that_is_missing_is_named(bucket: dict[str, str], missing: str) -> None:
    settings = {name: value for name, value in bucket.items() if name != f"KADUN_FILES_BUCKET_{missing}"}
    assert refusal(settings).startswith(f"KADUN_FILES_BUCKET_{missing.removesuffix('_FILE')} is not set")


@for_each("stray", ["ENDPOINT", "REGION", "STYLE", "CA", "PROXY", "KEY_ID", "SECRET_FILE"])
def test_a_setting_without_the_buckets_name_is_refused(stray: str) -> None:
    line = refusal({**NEEDED, f"KADUN_FILES_BUCKET_{stray}": "path"})
    assert line.startswith(f"KADUN_FILES_BUCKET_{stray.removesuffix('_FILE')} is set without KADUN_FILES_BUCKET")


@for_each(
    ("name", "value", "right"),
    [
        ("", "My_Files", "3 to 63 of a-z"),
        ("", "my.files", "KADUN_FILES_BUCKET_STYLE=path"),
        ("_ENDPOINT", "http://oss-cn-hangzhou.aliyuncs.com", "https"),
        ("_ENDPOINT", "http://127.0.0.1:9000", "https"),
        ("_REGION", "China East", "such as cn-hangzhou"),
        ("_STYLE", "host", "virtual or path"),
        ("_PROXY", "https://proxy", "http://proxy.example.com:3128"),
        ("_CA", "/nowhere.pem", "cannot read /nowhere.pem: No such file"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(
    bucket: dict[str, str], name: str, value: str, right: str
) -> None:
    line = refusal(bucket | {f"KADUN_FILES_BUCKET{name}": value})
    assert line.startswith(f"KADUN_FILES_BUCKET{name}")
    assert right in line


@for_each("content", [b"no certificate", b"\xff\xfe", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_file_without_a_certificate_is_refused(bucket: dict[str, str], tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    line = refusal(bucket | {"KADUN_FILES_BUCKET_CA": str(tmp_path / "ca.pem")})
    assert line == f"KADUN_FILES_BUCKET_CA: cannot read {tmp_path}/ca.pem: it holds no certificate in PEM form"


def test_an_authority_of_ones_own_and_a_proxy(bucket: dict[str, str], tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    bucket |= {"KADUN_FILES_BUCKET_CA": str(authority), "KADUN_FILES_BUCKET_PROXY": "http://bucket:3128"}
    pem = Issued.make("authority", authority=True).pem.decode()
    for text, certificates in ((pem, pem), ("", None)):  # nothing is what Compose mounts where there is none
        authority.write_text(text)
        found = Settings.from_env(bucket).files_bucket
        assert found is not None
        assert (found.certificates, found.proxy) == (certificates, "http://bucket:3128")
