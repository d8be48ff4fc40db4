"""Files from the vendor to a licensed client: offered in a verdict, fetched by a link, noted in the journal."""

import contextlib
import http.client
import json
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.codes import EventKind
from app.services.file_store import MAX_FILES
from app.storage.database import Database
from app.storage.files import noted_downloads
from app.storage.journal import Entry
from app.storage.models import Client, Event, File, Usage
from app.tokens import keyring
from app.tokens.links import Link, Links
from app.tokens.signer import Signer
from tests.integration.conftest import with_keys
from tests.support.downloads import DOWNLOAD, Fetched, ask, blobs, fetch, links, put, sha256
from tests.support.service import Service, question, wait_for

CONTENT = bytes(range(256)) * 1000
NAME = "数据 v1.bin"
SDK_READS_BYTES = 1024 * 1024


def link_of(service: Service, **changes: object) -> Link:
    """What a link is for, of a client that there is."""
    known = {
        "name": NAME,
        "size": len(CONTENT),
        "sha256": sha256(CONTENT),
        "client_id": Client.get().id,
        "reference": "REFERENC",
    }
    return Link(**{**known, **changes})  # type: ignore[arg-type]


def signed(service: Service, link: Link, at: datetime | None = None) -> str:
    """A link's address, signed with the service's own key."""
    token = Links(Signer(service.folder / "keys"), "kadun").sign(link, at or datetime.now(UTC))
    return f"/v1/files/{quote(link.name)}?token={token}"


def proxied_link(proxied: Service) -> str:
    """The address of a file that a new card is offered."""
    put(proxied, NAME, CONTENT)
    (issued,) = proxied.issue()
    body = json.dumps(question(issued, function=DOWNLOAD)).encode()
    headers = {"Content-Type": "application/json", "X-Real-IP": "198.51.100.7"}
    return str(proxied.request("POST", "/v1/files", body, headers).claims["files"][0]["url"])


def is_problem(fetched: Fetched, status: int, code: str) -> None:
    assert (fetched.status, fetched.headers["content-type"]) == (status, "application/problem+json")
    assert fetched.code == code


@pytest.fixture
def card_id(service: Service) -> str:
    """A card that has asked before."""
    put(service, NAME, CONTENT)
    (issued,) = service.issue()
    assert ask(service, issued).status == 200
    return issued


def test_a_card_is_offered_the_file_and_its_link_brings_the_bytes(service: Service, card_id: str) -> None:
    answer = ask(service, card_id)
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


def test_the_verdict_is_signed_and_never_brings_the_key(service: Service, card_id: str) -> None:
    body = json.dumps(question(card_id)).encode()  # 打开程序, which earns the key elsewhere
    answer = service.request("POST", "/v1/files", body, {"Content-Type": "application/json"})
    key = jwt.PyJWK(keyring.load(service.folder / "keys").current.public).key
    claims = jwt.decode(answer.body["token"], key, algorithms=["EdDSA"], audience="kadun-client")
    assert (claims["code"], claims["accepted"], len(claims["files"])) == ("OK", True, 1)
    assert not [name for name in claims if name.startswith("KERNAL") or name == "offline_until"]


def test_a_link_names_no_card(service: Service, card_id: str) -> None:
    url = links(service, card_id)[NAME]
    claims = jwt.decode(url.partition("token=")[2], options={"verify_signature": False})
    assert claims["sub"] == Client.get().id
    assert claims["exp"] - claims["iat"] == 600
    assert card_id not in json.dumps(claims)
    assert card_id not in url


def test_a_card_without_files_is_told_so(service: Service, database: Database) -> None:
    (issued,) = service.issue()
    assert ask(service, issued).claims["files"] == []


def test_a_refused_card_gets_no_links(service: Service, card_id: str) -> None:
    service.cardctl("card", "freeze", card_id)
    answer = ask(service, card_id)
    assert (answer.status, answer.claims["code"]) == (403, "CARD_FROZEN")
    assert "files" not in answer.claims
    assert "files" not in ask(service, "0" * 32).claims


