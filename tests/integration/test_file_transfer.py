"""`FileTransfer` without a server: the vendor's days, a client's new card, and how long a slow client may take."""

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import falcon
import pytest
from falcon.testing import create_environ, simulate_get

from app.domain.card_actions import Action
from app.domain.policy import VerificationRequest
from app.http import problems
from app.http.files import DownloadResource
from app.http.middleware import RequestLog
from app.http.request_parser import RequestParser
from app.services.card_actions import CardActions
from app.services.files import FileTransfer
from app.services.issuing import Issuing
from app.services.licence import LicenceService
from app.storage.blobs import Blobs
from app.storage.database import Database
from app.storage.models import Client, Event
from app.tokens.key_folder import KeyFolder
from app.tokens.links import Link, LinkRefusedError, Links
from app.tokens.signer import Signer
from tests.conftest import Clock
from tests.support.downloads import DOWNLOAD, sha256


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
        transfer.offer(VerificationRequest.from_fields(card_id, "h1", DOWNLOAD, "n" * 22, "198.51.100.1"))
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
    transfer.journal_download(link, card_id, "198.51.100.1")
    clock.advance(timedelta(hours=3, minutes=59))
    transfer.journal_download(link, card_id, "198.51.100.2")
    assert downloads() == 1
    clock.advance(timedelta(minutes=2))
    transfer.journal_download(link, card_id, "198.51.100.1")
    transfer.journal_download(link, card_id, "198.51.100.1")
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
    transfer.offer(VerificationRequest.from_fields(renewed, "h1", DOWNLOAD, "n" * 22, "198.51.100.1"))
    assert transfer.authorise(signing.sign(link, clock.now), "a") == (link, renewed)


def test_a_link_ends_with_its_cards_validity(
    transfer: FileTransfer, issuing: Issuing, signing: Links, clock: Clock
) -> None:
    card_id = issuing.issue(1, timedelta(minutes=5)).cards[0].id
    transfer.offer(VerificationRequest.from_fields(card_id, "h1", DOWNLOAD, "n" * 22, "198.51.100.1"))
    link = Link("a", 1, sha256(b"x"), Client.get().id, "R" * 8)
    token = signing.sign(link, clock.now)
    clock.advance(timedelta(seconds=299))
    assert transfer.authorise(token, "a") == (link, card_id)
    clock.advance(timedelta(seconds=1))
    with pytest.raises(LinkRefusedError, match="expired"):
        transfer.authorise(token, "a")
