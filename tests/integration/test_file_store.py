"""Files without a command line or HTTP: what a failure in the middle leaves, and how the journal counts days."""

import io
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import falcon
import pytest
from falcon.testing import simulate_get

from app.domain.card_actions import Action
from app.domain.errors import DatabaseUnavailableError
from app.domain.policy import VerificationRequest
from app.domain.texts import RefusedError
from app.http.files import SEND_SECONDS, DownloadResource
from app.http.middleware import RequestLog
from app.http.request_parser import RequestParser
from app.services.card_actions import CardActions
from app.services.file_store import FileStore
from app.services.files import FileTransfer
from app.services.issuing import Issuing
from app.services.licence import LicenceService
from app.storage.blobs import Blob, Blobs, Received
from app.storage.database import Database
from app.storage.models import Client, Event, File
from app.tokens.links import Link, LinkRefusedError, Links
from app.tokens.signer import Signer
from tests.conftest import Clock
from tests.support.downloads import DOWNLOAD, sha256


class PowerCutError(Exception):
    """Everything ends here."""


class FailingBlobs(Blobs):
    """A folder that the power is cut over, once bytes are in place or before they are removed."""

    fails_at = ""
    failure: BaseException = PowerCutError()

    def install(self, received: Received) -> None:
        super().install(received)
        self._cut("install")

    def remove(self, sha256: str) -> None:
        self._cut("remove")
        super().remove(sha256)

    def _cut(self, where: str) -> None:
        if where == self.fails_at:
            raise self.failure


@pytest.fixture
def blobs(tmp_path: Path) -> FailingBlobs:
    return FailingBlobs(tmp_path / "files")


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def store(database: Database, blobs: FailingBlobs, clock: Clock, warnings: list[str]) -> FileStore:
    return FileStore(database, blobs, "tester", clock, warn=lambda text: warnings.append(text.en))


def add(store: FileStore, name: str, content: bytes) -> str:
    return store.add(name, io.BytesIO(content), size=len(content)).sha256


def read(blobs: Blobs, store: FileStore, name: str) -> bytes:
    """The bytes of a file as a customer would get them."""
    (file,) = (one for one in store.listed() if one.name == name)
    assert not file.missing
    with blobs.open(Blob(file.sha256, file.size)) as source:
        return source.read()


def test_a_failure_before_the_commit_leaves_the_old_version(
    store: FileStore, blobs: FailingBlobs, database: Database
) -> None:
    add(store, "a", b"old")
    blobs.fails_at = "install"
    with pytest.raises(PowerCutError):
        add(store, "a", b"new")
    assert read(blobs, store, "a") == b"old"
    assert Event.select().count() == 1
    blobs.fails_at = ""
    add(store, "a", b"new")
    assert read(blobs, store, "a") == b"new"


def test_a_failure_after_the_commit_leaves_the_new_version(
    store: FileStore, blobs: FailingBlobs, database: Database
) -> None:
    add(store, "a", b"old")
    blobs.fails_at = "remove"
    with pytest.raises(PowerCutError):
        add(store, "a", b"new")
    assert read(blobs, store, "a") == b"new"
    assert Event.select().count() == 2
    with pytest.raises(PowerCutError):
        store.remove(["a"])
    assert store.listed() == []


@pytest.mark.parametrize(
    "failure", [DatabaseUnavailableError("gone"), KeyboardInterrupt(), PermissionError("not ours")], ids=repr
)
def test_old_bytes_that_cannot_be_removed_are_a_warning_for_the_change_is_made(
    store: FileStore, blobs: FailingBlobs, warnings: list[str], failure: BaseException
) -> None:
    old = add(store, "a", b"old")
    blobs.fails_at, blobs.failure = "remove", failure
    new = add(store, "a", b"new")
    assert read(blobs, store, "a") == b"new"
    store.remove(["a"])
    assert store.listed() == []
    for warning, digest in zip(warnings, (old, new), strict=True):
        assert warning.startswith("the change is made")
        assert digest in warning
    blobs.fails_at = ""
    add(store, "b", b"another")
    assert blobs.holds(Blob(old, 3))  # nothing sweeps what another database may want


