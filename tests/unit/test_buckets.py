"""The bucket: its settings, all that it needs or none, its address, and what its errors mean."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.domain.buckets import Bucket, address_of, check_name, check_region, checked_endpoint, explain
from app.domain.errors import BucketUnavailableError
from app.settings import Settings, SettingsError
from app.storage.bucket_blobs import clock_offset
from tests.support.pki import Issued
from tests.support.tables import for_each
from tests.unit.test_settings import NEEDED

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


@for_each(
    ("given", "endpoint"),
    [
        (HOST, HOST),
        (f"{HOST}/", HOST),
        ("https://OSS-cn-hangzhou.aliyuncs.com", HOST),
        (f"{HOST}:9000", f"{HOST}:9000"),
        ("https://localhost:65535", "https://localhost:65535"),
    ],
)
def test_an_endpoint_is_https_and_a_host(given: str, endpoint: str) -> None:
    assert checked_endpoint(given) == endpoint
    with pytest.raises(ValueError, match="verifies no certificate for an address"):
        checked_endpoint("https://203.0.113.7")


@for_each(
    "given",
    [
        "", "http://oss.example.com", "oss.example.com", "ftp://oss.example.com", "https://", "https:///x",
        "https://user:password@oss.example.com", f"{HOST}/bucket", f"{HOST}?x", f"{HOST}#x", f"{HOST}:0",
        f"{HOST}:65536", f"{HOST}:", f"{HOST}:x", "https://-a.example.com", "https://a..b", "https://a b", "https://[::1]",
        "https://[", f"https://{'a' * 64}.com", f"{HOST}\n", "https://host;return", "https://host$x", "https://桶.example.com",
    ],
)  # fmt: skip
def test_what_is_no_endpoint(given: str) -> None:
    with pytest.raises(ValueError, match=r"must be like https://oss-cn-hangzhou\.aliyuncs\.com"):
        checked_endpoint(given)


@for_each("region", ["", "CN", "-x", "a b", "a" * 64, "a/b"])
def test_what_is_no_region(region: str) -> None:
    for right in ("cn-hangzhou", "us-east-1", "garage"):
        check_region(right)
    with pytest.raises(ValueError, match="such as cn-hangzhou"):
        check_region(region)


def test_where_requests_go_and_that_secrets_are_not_shown() -> None:
    def bucket(*, virtual_hosted: bool) -> Bucket:
        return Bucket("files", HOST, "cn-hangzhou", "the key's ID", "the secret", virtual_hosted=virtual_hosted)

    assert bucket(virtual_hosted=True).origin == "https://files.oss-cn-hangzhou.aliyuncs.com"
    assert bucket(virtual_hosted=False).origin == HOST
    assert address_of("my-files", HOST, virtual_hosted=True) == ("my-files.oss-cn-hangzhou.aliyuncs.com", 443)
    assert address_of("my-files", f"{HOST}:9000", virtual_hosted=False) == ("oss-cn-hangzhou.aliyuncs.com", 9000)
    assert "the " not in repr(bucket(virtual_hosted=True))


@for_each(
    ("error", "means"),
    [
        ("403 Forbidden: <Error><Code>SignatureDoesNotMatch</Code>", "KADUN_FILES_BUCKET_SECRET"),
        ("403 Forbidden: <Error><Code>InvalidAccessKeyId</Code>", "KADUN_FILES_BUCKET_KEY_ID"),
        ("403 Forbidden: <Error><Code>RequestTimeTooSkewed</Code>", "clock"),
        ("404 Not Found: <Code>NoSuchBucket</Code>", "check KADUN_FILES_BUCKET"),
        ("400 Bad Request: <Code>AuthorizationHeaderMalformed</Code>", "KADUN_FILES_BUCKET_REGION"),
        ("403 Forbidden: <Code>SecondLevelDomainForbidden</Code>", "KADUN_FILES_BUCKET_STYLE=virtual"),
        ("403 Forbidden: <Code>AccessDenied</Code>", "lack a right"),
        ("Server returned non-2xx status code: 403 Forbidden: ", "lack a right"),
        ("kind: Connect … error: InvalidCertificate(\n UnknownIssuer", "KADUN_FILES_BUCKET_CA"),
        ("kind: Connect … InvalidMessage(\n InvalidContentType", "no TLS"),
        ('kind: Connect … ConnectError(\n "dns error"', "KADUN_FILES_BUCKET_ENDPOINT and the DNS"),
        ("kind: Connect … Connection refused", "cannot be reached"),
        ("kind: Timeout, source", "does not answer"),
        ("status code: 500 Internal Server Error: <Code>InternalError</Code>", "with an error: InternalError"),
        ("status code: 502 Bad Gateway: <html>", "with an error: 502 Bad Gateway"),
        ("Something else\nwith\nthe key", "with an error: Something else"),
    ],
)
def test_an_error_names_its_cause_and_the_setting(error: str, means: str) -> None:
    text = explain(error)
    assert means in text.en
    assert "\n" not in text.zh + text.en


def test_an_error_keeps_its_reason_in_both_languages_and_of_a_long_one_the_beginning() -> None:
    assert explain("x" * 300).en == f"the bucket answers with an error: {'x' * 200}"
    text = explain("dns error")
    error = BucketUnavailableError(text)
    assert (error.text, str(error)) == (text, text.en)


def test_a_slow_answer_of_the_bucket_is_no_wrong_clock() -> None:
    began = datetime(2026, 11, 28, 9, 0, 0, 600_000, tzinfo=UTC)
    ended = began + timedelta(seconds=4)
    assert clock_offset(began.replace(microsecond=0), began, ended) == 0.0, "its times are whole seconds"
    offsets = {-31: -30.0, 3: 0.0, 4: 0.0, 34: 30.0}
    assert {at: clock_offset(began + timedelta(seconds=at), began, ended) for at in offsets} == offsets


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


def refusal(settings: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(settings)
    line = str(refused.value)
    assert "\n" not in line
    return line


def test_a_bucket_is_virtual_hosted_unless_told_otherwise(bucket: dict[str, str]) -> None:
    expected = Bucket("my-files", HOST, "cn-hangzhou", "the key's ID", "the secret", virtual_hosted=True)
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