def test_requests_form_is_checked_first(service: Service) -> None:
    headers = {"Content-Type": "application/json"}
    assert service.request("POST", "/v1/files", b"{}", headers).body["code"] == "INVALID_REQUEST"
    assert service.request("POST", "/v1/files", b"{}").body["code"] == "UNSUPPORTED_MEDIA_TYPE"
    assert service.request("GET", "/v1/files").status == 405
    assert service.request("POST", "/v1/files/x", b"{}", headers).status == 405
    assert service.request("GET", "/v1/files/").status == 403


def test_usage_counts_the_request_and_the_journal_who_fetched_what(service: Service, card_id: str) -> None:
    answer = ask(service, card_id)
    url = answer.claims["files"][0]["url"]
    for _ in range(2):
        assert fetch(service, url).status == 200
        assert fetch(service, url, Range="bytes=5-").status == 206
    assert fetch(service, links(service, card_id)[NAME]).status == 200
    (event,) = Event.select().where(Event.kind == "file_downloaded")
    assert event.details == {"name": NAME, "sha256": sha256(CONTENT), "size": len(CONTENT)}
    assert (event.card_id, event.ip, event.reference) == (card_id, "127.0.0.1", answer.claims["jti"][-8:])
    assert {(row.function, row.count) for row in Usage.select()} == {(DOWNLOAD, 3)}
    shown = service.cardctl("events", "--kind", "file_downloaded", "--card", card_id).stdout
    assert NAME in shown


def test_each_version_of_a_file_is_journalled(service: Service, card_id: str) -> None:
    assert fetch(service, links(service, card_id)[NAME]).status == 200
    put(service, NAME, b"version 2")
    put(service, "the same under another name", b"version 2")
    for url in links(service, card_id).values():
        assert fetch(service, url).content == b"version 2"
    assert Event.select().where(Event.kind == "file_downloaded").count() == 3


def test_downloads_at_once_are_journalled_once(proxied: Service, database: Database) -> None:
    url = proxied_link(proxied)
    with ThreadPoolExecutor(8) as pool:
        fetched = list(pool.map(lambda _: fetch(proxied, url, X_Real_IP="198.51.100.8"), range(24)))
    assert {answer.status for answer in fetched} == {200}
    assert Event.select().where(Event.kind == "file_downloaded").count() == 1


def test_a_file_for_a_batch_goes_to_that_batch_alone(service: Service, database: Database) -> None:
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


def test_parts_are_sent_and_put_together(service: Service, card_id: str) -> None:
    url, etag = links(service, card_id)[NAME], f'"{sha256(CONTENT)}"'
    size = len(CONTENT)
    first, rest = fetch(service, url, Range="bytes=0-999"), fetch(service, url, Range="bytes=1000-", If_Range=etag)
    assert (first.status, rest.status) == (206, 206)
    assert (first.headers["content-range"], first.headers["content-length"]) == (f"bytes 0-999/{size}", "1000")
    assert rest.headers["content-range"] == f"bytes 1000-{size - 1}/{size}"
    assert first.content + rest.content == CONTENT
    assert fetch(service, url, Range="bytes=-7").content == CONTENT[-7:]


def test_what_else_a_request_may_ask_for(service: Service, card_id: str) -> None:
    url, etag = links(service, card_id)[NAME], f'"{sha256(CONTENT)}"'
    for headers in ({"Range": "bytes=5-", "If_Range": '"other"'}, {"Range": "bytes=0-1,4-5"}, {"Range": "bytes=x"}):
        whole = fetch(service, url, **headers)
        assert (whole.status, whole.content) == (200, CONTENT)
        assert "content-range" not in whole.headers
    beyond = fetch(service, url, Range=f"bytes={len(CONTENT)}-")
    is_problem(beyond, 416, "INVALID_REQUEST")
    assert beyond.headers["content-range"] == f"bytes */{len(CONTENT)}"
    known = fetch(service, url, If_None_Match=etag)
    assert (known.status, known.content, known.headers["etag"]) == (304, b"", etag)


