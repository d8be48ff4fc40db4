"""Licensed files: their plain names, the folder of their bytes, and the bucket's settings and address."""

import hashlib
import io
import ntpath
import os
import sys
import time
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from urllib.parse import parse_qs, quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.files.buckets import Bucket, checked_endpoint
from app.domain.files.buckets import check_name as check_bucket_name
from app.domain.files.files import Blob, check_name
from app.domain.texts import RefusedError
from app.runtime.settings import Settings
from app.storage.blobs import BLOCK_BYTES, SPARE_BYTES, Blobs
from app.storage.bucket import BucketObjects
from tests.support.services.pki import Issued
from tests.unit.system.test_settings import NEEDED, refusal

CONTENT = bytes(range(256)) * 9000  # more than two blocks
BLOB = Blob(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
def blobs(folder: Path) -> Blobs:
    return Blobs(folder)


def add(blobs: Blobs, content: bytes = CONTENT, size: int | None = None) -> Blob:
    with blobs.receiving(io.BytesIO(content), size) as received:
        blobs.install(received)
        return received.blob


def test_bytes_are_readable_for_everybody_under_their_digest(blobs: Blobs, folder: Path) -> None:
    umask = os.umask(0o077)
    try:
        assert add(blobs, size=len(CONTENT)) == BLOB
    finally:
        os.umask(umask)
    assert blobs.holds(BLOB)
    with blobs.open(BLOB) as file:
        assert file.read() == CONTENT
    assert [path.name for path in folder.iterdir()] == [BLOB.sha256]
    assert ((folder / BLOB.sha256).stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o644, 0o755)
    assert blobs.holds(add(blobs, b"", 0)), "an empty file is a file"
    absent = folder.parent / "no"
    with pytest.raises(FileNotFoundError):
        add(Blobs(absent / "files"))
    assert not Blobs(absent).holds(BLOB)


class Broken(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_what_is_not_installed_ends_too_early_or_late_or_has_no_room_leaves_nothing(
    blobs: Blobs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with blobs.receiving(io.BytesIO(CONTENT), None) as received:
        assert received.partial.stat().st_size == len(CONTENT)
    assert list(folder.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), blobs.receiving(io.BytesIO(CONTENT), None):
        raise KeyboardInterrupt
    for announced in (len(CONTENT) + 1, len(CONTENT) - 1, 0):
        with pytest.raises(RefusedError, match="nothing was added"):
            add(blobs, size=announced)
    with pytest.raises(OSError, match="Input/output"), blobs.receiving(Broken(CONTENT), None):
        pass
    assert list(folder.iterdir()) == []
    source = io.BytesIO(CONTENT)
    with pytest.raises(RefusedError, match="has no room"), blobs.receiving(source, 10**18):
        pass
    assert source.tell() == 0, "it is refused before it is read, while there is still room for others"

    def usage(_folder: Path) -> object:
        written = sum(path.stat().st_size for path in folder.iterdir())
        return SimpleNamespace(free=SPARE_BYTES + 2 * BLOCK_BYTES - written)

    monkeypatch.setattr("app.storage.blobs.shutil.disk_usage", usage)
    with pytest.raises(RefusedError, match="has no room"), blobs.receiving(io.BytesIO(bytes(5 * BLOCK_BYTES)), None):
        pass
    assert list(folder.iterdir()) == []


def test_an_open_file_outlives_its_removal_and_one_of_another_length_or_left_half_written_does_not_count(
    blobs: Blobs, folder: Path
) -> None:
    add(blobs)
    (folder / BLOB.sha256).write_bytes(CONTENT[:-1])
    assert not blobs.holds(BLOB)
    add(blobs)
    with blobs.open(BLOB) as file:
        assert file.read(10) == CONTENT[:10]
        blobs.remove(BLOB.sha256)
        assert not blobs.holds(BLOB)
        assert file.read() == CONTENT[10:]
    blobs.remove(BLOB.sha256)
    with pytest.raises(FileNotFoundError):
        blobs.open(BLOB)
    # Leftovers of killed additions are removed after a day, and nothing else.
    yesterday = time.time() - 25 * 3600
    for name in ("vendor's own.txt", ".adding-left", ".adding-busy"):
        (folder / name).write_bytes(b"half")
        if name != ".adding-busy":
            os.utime(folder / name, (yesterday, yesterday))
    kept = {add(blobs, b"other").sha256, "vendor's own.txt", ".adding-busy"}
    assert {path.name for path in folder.iterdir()} == kept


GOOD = [
    "core.age", "a", "数据 v1.2 (新).bin", "データ.zip", "Ünïcode-name.tar.gz", "x" * 100, "名" * 100, "_private",
    "(1).txt", "[x]", "@scope,v=1~rc+2.js", "हिन्दी.txt", "console.txt", "com10", "nul2", "a..b", "٣.txt", "=x",
]  # fmt: skip
BAD = {
    "1 to 100": ["", "x" * 101],
    "must not begin": [".", "..", ".hidden", "-rf", "~root", " a", "\u0301a"],
    "must not end": ["a ", "a."],
    "U+002F": ["a/b", "/etc/passwd"],
    "U+003A": ["C:"],
    "U+D800": ["\ud800"],
    "U+1F600": ["😀"],
    "look-alike": ["ａ.txt", "e\u0301.txt", "ﬁle", "x²", "Ⅷ"],
    "device": ["CON", "con.txt", "Nul.tar.gz", "aux", "COM1.log", "lpt9", "prn .txt"],
}


def test_a_plain_name_in_any_script_is_accepted_and_any_other_refused_with_the_reason() -> None:
    for name in GOOD:
        check_name(name)
    for reason, names in {**BAD, **{f"U+{ord(character):04X}": [f"a{character}b"] for character in WRONG}}.items():
        for name in names:
            with pytest.raises(RefusedError) as refused:
                check_name(name)
            assert reason in refused.value.text.en, name
            assert refused.value.text.zh.startswith("文件名")
            assert str(refused.value).isprintable()
    for name, shown in (("老王/b", "老王/b"), ("\n\t", "\\n\\t")):
        with pytest.raises(RefusedError) as refused:
            check_name(name)
        assert refused.value.text.en.startswith(f"the file name {shown} must not hold "), "on one line"
        assert refused.value.text.zh.startswith(f"文件名 {shown} 不能含有字符 ")
    with pytest.raises(RefusedError, match=r"data\.bin would be right"):
        check_name("ｄａｔａ.bin")


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("./\\:%~ CONcon1")), max_size=120))
def test_an_accepted_name_is_one_path_segment_on_every_system_and_survives_url_quoting(name: str) -> None:
    try:
        check_name(name)
    except RefusedError:
        return
    assert PurePosixPath(name).name == PureWindowsPath(name).name == name
    assert not (ntpath.isreserved(name) if sys.version_info >= (3, 13) else PureWindowsPath(name).is_reserved())
    assert unicodedata.normalize("NFKC", name) == unicodedata.normalize("NFC", name) == name
    assert name.isprintable()
    assert unquote(quote(name)) == name


