"""`POST /v1/files`: the verdict lists the files for the card, each with a link."""

import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import jwt

from app.services.file_store import MAX_FILES
from app.storage.models import Client, File
from app.tokens.key_folder import KeyFolder
from tests.support.downloads import CONTENT, NAME, ask, fetch, is_problem, links, put, sha256
from tests.support.service import Service, question

SDK_READS_BYTES = 1024 * 1024


def test_a_card_is_offered_the_file_and_its_link_brings_the_bytes(service: Service, card_with_file: str) -> None:
    answer = ask(service, card_with_file)
    (entry,) = answer.claims["files"]
    assert entry["url"].startswith(f"/v1/files/{quote(NAME)}?token=")
    assert {**entry, "url": ""} == {"name": NAME, "size": len(CONTENT), "sha256": sha256(CONTENT), "url": ""}
    fetched = fetch(service, entry["url"])
    assert (fetched.status, fetched.content) == (200, CONTENT)
    expected = {
        "content-type": "application/octet-stream",
        "content-length": str(len(CONTENT)),
        "etag": f'"{sha256(CONTENT)}"',
        "accept-ranges": "bytes",
        "cache-control": "private, no-store",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(NAME)}",
        "x-content-type-options": "nosniff",
    }
    assert expected.items() <= fetched.headers.items()


def test_the_verdict_is_signed_and_never_brings_the_key(service: Service, card_with_file: str) -> None:
    body = json.dumps(question(card_with_file)).encode()  # 打开程序, which earns the key elsewhere
    answer = service.request("POST", "/v1/files", body, {"Content-Type": "application/json"})
    key = jwt.PyJWK(KeyFolder(service.folder / "keys").load().current.public).key
    claims = jwt.decode(answer.body["token"], key, algorithms=["EdDSA"], audience="kadun-client")
    assert (claims["code"], claims["accepted"], len(claims["files"])) == ("OK", True, 1)
    assert not [name for name in claims if name.startswith("KERNAL") or name == "offline_until"]


def test_a_link_names_no_card(service: Service, card_with_file: str) -> None:
    url = links(service, card_with_file)[NAME]
    claims = jwt.decode(url.partition("token=")[2], options={"verify_signature": False})
    assert claims["sub"] == Client.get().id
    assert claims["exp"] - claims["iat"] == 600
    assert card_with_file not in json.dumps(claims)
    assert card_with_file not in url


def test_a_card_without_files_gets_an_empty_list(service: Service) -> None:
    (issued,) = service.issue()
    assert ask(service, issued).claims["files"] == []


def test_the_requests_form_is_checked_before_the_rules(service: Service) -> None:
    headers = {"Content-Type": "application/json"}
    assert service.request("POST", "/v1/files", b"{}", headers).body["code"] == "INVALID_REQUEST"
    assert service.request("POST", "/v1/files", b"{}").body["code"] == "UNSUPPORTED_MEDIA_TYPE"
    assert service.request("GET", "/v1/files").status == 405
    assert service.request("POST", "/v1/files/x", b"{}", headers).status == 405
    assert service.request("GET", "/v1/files/").status == 403


def test_a_file_for_a_batch_goes_to_that_batch_alone(service: Service) -> None:
    put(service, "all", b"for all")
    put(service, "extra", b"paid extra", "--batch", "gold", "--batch", "platinum")
    put(service, "other", b"other", "--batch", "silver")

    def offered(*options: str) -> set[str]:
        issued = service.cardctl("card", "issue", "--validity", "1d", "--format", "txt", *options).stdout.strip()
        return set(links(service, issued, hardware=f"machine of {issued}", ip=None))

    assert offered() == {"all"}
    assert offered("--batch", "gold") == offered("--batch", "platinum") == {"all", "extra"}
    assert offered("--batch", "silver") == {"all", "other"}
    assert offered("--batch", "gold ") == {"all"}


def test_a_file_whose_bytes_are_missing_is_not_offered(service: Service, card_with_file: str) -> None:
    url = links(service, card_with_file)[NAME]
    (Path(service.environment["KADUN_FILES_DIR"]) / sha256(CONTENT)).unlink()
    assert links(service, card_with_file) == {}
    is_problem(fetch(service, url), 404, "NOT_FOUND")


def test_the_maximum_number_of_files_fits_into_an_answer_that_the_sdk_reads(
    service: Service, card_with_file: str
) -> None:
    File.delete().execute()
    longest = "𠀀" * 95  # four bytes each, twelve in an address
    row = {"size": len(CONTENT), "sha256": sha256(CONTENT), "added_at": datetime.now(UTC)}
    File.insert_many([{"name": f"{longest}{number:05}", **row} for number in range(MAX_FILES)]).execute()
    answer = ask(service, card_with_file)
    offered = answer.claims["files"]
    assert len(offered) == MAX_FILES
    assert int(answer.headers["content-length"]) < SDK_READS_BYTES
    assert len(offered[0]["url"]) <= 4096
    assert fetch(service, offered[0]["url"]).content == CONTENT
    refused = service.cardctl("file", "add", "-", "--name", "one more", check=False, text="x")
    assert (refused.returncode, f"at most {MAX_FILES} files" in refused.stderr) == (1, True)
    assert service.cardctl("file", "add", "-", "--name", f"{longest}00000", text="x").returncode == 0