def test_head_says_what_get_would_and_is_no_download(service: Service, card_id: str) -> None:
    url = links(service, card_id)[NAME]
    head = fetch(service, url, method="HEAD")
    assert (head.status, head.content, head.headers["content-length"]) == (200, b"", str(len(CONTENT)))
    assert head.headers["etag"] == f'"{sha256(CONTENT)}"'
    assert not Event.select().where(Event.kind == "file_downloaded").exists()
    assert fetch(service, url.replace("token=", "token=x"), method="HEAD").status == 403


def test_an_empty_file_is_sent(service: Service, database: Database) -> None:
    put(service, "empty", b"")
    (issued,) = service.issue()
    fetched = fetch(service, links(service, issued)["empty"])
    assert (fetched.status, fetched.content, fetched.headers["content-length"]) == (200, b"", "0")


def test_an_expired_link_is_refused_and_a_new_one_works(service: Service, card_id: str) -> None:
    now = datetime.now(UTC)
    is_problem(fetch(service, signed(service, link_of(service), now - timedelta(seconds=601))), 403, "LINK_REFUSED")
    assert fetch(service, signed(service, link_of(service), now - timedelta(seconds=540))).status == 200


def test_a_link_opens_no_other_file(service: Service, card_id: str) -> None:
    put(service, "other.bin", b"other")
    offered = links(service, card_id)
    token = offered[NAME].partition("?")[2]
    is_problem(fetch(service, f"/v1/files/other.bin?{token}"), 403, "LINK_REFUSED")
    is_problem(fetch(service, f"/v1/files/{sha256(CONTENT)}?{token}"), 403, "LINK_REFUSED")


def test_no_other_token_is_a_link(service: Service, card_id: str) -> None:
    verdict = ask(service, card_id).body["token"]
    good = links(service, card_id)[NAME].partition("token=")[2]
    place = f"/v1/files/{quote(NAME)}"
    for query in ("", "?token=", "?token=x", f"?token={verdict}", f"?Token={good}", f"?token={good}&token={good}"):
        is_problem(fetch(service, place + query), 403, "LINK_REFUSED")
    assert fetch(service, f"{place}?other=1&token={good}").status == 200


def test_a_frozen_card_gets_no_new_link_and_an_unbound_ones_link_is_void(service: Service, card_id: str) -> None:
    url = links(service, card_id)[NAME]
    service.cardctl("card", "freeze", card_id)
    assert ask(service, card_id).claims["code"] == "CARD_FROZEN"
    assert fetch(service, url).status == 200  # for its ten minutes
    service.cardctl("card", "unbind", card_id)
    is_problem(fetch(service, url), 403, "LINK_REFUSED")
    assert fetch(service, url, method="HEAD").status == 403


def test_a_link_of_a_replaced_or_removed_file_finds_nothing(service: Service, card_id: str) -> None:
    url = links(service, card_id)[NAME]
    put(service, NAME, b"version 2")
    is_problem(fetch(service, url), 404, "NOT_FOUND")
    url = links(service, card_id)[NAME]
    service.cardctl("file", "remove", NAME)
    is_problem(fetch(service, url), 404, "NOT_FOUND")
    assert links(service, card_id) == {}


def test_a_file_whose_bytes_are_missing_is_not_offered(service: Service, card_id: str) -> None:
    url = links(service, card_id)[NAME]
    (Path(service.environment["KADUN_FILES_DIR"]) / sha256(CONTENT)).unlink()
    assert links(service, card_id) == {}
    is_problem(fetch(service, url), 404, "NOT_FOUND")