def test_a_name_is_refused_before_its_bytes_are_read(store: FileStore) -> None:
    source = io.BytesIO(b"x")
    with pytest.raises(RefusedError):
        store.add("../a", source)
    assert source.tell() == 0


@pytest.fixture
def transfer(
    licences: LicenceService, blobs: FailingBlobs, database: Database, clock: Clock, tmp_path: Path
) -> FileTransfer:
    links = Links(Signer(tmp_path / "keys"), "kadun")
    return FileTransfer(licences, links, blobs, database, timezone=ZoneInfo("Asia/Shanghai"), clock=clock)


@pytest.fixture
def card_id(issuing: Issuing) -> str:
    return issuing.issue(1, timedelta(days=30)).cards[0].id


@pytest.fixture
def new_link(transfer: FileTransfer, card_id: str, store: FileStore) -> Callable[[], Link]:
    def link() -> Link:
        transfer.offer(VerificationRequest.from_fields(card_id, "h1", DOWNLOAD, "n" * 22, "198.51.100.1"))
        return Link(name="a", size=1, sha256=sha256(b"x"), client_id=Client.get().id, reference="R" * 8)

    return link


def test_a_client_that_takes_nothing_is_waited_for_so_long_and_no_longer(
    transfer: FileTransfer, new_link: Callable[[], Link], store: FileStore, clock: Clock, tmp_path: Path
) -> None:
    add(store, "a", b"x")
    app = falcon.App(middleware=[RequestLog(behind_proxy=False)])
    resource = DownloadResource(transfer, RequestParser(behind_proxy=False, require_sealed=False), at_once=1)
    app.add_route("/v1/files/{name}", resource)
    token = Links(Signer(tmp_path / "keys"), "kadun").sign(new_link(), clock.now)
    connection, other_end = socket.socketpair()
    with connection, other_end:
        for _ in range(2):  # the one place is given back
            extras = {"gunicorn.socket": connection}
            answer = simulate_get(app, "/v1/files/a", query_string=f"token={token}", extras=extras)
            assert (answer.status_code, answer.content) == (200, b"x")
        assert connection.gettimeout() == SEND_SECONDS


def downloads() -> int:
    return int(Event.select().where(Event.kind == "file_downloaded").count())


def test_a_download_is_journalled_once_for_each_of_the_vendors_days(
    transfer: FileTransfer, new_link: Callable[[], Link], clock: Clock, card_id: str
) -> None:
    link = new_link()  # at 20:00 in Shanghai
    transfer.note(link, card_id, "198.51.100.1")
    clock.advance(timedelta(hours=3, minutes=59))
    transfer.note(link, card_id, "198.51.100.2")
    assert downloads() == 1
    clock.advance(timedelta(minutes=2))
    transfer.note(link, card_id, "198.51.100.1")
    transfer.note(link, card_id, "198.51.100.1")
    assert downloads() == 2


def test_a_client_that_is_no_more_fetches_nothing(
    transfer: FileTransfer, new_link: Callable[[], Link], card_actions: CardActions, card_id: str
) -> None:
    link = new_link()
    card_actions.apply(Action.UNBIND, [card_id])
    with pytest.raises(LinkRefusedError, match="no more"):
        transfer.card_of(link)


def test_a_renewed_client_goes_on_with_its_links_under_its_new_card(
    transfer: FileTransfer, new_link: Callable[[], Link], card_actions: CardActions, issuing: Issuing, card_id: str
) -> None:
    link = new_link()
    card_actions.apply(Action.FREEZE, [card_id])
    renewed = issuing.issue(1, None).cards[0].id
    transfer.offer(VerificationRequest.from_fields(renewed, "h1", DOWNLOAD, "n" * 22, "198.51.100.1"))
    assert transfer.card_of(link) == renewed


def test_a_row_that_is_not_of_ours_is_refused_by_the_database_itself(database: Database, store: FileStore) -> None:
    for name in ("../a", "a/b", ".a", "", "a" * 101, "a\nb", "a\\b"):
        with pytest.raises(Exception, match="file_name_check"), database.atomic():
            File.insert(name=name, size=0, sha256="a" * 64, added_at=Clock().now).execute()
