"""Licensed files: what `POST /v1/files` offers; what a link opens and when it is refused; the journal's entries."""
# Owns files-offer, files-link, files-ranges.

import contextlib
import json
import socket
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote
from zoneinfo import ZoneInfo

import jwt
import pytest

from app.domain.cards.card_actions import Action
from app.domain.licence.policy import VerificationRequest
from app.services.cards.card_actions import CardActions
from app.services.cards.issuing import Issuing
from app.services.files.file_store import MAX_FILES
from app.services.files.files import FileTransfer
from app.services.licence.licence import LicenceService
from app.storage.blobs import Blobs
from app.storage.database import Database
from app.storage.models import Card, Client, Event, File, Usage
from app.tokens.key_folder import KeyFolder
from app.tokens.links import Link, Links
from app.tokens.signer import Signer
from tests.conftest import Clock
from tests.integration.conftest import with_keys
from tests.support.concurrency import at_once
from tests.support.downloads import CONTENT, DOWNLOAD, NAME, ask, fetch, is_problem, links, put, sha256
from tests.support.query_plans import plan, statements
from tests.support.services.processes import children_of
from tests.support.services.service import Service, question

SDK_READS_BYTES = 1024 * 1024
ADDRESS = "198.51.100.1"


def test_a_card_is_offered_the_file_and_its_link_brings_the_bytes(service: Service, card_with_file: str) -> None:
    (entry,) = ask(service, card_with_file).claims["files"]
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


def test_the_verdict_is_signed_and_brings_no_key_and_its_link_no_card(service: Service, card_with_file: str) -> None:
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


def test_the_most_files_fit_into_an_answer_that_the_sdk_reads(service: Service, card_with_file: str) -> None:
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


class Offering:
    """`FileTransfer` without a server, for one client."""

    def __init__(self, licences: LicenceService, database: Database, clock: Clock, folder: Path) -> None:
        self.links, self.blobs = Links(Signer(KeyFolder(folder / "keys")), "kadun"), Blobs(folder / "files")
        where = {"timezone": ZoneInfo("Asia/Shanghai"), "clock": clock}
        self.transfer = FileTransfer(licences, self.links, self.blobs, database, **where)
        self.clock = clock

    def link(self, card_id: str) -> Link:
        self.transfer.offer(VerificationRequest.from_fields(card_id, "h1", DOWNLOAD, "n" * 22, ADDRESS))
        return Link("a", 1, sha256(b"x"), Client.get().id, "R" * 8)

    def sign(self, link: Link) -> str:
        return self.links.sign(link, self.clock.now)


@pytest.fixture
def offering(licences: LicenceService, database: Database, clock: Clock, tmp_path: Path) -> Offering:
    return Offering(licences, database, clock, tmp_path)


def test_a_download_is_noted_once_a_day(offering: Offering, clock: Clock, card_id: str, database: Database) -> None:
    link = offering.link(card_id)  # at 20:00 in Shanghai
    row = {"at": clock.now, "kind": "file_downloaded", "card_id": card_id}
    Event.insert_many([{**row, "details": {"name": "x", "sha256": f"{n}"}} for n in range(2000)]).execute()
    database.execute_sql("ANALYZE event")
    for minutes, address, count in ((0, ADDRESS, 1), (239, "198.51.100.2", 1), (2, ADDRESS, 2), (0, ADDRESS, 2)):
        clock.advance(timedelta(minutes=minutes))
        with statements(database) as ran:
            offering.transfer.journal_download(link, card_id, address)
        assert Event.select().where(Event.kind == "file_downloaded").count() == 2000 + count, minutes
    assert [told for told in map(plan, [database] * len(ran), ran) if "event_downloads" in told]


def test_links_outlive_a_renewal(offering: Offering, card_actions: CardActions, issuing: Issuing, card_id: str) -> None:
    link = offering.link(card_id)
    card_actions.apply(Action.FREEZE, [card_id])
    renewed = issuing.issue(1, None).cards[0].id
    assert offering.link(renewed) == link
    assert offering.transfer.authorise(offering.sign(link), "a", ADDRESS) == (link, renewed)


def test_a_download_is_counted_as_usage_and_journalled_once(service: Service, card_with_file: str) -> None:
    answer = ask(service, card_with_file)
    url = answer.claims["files"][0]["url"]
    for asked, status in ({}, 200), ({"Range": "bytes=5-"}, 206):
        assert {one.status for one in at_once([partial(fetch, service, url, **asked)] * 8)} == {status}
    assert fetch(service, links(service, card_with_file)[NAME]).status == 200
    (event,) = Event.select().where(Event.kind == "file_downloaded")
    assert event.details == {"name": NAME, "sha256": sha256(CONTENT), "size": len(CONTENT)}
    assert (event.card_id, event.ip, event.reference) == (card_with_file, "127.0.0.1", answer.claims["jti"][-8:])
    assert {(row.function, row.count) for row in Usage.select()} == {(DOWNLOAD, 3)}
    shown = service.cardctl("events", "--kind", "file_downloaded", "--card", card_with_file).stdout
    assert NAME in shown
    put(service, NAME, b"version 2")
    put(service, "the same under another name", b"version 2")
    for url in links(service, card_with_file).values():
        assert fetch(service, url).body == b"version 2"
    assert Event.select().where(Event.kind == "file_downloaded").count() == 3