def test_what_cannot_be_opened_is_gone(service: Service, card_id: str) -> None:
    odd = Path(service.environment["KADUN_FILES_DIR"]) / (
        "0" * 64
    )  # as if the file went between a look and the opening
    odd.mkdir()
    link = link_of(service, sha256=odd.name, size=odd.stat().st_size)
    try:
        for method in ("GET", "HEAD"):
            assert fetch(service, signed(service, link), method=method).status == 404
    finally:
        odd.rmdir()
    assert not Event.select().where(Event.kind == "file_downloaded").exists()


def test_an_answer_without_bytes_is_no_download(service: Service, card_id: str) -> None:
    url = links(service, card_id)[NAME]
    assert fetch(service, url, If_None_Match=f'"{sha256(CONTENT)}"').status == 304
    beyond = fetch(service, url, Range=f"bytes={len(CONTENT)}-")
    assert beyond.status == 416
    assert not {"etag", "content-disposition", "accept-ranges"} & set(beyond.headers)
    assert not Event.select().where(Event.kind == "file_downloaded").exists()


def test_readers_who_take_nothing_leave_threads_for_verification(database_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, database_url, KADUN_WORKERS="1", KADUN_THREADS="8") as own:
        put(own, "large", bytes(32 * 1024 * 1024))  # more than sockets hold
        (issued,) = own.issue()
        url = links(own, issued)["large"]
        with contextlib.ExitStack() as readers:
            heads = []
            for _ in range(24):
                reader = readers.enter_context(socket.create_connection(("127.0.0.1", own.port), 20))
                reader.sendall(f"GET {url} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                heads.append(reader.recv(1000).decode("latin-1"))
            assert [head.split()[1] for head in heads] == ["200"] * 2 + ["503"] * 22
            assert "retry-after" in heads[-1].lower()
            assert not {"etag", "content-disposition"} & {line.split(":")[0].lower() for line in heads[-1].splitlines()}
            assert own.verify(question(issued)).status == 200
            assert fetch(own, url, method="HEAD").status == 200
        wait_for(lambda: fetch(own, url).status == 200)  # their places are given back


@pytest.mark.parametrize("change", ["replace", "remove"])
def test_a_download_under_way_ends_whole_whatever_becomes_of_the_file(
    service: Service, database: Database, change: str
) -> None:
    content = secrets.token_bytes(1024 * 1024) * 32  # more than sockets hold
    put(service, "large", content)
    (issued,) = service.issue()
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=40)
    connection.request("GET", links(service, issued)["large"])
    answer = connection.getresponse()
    beginning = answer.read(1000)
    if change == "replace":
        put(service, "large", b"version 2")
    else:
        service.cardctl("file", "remove", "large")
    assert sha256(content) not in blobs(service)
    assert beginning + answer.read() == content
    connection.close()


def test_as_many_files_as_there_may_be_fit_into_an_answer_that_clients_read(
    service: Service, card_id: str, database: Database
) -> None:
    File.delete().execute()
    longest = "𠀀" * 95  # four bytes each, twelve in an address
    File.insert_many(
        [
            {
                "name": f"{longest}{number:05}",
                "size": len(CONTENT),
                "sha256": sha256(CONTENT),
                "added_at": datetime.now(UTC),
            }
            for number in range(MAX_FILES)
        ]
    ).execute()
    answer = ask(service, card_id)
    offered = answer.claims["files"]
    assert len(offered) == MAX_FILES
    assert int(answer.headers["content-length"]) < SDK_READS_BYTES
    assert len(offered[0]["url"]) <= 4096
    assert fetch(service, offered[0]["url"]).content == CONTENT
    refused = service.cardctl("file", "add", "-", "--name", "one more", check=False, text="x")
    assert (refused.returncode, f"there may be {MAX_FILES} files" in refused.stderr) == (1, True)
    assert service.cardctl("file", "add", "-", "--name", f"{longest}00000", text="x").returncode == 0


