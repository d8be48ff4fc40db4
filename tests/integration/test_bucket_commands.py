"""`cardctl file …` and `doctor` with a bucket, and what a service without nginx sends from it."""

import http.client
import secrets
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import obstore
import pytest

from app.settings import Settings
from app.storage.database import Database
from app.storage.models import File
from app.storage.objects import Objects
from tests.integration.conftest import with_keys
from tests.support.bucket_files import key, keys, states, without_bucket
from tests.support.bucket_host import TlsFront
from tests.support.doctor_results import results
from tests.support.downloads import CONTENT, blobs, fetch, links, put, sha256
from tests.support.http_exchange import exchange
from tests.support.pki import Issued
from tests.support.service import Service
from tests.support.swift import BUCKET, STRANGER, WRITER
from tests.support.tables import for_each


@pytest.fixture
def offline(offline: Service, bucket: Any, bucket_settings: dict[str, str]) -> Service:
    """The command line with the bucket."""
    offline.environment.update(bucket_settings)
    return offline


def test_files_are_added_replaced_listed_and_removed(offline: Service, bucket: Any) -> None:
    large = secrets.token_bytes(17_000_000)  # goes up in parts
    put(offline, "a", large)
    put(offline, "same", large)
    assert keys(bucket) == {key(large)}
    assert sha256(bytes(obstore.get(bucket, key(large)).bytes())) == sha256(large)
    assert blobs(offline) == set()
    put(offline, "a", b"2")
    assert keys(bucket) == {key(large), key(b"2")}
    assert states(offline) == {"a": False, "same": False}
    offline.cardctl("file", "remove", "same")
    assert keys(bucket) == {key(b"2")}
    obstore.delete(bucket, key(b"2"))
    assert states(offline) == {"a": True}
    offline.cardctl("file", "remove", "a")
    assert list(File.select()) == []


@for_each(
    "changes, why",
    [
        ({"KADUN_FILES_BUCKET_SECRET_FILE": "", "KADUN_FILES_BUCKET_SECRET": "wrong"}, "KADUN_FILES_BUCKET_SECRET"),
        ({"KADUN_FILES_BUCKET": "no-such-bucket"}, "there is no such bucket: check KADUN_FILES_BUCKET"),
        ({"KADUN_FILES_BUCKET_REGION": "elsewhere"}, "check KADUN_FILES_BUCKET_REGION"),
        ({"KADUN_FILES_BUCKET_ENDPOINT": "https://nowhere.invalid"}, "check KADUN_FILES_BUCKET_ENDPOINT and the DNS"),
        ({"KADUN_FILES_BUCKET_ENDPOINT": "https://localhost:1"}, "cannot be reached"),
        ({"KADUN_FILES_BUCKET_CA": ""}, "check KADUN_FILES_BUCKET_ENDPOINT and KADUN_FILES_BUCKET_CA"),
    ],
)
def test_a_bucket_that_cannot_be_used_is_named_with_its_setting(
    offline: Service, bucket: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], why: str
) -> None:
    monkeypatch.undo()  # what the row before set
    monkeypatch.setattr(offline, "environment", offline.environment | changes)
    (offline.folder / "x").write_bytes(b"x")
    assert why in offline.refusal("file", "add", str(offline.folder / "x"))
    assert (list(File.select()), blobs(offline), keys(bucket)) == ([], set(), set())
    found = results(offline)
    assert found["bucket"]["status"] == "FAIL"
    assert why in found["bucket"]["message_en"]
    assert WRITER[1] not in str(found)


def test_a_certificate_for_another_host_is_refused(offline: Service, front: TlsFront, authority: Issued) -> None:
    front.show(Issued.make("elsewhere.example", issuer=authority))
    try:
        (offline.folder / "x").write_bytes(b"x")
        assert "KADUN_FILES_BUCKET_CA" in offline.refusal("file", "add", str(offline.folder / "x"))
    finally:
        front.show(Issued.make("localhost", f"{BUCKET}.localhost", issuer=authority))


def test_credentials_without_the_right_to_write(offline: Service) -> None:
    offline.environment |= {f"KADUN_FILES_BUCKET_{name}_FILE": "" for name in ("KEY_ID", "SECRET")}
    offline.environment |= {"KADUN_FILES_BUCKET_KEY_ID": STRANGER[0], "KADUN_FILES_BUCKET_SECRET": STRANGER[1]}
    (offline.folder / "x").write_bytes(b"x")
    assert "lack a right" in offline.refusal("file", "add", str(offline.folder / "x"))
    assert offline.cardctl_json("file", "list") == []
    assert "cannot write: the bucket denies access" in results(offline)["bucket"]["message_en"]


