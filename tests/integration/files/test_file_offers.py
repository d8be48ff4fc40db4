"""Offers of licensed files: `POST /v1/files`, and `FileTransfer` without a server."""
# Owns files-offer.

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import quote
from zoneinfo import ZoneInfo

import falcon
import jwt
import pytest
from falcon.testing import create_environ, simulate_get

from app.domain.cards.card_actions import Action
from app.domain.licence.policy import VerificationRequest
from app.http import problems
from app.http.files import DownloadResource
from app.http.middleware import RequestLog
from app.http.request_parser import RequestParser
from app.services.cards.card_actions import CardActions
from app.services.cards.issuing import Issuing
from app.services.files.file_store import MAX_FILES
from app.services.files.files import FileTransfer
from app.services.licence.licence import LicenceService
from app.storage.blobs import Blobs
from app.storage.database import Database
from app.storage.models import Client, Event, File
from app.tokens.key_folder import KeyFolder
from app.tokens.links import Link, LinkRefusedError, Links
from app.tokens.signer import Signer
from tests.conftest import Clock
from tests.support.downloads import CONTENT, DOWNLOAD, NAME, ask, fetch, is_problem, links, put, sha256
from tests.support.services.service import Service, question

SDK_READS_BYTES = 1024 * 1024
ADDRESS = "198.51.100.1"


def test_a_card_is_offered_the_file_and_its_link_brings_the_bytes(service: Service, card_with_file: str) -> None:
    answer = ask(service, card_with_file)
    (entry,) = answer.claims["files"]
    assert entry["url"].startswith(f"/v1/files/{quote(NAME)}?token=")
    assert {**entry, "url": ""} == {"name": NAME, "size": len(CONTENT), "sha256": sha256(CONTENT), "url": ""}
    fetched = fetch(service, entry["url"])
    assert (fetched.status, fetched.body) == (200, CONTENT)
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


def test_the_verdict_is_signed_and_brings_no_key_and_its_link_names_no_card(
    service: Service, card_with_file: str
) -> None:
    body = json.dumps(question(card_with_file)).encode()  # 打开程序, which earns the key elsewhere
    answer = service.request("POST", "/v1/files", body, {"Content-Type": "application/json"})
    key = jwt.PyJWK(KeyFolder(service.folder / "keys").load().current.public).key
    claims = jwt.decode(answer.body["token"], key, algorithms=["EdDSA"], audience="kadun-client")
    assert (claims["code"], claims["accepted"]) == ("OK", True)
    assert not [name for name in claims if name.startswith("KERNAL") or name == "offline_until"]
    (file,) = claims["files"]
    link = jwt.decode(file["url"].partition("token=")[2], options={"verify_signature": False})
    assert (link["sub"], link["exp"] - link["iat"]) == (Client.get().id, 600)
    assert card_with_file not in json.dumps(link) + file["url"]


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
    assert fetch(service, offered[0]["url"]).body == CONTENT
    refused = service.cardctl("file", "add", "-", "--name", "one more", check=False, text="x")
    assert (refused.returncode, f"at most {MAX_FILES} files" in refused.stderr) == (1, True)
    assert service.cardctl("file", "add", "-", "--name", f"{longest}00000", text="x").returncode == 0


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "files")


@pytest.fixture
def signing(licences: LicenceService, tmp_path: Path) -> Links:
    return Links(Signer(KeyFolder(tmp_path / "keys")), "kadun")


@pytest.fixture
def transfer(licences: LicenceService, signing: Links, blobs: Blobs, database: Database, clock: Clock) -> FileTransfer:
    return FileTransfer(licences, signing, blobs, database, timezone=ZoneInfo("Asia/Shanghai"), clock=clock)


@pytest.fixture
def new_link(transfer: FileTransfer, card_id: str) -> Callable[[], Link]:
    def link() -> Link:
        transfer.offer(VerificationRequest.from_fields(card_id, "h1", DOWNLOAD, "n" * 22, ADDRESS))
        return Link("a", 1, sha256(b"x"), Client.get().id, "R" * 8)

    return link


def test_downloads_beyond_the_limit_are_refused_and_each_gives_its_place_back(
    transfer: FileTransfer,
    new_link: Callable[[], Link],
    signing: Links,
    clock: Clock,
    blobs: Blobs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.http.files.MAX_DOWNLOADS", 1)
    with blobs.receiving(io.BytesIO(b"x"), 1) as received:
        blobs.install(received)
    app = falcon.App(middleware=[RequestLog(behind_proxy=False)])
    problems.install(app)
    resource = DownloadResource(transfer, RequestParser(behind_proxy=False, require_sealed=False))
    app.add_route("/v1/files/{name}", resource)
    token = signing.sign(new_link(), clock.now)
    environ = create_environ("/v1/files/a", query_string=f"token={token}")
    for _ in range(2):
        start_response = Mock()
        sending = app(environ, start_response)
        refused = simulate_get(app, "/v1/files/a", query_string=f"token={token}")
        assert (start_response.call_args.args[0], refused.status_code) == ("200 OK", 503)
        assert int(refused.headers["retry-after"]) > 0
        assert not {"etag", "content-disposition"} & set(refused.headers)
        assert b"".join(sending) == b"x"
        sending.close()


def downloads() -> int:
    return int(Event.select().where(Event.kind == "file_downloaded").count())


def test_a_download_is_journalled_once_for_each_of_the_vendors_days(
    transfer: FileTransfer, new_link: Callable[[], Link], clock: Clock, card_id: str
) -> None:
    link = new_link()  # at 20:00 in Shanghai
    transfer.journal_download(link, card_id, ADDRESS)
    clock.advance(timedelta(hours=3, minutes=59))
    transfer.journal_download(link, card_id, "198.51.100.2")
    assert downloads() == 1
    clock.advance(timedelta(minutes=2))
    transfer.journal_download(link, card_id, ADDRESS)
    transfer.journal_download(link, card_id, ADDRESS)
    assert downloads() == 2


def test_a_clients_links_stay_good_under_its_new_card(
    transfer: FileTransfer,
    new_link: Callable[[], Link],
    card_actions: CardActions,
    issuing: Issuing,
    card_id: str,
    signing: Links,
    clock: Clock,
) -> None:
    link = new_link()
    card_actions.apply(Action.FREEZE, [card_id])
    renewed = issuing.issue(1, None).cards[0].id
    transfer.offer(VerificationRequest.from_fields(renewed, "h1", DOWNLOAD, "n" * 22, ADDRESS))
    assert transfer.authorise(signing.sign(link, clock.now), "a", ADDRESS) == (link, renewed)


def test_a_link_ends_with_its_cards_validity(
    transfer: FileTransfer, issuing: Issuing, signing: Links, clock: Clock
) -> None:
    card_id = issuing.issue(1, timedelta(minutes=5)).cards[0].id
    transfer.offer(VerificationRequest.from_fields(card_id, "h1", DOWNLOAD, "n" * 22, ADDRESS))
    link = Link("a", 1, sha256(b"x"), Client.get().id, "R" * 8)
    token = signing.sign(link, clock.now)
    clock.advance(timedelta(seconds=299))
    assert transfer.authorise(token, "a", ADDRESS) == (link, card_id)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(LinkRefusedError, match="expired"):
        transfer.authorise(token, "a", ADDRESS)