def test_without_a_database_there_are_neither_links_nor_bytes(tmp_path: Path, card_id: str, service: Service) -> None:
    link = link_of(service)
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / sha256(CONTENT)).write_bytes(CONTENT)
    with Service(with_keys(tmp_path), "postgresql://nobody@127.0.0.1:9/none") as alone:
        for answer in (fetch(alone, signed(alone, link)), ask(alone, card_id)):
            assert answer.status == 503
            assert answer.headers["retry-after"]
        assert fetch(alone, signed(alone, link).replace("token=", "token=x")).status == 403


def test_behind_a_proxy_the_app_names_the_bytes_and_sends_none(proxied: Service, database: Database) -> None:
    url = proxied_link(proxied)
    known = fetch(proxied, url, X_Real_IP="198.51.100.9", If_None_Match=f'"{sha256(CONTENT)}"')
    assert (known.status, "x-accel-redirect" in known.headers) == (304, False)
    fetched = fetch(proxied, url, X_Real_IP="198.51.100.8", Range="bytes=5-")
    assert (fetched.status, fetched.content) == (200, b"")
    assert fetched.headers["x-accel-redirect"] == f"/_kadun_files/{sha256(CONTENT)}"
    assert fetched.headers["etag"] == f'"{sha256(CONTENT)}"'
    assert fetched.headers["x-content-type-options"] == "nosniff"
    assert Event.get(Event.kind == "file_downloaded").ip == "198.51.100.8"
    assert fetch(proxied, url).status == 503  # no address: the installation is at fault
    refused = fetch(proxied, url.replace("token=", "token=x"), X_Real_IP="198.51.100.8")
    is_problem(refused, 403, "LINK_REFUSED")
    assert "x-accel-redirect" not in refused.headers


def test_a_large_file_passes_through_no_memory(service: Service, database: Database) -> None:
    size = 256 * 1024 * 1024
    with (service.folder / "large").open("wb") as file:
        file.truncate(size)
    service.cardctl("file", "add", str(service.folder / "large"))
    (issued,) = service.issue()
    url = links(service, issued)["large"]
    before = peaks(service)
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=40)
    with contextlib.closing(connection):
        connection.request("GET", url)
        answer = connection.getresponse()
        received = sum(map(len, iter(lambda: answer.read(1024 * 1024), b"")))
    service.cardctl("file", "remove", "large")
    assert received == size
    after = peaks(service)
    assert after.keys() == before.keys()
    assert max(after[pid] - before[pid] for pid in after) < 16 * 1024


def peaks(service: Service) -> dict[str, int]:
    """The most memory that each worker ever had, in KiB."""
    assert service.process
    master = service.process.pid
    workers = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    status = {pid: Path(f"/proc/{pid}/status").read_text() for pid in workers}
    return {pid: int(text.partition("VmHWM:")[2].split()[0]) for pid, text in status.items()}


def test_no_token_reaches_the_log(service: Service, card_id: str) -> None:
    url = links(service, card_id)[NAME]
    token = url.partition("token=")[2]
    for path in (url, url.replace("/v1/files/", "/v1/files/x"), f"/nowhere?token={token}", f"/metrics?token={token}"):
        fetch(service, path)
        fetch(service, path, Range="bytes=1-2")
    for raw in (
        f"GET {url} HTTP/9.9\r\n\r\n",
        f"GET\t{url} HTTP/1.1\r\n\r\n",
        f"GET {url}{'x' * 9000} HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", service.port), 20) as connection:
            connection.sendall(raw.encode())
            connection.recv(4096)
    assert token not in service.log.read_text()


SECRETS = (b"CANARY in the folder", b"CANARY beside it", b"the other file's")
PIECES = st.one_of(
    st.sampled_from(
        [
            "..", ".", "/", "//", "\\", "%2e%2e", "%2E", "%2f", "%5c", "%252e%252e", "%252f", "%00", "%0a", "%", "%zz",
            "%c0%af", "%ff", "．．", "／", "∕", "․", "canary.txt", "files", "files.txt", "etc/passwd", "keyring.json",
            "..%2fkeys%2fkeyring.json", NAME, quote(NAME), "other.bin", sha256(CONTENT), ";", "?", "#",
            sha256(SECRETS[2]),
        ]
    ),
    st.text(max_size=5),
)  # fmt: skip