HOST = "https://oss-cn-hangzhou.aliyuncs.com"


def test_a_buckets_name_and_its_endpoint_are_plain() -> None:
    for right in ("abc", "my-files", "a.b.c", "0" * 63):
        check_bucket_name(right, virtual_hosted=False)
    for name in ("", "ab", "a" * 64, "My-files", "-ab", "ab-", ".ab", "a_b", "a/b", "文件桶", "abc\n"):
        with pytest.raises(ValueError, match="3 to 63 of a-z"):
            pytest.fail(f"{name!r} is taken: {check_bucket_name(name, virtual_hosted=False)}")
    check_bucket_name("a-b-c", virtual_hosted=True)
    with pytest.raises(ValueError, match="KADUN_FILES_BUCKET_STYLE=path"):  # no certificate of the vendor's is for dots
        check_bucket_name("a.b.c", virtual_hosted=True)
    for endpoint in (HOST, f"{HOST}/", "https://OSS-cn-hangzhou.aliyuncs.com"):
        assert checked_endpoint(endpoint) == HOST
    assert checked_endpoint("https://localhost:9000") == "https://localhost:9000"
    for address in ("https://203.0.113.7", "https://203.0.113.7:9000"):
        with pytest.raises(ValueError, match="verifies no certificate for an address"):
            checked_endpoint(address)
    for endpoint in (
        *("", "http://oss.example.com", "oss.example.com", "https://", "https:///x", "https://[::1]", f"{HOST}:x"),
        *("https://user:password@oss.example.com", f"{HOST}/bucket", f"{HOST}?x", f"{HOST}:", "https://-a.example.com"),
        *("https://a b", f"{HOST}\n", "https://host;return", "https://host$x", "https://桶.example.com"),
    ):
        with pytest.raises(ValueError, match=r"must be like https://oss-cn-hangzhou\.aliyuncs\.com"):
            pytest.fail(f"{endpoint!r} is read as {checked_endpoint(endpoint)}")


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


def test_a_bucket_is_virtual_hosted_by_default_its_secrets_are_not_shown_and_its_paths_read_one_object(
    bucket: dict[str, str],
) -> None:
    expected = Bucket("my-files", HOST, "cn-hangzhou", "the key's ID", "the secret", virtual_hosted=True)
    assert Settings.from_env(bucket).files_bucket == expected
    assert expected.origin == "https://my-files.oss-cn-hangzhou.aliyuncs.com"
    found = Settings.from_env(bucket | {"KADUN_FILES_BUCKET_STYLE": "path"}).files_bucket
    assert found is not None
    assert (found.virtual_hosted, found.origin) == (False, HOST)
    shown = repr(Settings.from_env(bucket))
    assert not [secret for secret in ("the secret", "the key's ID") if secret in shown]
    path, _, query = BucketObjects(expected).sign("0" * 64).partition("?")
    signed = parse_qs(query)
    assert (path, signed["X-Amz-Expires"], signed["X-Amz-SignedHeaders"]) == (f"files/{'0' * 64}", ["300"], ["host"])
    assert "the secret" not in query


def test_a_setting_of_the_bucket_that_is_missing_stray_or_wrong_is_named(bucket: dict[str, str]) -> None:
    for missing in ("ENDPOINT", "REGION", "KEY_ID_FILE", "SECRET_FILE"):
        settings = {name: value for name, value in bucket.items() if name != f"KADUN_FILES_BUCKET_{missing}"}
        assert refusal(**settings).startswith(f"KADUN_FILES_BUCKET_{missing.removesuffix('_FILE')} is not set"), missing
    for stray in ("ENDPOINT", "REGION", "STYLE", "CA", "KEY_ID", "SECRET_FILE"):
        line = refusal(**{f"KADUN_FILES_BUCKET_{stray}": "path"})
        name = f"KADUN_FILES_BUCKET_{stray.removesuffix('_FILE')}"
        assert line.startswith(f"{name} is set without KADUN_FILES_BUCKET"), stray
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


WRONG = "\\*?\"<>|%#&$;'\0\n\x7f\u202e\u200b\u00a0\u3000\ufeff\u115f\ufe0f\u034f\u2215\uff0f\u2024"
