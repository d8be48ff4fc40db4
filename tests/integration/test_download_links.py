"""Links of licensed files: what one opens, when it is refused, and that it leads to nothing else."""

import contextlib
import http.client
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.storage.models import Card, Client, Usage
from app.tokens.key_folder import KeyFolder
from app.tokens.links import Link, Links
from app.tokens.signer import Signer
from tests.integration.conftest import with_keys
from tests.support.downloads import CONTENT, NAME, ask, fetch, is_problem, links, put, sha256
from tests.support.service import Service


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
    now = datetime.now(UTC)
    is_problem(fetch(service, signed(service, link_of(service), now - timedelta(seconds=601))), 403, "LINK_REFUSED")
    assert fetch(service, signed(service, link_of(service), now - timedelta(seconds=540))).status == 200
    put(service, "other.bin", b"other")
    verdict = ask(service, card_with_file).body["token"]
    good = links(service, card_with_file)[NAME].partition("token=")[2]
    for name in ("other.bin", sha256(CONTENT)):
        is_problem(fetch(service, f"/v1/files/{name}?token={good}"), 403, "LINK_REFUSED")
    place = f"/v1/files/{quote(NAME)}"
    for query in ("", "?token=", "?token=x", f"?token={verdict}", f"?Token={good}", f"?token={good}&token={good}"):
        is_problem(fetch(service, place + query), 403, "LINK_REFUSED")
    assert fetch(service, f"{place}?other=1&token={good}").status == 200


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


def test_no_link_reaches_the_log(service: Service, card_with_file: str) -> None:
    url = links(service, card_with_file)[NAME]
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
def traps(service: Service, card_with_file: str) -> dict[str, str]:
    """Put secrets around the file, and return tokens of every kind by name."""
    folder = Path(service.environment["KADUN_FILES_DIR"])
    (folder / "canary.txt").write_bytes(SECRETS[0])
    (folder.parent / "files.txt").write_bytes(SECRETS[1])
    put(service, "other.bin", SECRETS[2])
    offered = {name: url.partition("token=")[2] for name, url in links(service, card_with_file).items()}
    late = datetime.now(UTC) - timedelta(hours=1)
    return {
        "good": offered[NAME],
        "verdict": ask(service, card_with_file).body["token"],
        "expired": signed(service, link_of(service), late).partition("token=")[2],
        "forged": offered[NAME][:-20] + "A" * 20,
        "cut": offered[NAME][:-20],
        "none": "",
    }


@example(pieces=[NAME], kind="good")
@given(
    pieces=st.lists(PIECES, max_size=8), kind=st.sampled_from(["good", "verdict", "expired", "forged", "cut", "none"])
)
def test_no_path_and_token_serve_anything_but_the_links_own_file(
    service: Service, traps: dict[str, str], pieces: list[str], kind: str
) -> None:
    path = quote("/v1/files/" + "".join(pieces), safe="/%\\;?#")
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", f"{path}?token={traps[kind]}")
        answer = connection.getresponse()
        content = answer.read()
    if answer.status == 200:
        assert (kind, unquote(path), content) == ("good", f"/v1/files/{NAME}", CONTENT)
    assert answer.status in (200, 403, 404)
    assert not [secret for secret in (*SECRETS, b"AGE-SECRET", b"root:") if secret in content]