@pytest.fixture
def traps(service: Service, card_id: str) -> dict[str, str]:
    """Secrets round about the file, and tokens of every kind by name."""
    folder = Path(service.environment["KADUN_FILES_DIR"])
    (folder / "canary.txt").write_bytes(SECRETS[0])
    (folder.parent / "files.txt").write_bytes(SECRETS[1])
    put(service, "other.bin", SECRETS[2])
    offered = {name: url.partition("token=")[2] for name, url in links(service, card_id).items()}
    link, late = link_of(service), datetime.now(UTC) - timedelta(hours=1)
    odd = [link_of(service, name=name) for name in ("../files.txt", "canary.txt", "/etc/passwd", "..")]
    return {
        "good": offered[NAME],
        "verdict": ask(service, card_id).body["token"],
        "expired": signed(service, link, late).partition("token=")[2],
        "forged": offered[NAME][:-20] + "A" * 20,
        "cut": offered[NAME][:-20],
        "none": "",
        **{f"odd name {number}": signed(service, one).partition("token=")[2] for number, one in enumerate(odd)},
    }


@settings(max_examples=400)
@example(pieces=[NAME], kind="good")
@given(
    pieces=st.lists(PIECES, max_size=8), kind=st.sampled_from(["good", "verdict", "expired", "forged", "cut", "none"])
)
def test_whatever_is_asked_for_nothing_but_the_links_own_file_is_served(
    service: Service, traps: dict[str, str], pieces: list[str], kind: str
) -> None:
    path = quote("/v1/files/" + "".join(pieces), safe="/%\\;?#")
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=40)
    with contextlib.closing(connection):
        connection.request("GET", f"{path}?token={traps[kind]}")
        answer = connection.getresponse()
        content = answer.read()
    if answer.status == 200:
        assert (kind, unquote(path), content) == ("good", f"/v1/files/{NAME}", CONTENT)
    assert answer.status in (200, 403, 404)
    assert not [secret for secret in (*SECRETS, b"AGE-SECRET", b"root:") if secret in content]


def test_a_signed_link_with_an_odd_name_leads_to_its_bytes_and_nowhere_else(
    service: Service, traps: dict[str, str]
) -> None:
    """Not that there could be one: the bytes come from the digest, never from the name."""
    for number, name in enumerate(("../files.txt", "canary.txt", "/etc/passwd", "..")):
        for spelled in (quote(name, safe=""), quote(name), quote(quote(name, safe=""))):
            fetched = fetch(service, f"/v1/files/{spelled}?token={traps[f'odd name {number}']}")
            assert fetched.status in (200, 403, 404)
            assert fetched.status != 200 or fetched.content == CONTENT


def test_the_look_up_of_a_days_downloads_uses_its_index(service: Service, card_id: str, database: Database) -> None:
    Event.insert_many(
        [
            {
                "at": datetime.now(UTC),
                "kind": "file_downloaded",
                "card_id": card_id,
                "details": {"name": "x", "sha256": f"{n}"},
            }
            for n in range(2000)
        ]
    ).execute()
    database.execute_sql("ANALYZE event")
    assert fetch(service, links(service, card_id)[NAME]).status == 200
    since = datetime.now(UTC) - timedelta(days=1)
    entry = Entry(at=since, kind=EventKind.FILE_DOWNLOADED, card_id=card_id, details={"name": "x", "sha256": "7"})
    query, parameters = noted_downloads(entry, since).sql()
    assert "event_downloads" in str(database.execute_sql(f"EXPLAIN {query}", parameters).fetchall())