def test_while_the_bucket_is_away_the_list_says_so(offline: Service, front: TlsFront) -> None:
    put(offline, "a", CONTENT)
    with front.away():
        assert states(offline) == {"a": None}
        assert "未知 unknown" in offline.cardctl("file", "list").stdout
        found = results(offline)
        left = offline.cardctl("file", "remove", "a").stderr
    assert (found["bucket"]["status"], found["files"]["status"]) == ("FAIL", "WARN")
    assert sha256(CONTENT) in left  # the file is removed, and its bytes were not
    assert offline.cardctl_json("file", "list") == []


def test_doctor_finds_lost_and_altered_objects_and_leaves_nothing_behind(offline: Service, bucket: Any) -> None:
    put(offline, "a", CONTENT)
    found = results(offline)
    assert [found[name]["status"] for name in ("bucket", "files", "file-digests")] == ["OK", "OK", "OK"]
    obstore.put(bucket, key(CONTENT), bytes(len(CONTENT)))
    assert results(offline)["file-digests"]["status"] == "FAIL"
    obstore.delete(bucket, key(CONTENT))
    assert results(offline)["files"]["status"] == "FAIL"
    assert keys(bucket) == set()


def test_adding_a_file_again_repairs_a_copy_in_the_folder(
    offline: Service, bucket: Any, bucket_settings: dict[str, str]
) -> None:
    put(without_bucket(offline), "a", b"right")
    (Path(offline.environment["KADUN_FILES_DIR"]) / sha256(b"right")).write_bytes(b"wrong")
    offline.environment.update(bucket_settings)
    assert results(offline)["file-digests"]["status"] == "FAIL"
    put(offline, "a", b"right")
    assert (blobs(offline), keys(bucket)) == (set(), {key(b"right")})
    assert results(offline)["file-digests"]["status"] == "OK"


def test_an_addition_that_fails_leaves_nothing_in_the_bucket(offline: Service, bucket: Any, database: Database) -> None:
    (offline.folder / "x").write_bytes(b"x")
    database.execute_sql("ALTER TABLE file ADD CONSTRAINT none CHECK (name <> 'refused') NOT VALID")
    try:
        offline.refusal("file", "add", str(offline.folder / "x"), "--name", "refused")
    finally:
        database.execute_sql("ALTER TABLE file DROP CONSTRAINT none")
    assert keys(bucket) == set()


def test_a_service_without_nginx_sends_the_bytes_itself(
    tmp_path: Path, apart_url: str, bucket: Any, bucket_settings: dict[str, str], front: TlsFront
) -> None:
    with Service(with_keys(tmp_path), apart_url, **bucket_settings) as service:
        (card,) = service.issue()
        put(service, "a", CONTENT)
        url = links(service, card)["a"]
        assert fetch(service, url).content == CONTENT
        part = fetch(service, url, Range="bytes=100000-")
        assert (part.status, part.content) == (206, CONTENT[100_000:])
        assert fetch(service, url, method="HEAD").headers["content-length"] == str(len(CONTENT))
        with front.away():
            away = fetch(service, url)
        assert (away.status, away.code, away.headers["retry-after"]) == (503, "UNAVAILABLE", "2")
        obstore.delete(bucket, key(CONTENT))
        assert fetch(service, url).status == 404


def test_a_signed_path_reads_one_object_for_a_minute(
    offline: Service, bucket: Any, front: TlsFront, bucket_folder: Path
) -> None:
    put(offline, "a", b"a")
    put(offline, "b", b"b")
    found = Settings.from_env(offline.environment).files_bucket
    assert found is not None
    path = Objects(found).signed_path(key(b"a"))
    query = parse_qs(path.partition("?")[2])
    assert (query["X-Amz-Expires"], query["X-Amz-SignedHeaders"]) == (["60"], ["host"])

    def status(method: str, address: str) -> int:
        context = ssl.create_default_context(cafile=bucket_folder / "ca.pem")
        connection = http.client.HTTPSConnection("localhost", front.port, context=context)
        return exchange(connection, method, f"/{address}", None, {}).status

    assert status("GET", path) == 200
    assert status("GET", path.replace(sha256(b"a"), sha256(b"b"))) == 403
    assert status("GET", path.replace("Expires=60", "Expires=600")) == 403
    assert status("GET", path[:-4] + "0000") == 403
    assert status("DELETE", path) == 403
