"""Downloads of licensed files: what a link opens and when it is refused, ranges, and the journal's entries."""
# Owns files-ranges.

import contextlib
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from app.domain.codes import EventKind
from app.services.files.files import journalled_downloads
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Card, Client, Event, Usage
from app.tokens.key_folder import KeyFolder
from app.tokens.links import Link, Links
from app.tokens.signer import Signer
from tests.integration.conftest import with_keys
from tests.support.downloads import CONTENT, DOWNLOAD, NAME, ask, fetch, is_problem, links, put, sha256
from tests.support.services.processes import children_of
from tests.support.services.service import Service, question


def proxied_link(proxied: Service) -> str:
    """Return the link of a file that a new card is offered."""
    put(proxied, NAME, CONTENT)
    (issued,) = proxied.issue()
    body = json.dumps(question(issued, function=DOWNLOAD)).encode()
    headers = {"Content-Type": "application/json", "X-Real-IP": "198.51.100.7"}
    return str(proxied.request("POST", "/v1/files", body, headers).claims["files"][0]["url"])


def test_a_download_is_counted_as_usage_and_journalled_once(service: Service, card_with_file: str) -> None:
    answer = ask(service, card_with_file)
    url = answer.claims["files"][0]["url"]
    for _ in range(2):
        assert fetch(service, url).status == 200
        assert fetch(service, url, Range="bytes=5-").status == 206
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


def test_downloads_at_once_are_journalled_once(proxied: Service) -> None:
    url = proxied_link(proxied)
    with ThreadPoolExecutor(8) as pool:
        fetched = list(pool.map(lambda _: fetch(proxied, url, X_Real_IP="198.51.100.8"), range(24)))
    assert {answer.status for answer in fetched} == {200}
    assert Event.select().where(Event.kind == "file_downloaded").count() == 1


def test_a_part_of_a_file_is_sent_and_the_whole_of_another_version(service: Service, card_with_file: str) -> None:
    url, etag = links(service, card_with_file)[NAME], f'"{sha256(CONTENT)}"'
    rest = fetch(service, url, Range="bytes=1000-1999", If_Range=etag)
    assert (rest.status, rest.body) == (206, CONTENT[1000:2000])
    assert rest.headers["content-range"] == f"bytes 1000-1999/{len(CONTENT)}"
    assert rest.headers["content-length"] == "1000"
    whole = fetch(service, url, Range="bytes=5-", If_Range='"other"')
    assert (whole.status, whole.body, "content-range" in whole.headers) == (200, CONTENT, False)


def test_without_a_byte_of_the_content_nothing_is_journalled(service: Service, card_with_file: str) -> None:
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
    put(service, "empty", b"")
    empty = fetch(service, links(service, card_with_file)["empty"])
    assert (empty.status, empty.body, empty.headers["content-length"]) == (200, b"", "0")


def test_clients_that_read_nothing_take_no_threads(database_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, database_url, KADUN_WORKERS="1", KADUN_THREADS="1") as own:
        put(own, "large", bytes(32 * 1024 * 1024))  # more than sockets hold
        issued, other = own.issue(2)
        url = links(own, issued)["large"]
        with contextlib.ExitStack() as readers:
            for _ in range(24):
                reader = readers.enter_context(socket.create_connection(("127.0.0.1", own.port), 20))
                reader.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                assert reader.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
            assert own.verify(question(issued)).status == 200
            assert own.verify(question(other, hardware="machine-2")).claims["activated"] is True
            assert fetch(own, url).body == bytes(32 * 1024 * 1024)


def test_a_large_file_is_never_held_in_memory(service: Service) -> None:
    size = 96 * 1024 * 1024
    with (service.folder / "large").open("wb") as file:
        file.truncate(size)
    service.cardctl("file", "add", str(service.folder / "large"))
    (issued,) = service.issue()
    url = links(service, issued)["large"]
    before = peaks(service)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", url)
        answer = connection.getresponse()
        received = sum(map(len, iter(lambda: answer.read(1024 * 1024), b"")))
    service.cardctl("file", "remove", "large")
    assert received == size
    after = peaks(service)
    assert after.keys() == before.keys()
    assert max(after[pid] - before[pid] for pid in after) < 16 * 1024