def test_parts_and_conditions_hold_and_no_byte_means_no_journal_entry(service: Service, card_with_file: str) -> None:
    url, etag = links(service, card_with_file)[NAME], f'"{sha256(CONTENT)}"'
    known = fetch(service, url, If_None_Match=etag)
    assert (known.status, known.body, known.headers["etag"]) == (304, b"", etag)
    beyond = fetch(service, url, Range=f"bytes={len(CONTENT)}-")
    is_problem(beyond, 416, "INVALID_REQUEST")
    assert beyond.headers["content-range"] == f"bytes */{len(CONTENT)}"
    assert not {"etag", "content-disposition", "accept-ranges"} & set(beyond.headers)
    head = fetch(service, url, method="HEAD")
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert head.headers["etag"] == etag
    assert fetch(service, url.replace("token=", "token=x"), method="HEAD").status == 403
    assert not Event.select().where(Event.kind == "file_downloaded").exists()
    rest = fetch(service, url, Range="bytes=1000-1999", If_Range=etag)
    assert (rest.status, rest.body, rest.headers["content-length"]) == (206, CONTENT[1000:2000], "1000")
    assert rest.headers["content-range"] == f"bytes 1000-1999/{len(CONTENT)}"
    put(service, "empty", b"")
    empty = fetch(service, links(service, card_with_file)["empty"])
    assert (empty.status, empty.body, empty.headers["content-length"]) == (200, b"", "0")


def test_clients_that_read_nothing_take_neither_threads_nor_memory(database_url: str, tmp_path: Path) -> None:
    def peak() -> int:
        """The most memory that the worker ever had, in KiB."""
        (worker,) = children_of(own.process.pid)
        return int(Path(f"/proc/{worker}/status").read_text().partition("VmHWM:")[2].split()[0])

    with Service(tmp_path, database_url, KADUN_WORKERS="1", KADUN_THREADS="1") as own:
        put(own, "large", bytes(32 * 1024 * 1024))  # more than sockets hold
        issued, other = own.issue(2)
        url, before = links(own, issued)["large"], peak()
        with contextlib.ExitStack() as readers:
            for _ in range(24):
                reader = readers.enter_context(socket.create_connection(("127.0.0.1", own.port), 20))
                reader.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert reader.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
            assert own.verify(question(issued)).status == 200
            assert own.verify(question(other, hardware="machine-2")).claims["activated"] is True
            assert fetch(own, url).body == bytes(32 * 1024 * 1024)
        assert peak() - before < 16 * 1024


def signed(service: Service, at: datetime) -> str:
    """Return the address of a link of the client in the database, signed with the service's own key."""
    link = Link(NAME, len(CONTENT), sha256(CONTENT), Client.get().id, "REFERENC")
    token = Links(Signer(KeyFolder(service.folder / "keys")), "kadun").sign(link, at)
    return f"/v1/files/{quote(link.name)}?token={token}"


def test_only_a_link_of_the_file_that_has_not_expired_opens_it(service: Service, card_with_file: str) -> None:
    for seconds, status in ((601, 403), (540, 200)):
        at = datetime.now(UTC) - timedelta(seconds=seconds)
        assert fetch(service, signed(service, at)).status == status
    put(service, "other.bin", b"other")
    good = links(service, card_with_file)[NAME].partition("token=")[2]
    place = f"/v1/files/{quote(NAME)}"
    for target in (f"/v1/files/other.bin?token={good}", place, f"{place}?token={good}&token={good}"):
        is_problem(fetch(service, target), 403, "LINK_REFUSED")


def test_a_link_is_void_while_its_card_is_frozen_unbound_or_gone(service: Service, card_with_file: str) -> None:
    url = links(service, card_with_file)[NAME]
    service.cardctl("card", "freeze", card_with_file)
    refused = ask(service, card_with_file)
    assert (refused.status, refused.claims["code"], "files" in refused.claims) == (403, "CARD_FROZEN", False)
    is_problem(fetch(service, url), 403, "LINK_REFUSED")
    service.cardctl("card", "unfreeze", card_with_file)
    assert fetch(service, url).status == 200
    service.cardctl("card", "unbind", card_with_file)
    is_problem(fetch(service, url), 403, "LINK_REFUSED")
    assert fetch(service, url, method="HEAD").status == 403
    # `card delete` refuses activated cards, so the rows go as a person with a database shell deletes them.
    url = links(service, card_with_file)[NAME]
    for table in (Client, Usage, Card):
        table.delete().execute()
    is_problem(fetch(service, url), 403, "LINK_REFUSED")


def test_a_link_of_a_replaced_removed_or_missing_file_finds_nothing(service: Service, card_with_file: str) -> None:
    url = links(service, card_with_file)[NAME]
    put(service, NAME, b"version 2")
    is_problem(fetch(service, url), 404, "NOT_FOUND")
    url = links(service, card_with_file)[NAME]
    (Path(service.environment["KADUN_FILES_DIR"]) / sha256(b"version 2")).unlink()
    assert links(service, card_with_file) == {}
    is_problem(fetch(service, url), 404, "NOT_FOUND")
    put(service, NAME, b"version 2")
    assert fetch(service, url).body == b"version 2"
    service.cardctl("file", "remove", NAME)
    is_problem(fetch(service, url), 404, "NOT_FOUND")
    assert links(service, card_with_file) == {}


def test_without_a_database_there_is_no_link_and_no_byte(tmp_path: Path, card_with_file: str, service: Service) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / sha256(CONTENT)).write_bytes(CONTENT)
    with Service(with_keys(tmp_path), "postgresql://nobody@127.0.0.1:9/none") as alone:
        url = signed(alone, datetime.now(UTC))
        for answer in (fetch(alone, url), ask(alone, card_with_file)):
            assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert fetch(alone, url.replace("token=", "token=x")).status == 403
        assert fetch(alone, "/").status == 200, "the front page says what it can"