def peaks(service: Service) -> dict[int, int]:
    """The most memory that each worker ever had, in KiB."""
    assert service.process
    status = {pid: Path(f"/proc/{pid}/status").read_text() for pid in children_of(service.process.pid)}
    return {pid: int(text.partition("VmHWM:")[2].split()[0]) for pid, text in status.items()}


def test_the_search_for_a_days_downloads_uses_its_index(
    service: Service, card_with_file: str, database: Database
) -> None:
    row = {"at": datetime.now(UTC), "kind": "file_downloaded", "card_id": card_with_file}
    Event.insert_many([{**row, "details": {"name": "x", "sha256": f"{n}"}} for n in range(2000)]).execute()
    database.execute_sql("ANALYZE event")
    assert fetch(service, links(service, card_with_file)[NAME]).status == 200
    since = datetime.now(UTC) - timedelta(days=1)
    entry = Entry(
        at=since, kind=EventKind.FILE_DOWNLOADED, card_id=card_with_file, details={"name": "x", "sha256": "7"}
    )
    query, parameters = journalled_downloads(entry, since).sql()
    assert "event_downloads" in str(database.execute_sql(f"EXPLAIN {query}", parameters).fetchall())


def link_of(service: Service, **changes: object) -> Link:
    """Return a link of the client in the database."""
    known = {
        "name": NAME,
        "size": len(CONTENT),
        "sha256": sha256(CONTENT),
        "client_id": Client.get().id,
        "reference": "REFERENC",
    }
    return Link(**{**known, **changes})  # type: ignore[arg-type]


def signed(service: Service, link: Link, at: datetime | None = None) -> str:
    """Return a link's address, signed with the service's own key."""
    token = Links(Signer(KeyFolder(service.folder / "keys")), "kadun").sign(link, at or datetime.now(UTC))
    return f"/v1/files/{quote(link.name)}?token={token}"


def test_only_a_link_of_the_file_that_has_not_expired_opens_it(service: Service, card_with_file: str) -> None:
    for seconds, status in ((601, 403), (540, 200)):
        at = datetime.now(UTC) - timedelta(seconds=seconds)
        assert fetch(service, signed(service, link_of(service), at)).status == status
    put(service, "other.bin", b"other")
    good = links(service, card_with_file)[NAME].partition("token=")[2]
    place = f"/v1/files/{quote(NAME)}"
    for target in (f"/v1/files/other.bin?token={good}", place, f"{place}?token={good}&token={good}"):
        is_problem(fetch(service, target), 403, "LINK_REFUSED")


def test_a_link_is_void_while_its_card_is_frozen_and_once_it_is_unbound_or_gone(
    service: Service, card_with_file: str
) -> None:
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


def test_a_link_of_a_replaced_or_removed_file_finds_nothing(service: Service, card_with_file: str) -> None:
    url = links(service, card_with_file)[NAME]
    put(service, NAME, b"version 2")
    is_problem(fetch(service, url), 404, "NOT_FOUND")
    url = links(service, card_with_file)[NAME]
    service.cardctl("file", "remove", NAME)
    is_problem(fetch(service, url), 404, "NOT_FOUND")
    assert links(service, card_with_file) == {}


def test_without_a_database_there_are_neither_links_nor_bytes(
    tmp_path: Path, card_with_file: str, service: Service
) -> None:
    link = link_of(service)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / sha256(CONTENT)).write_bytes(CONTENT)
    with Service(with_keys(tmp_path), "postgresql://nobody@127.0.0.1:9/none") as alone:
        for answer in (fetch(alone, signed(alone, link)), ask(alone, card_with_file)):
            assert answer.status == 503
            assert answer.headers["retry-after"]
        assert fetch(alone, signed(alone, link).replace("token=", "token=x")).status == 403
