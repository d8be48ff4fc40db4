"""The worker's HTTP: each answer in one piece, connections that stay in step, bodies that come slowly or not at all."""
# Owns http-worker.

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product

import pytest

from app.storage.database import Database
from app.storage.models import Usage
from tests.conftest import Remembered
from tests.integration.conftest import with_keys
from tests.support.console.console import Browser, add_operator
from tests.support.downloads import links
from tests.support.services.raw_http import GET, Connections, RawConnection, posting, verification
from tests.support.services.service import Service, question, wait_for
from tests.support.services.slow_requests import hold_up
from tests.support.shop import CARDS, Shop
from tests.support.tables import for_each

JSON_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@pytest.fixture
def connection(connect: Connections, service: Service) -> RawConnection:
    return connect(service)


@pytest.fixture(scope="module")
def _with_one_thread(emptied: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = with_keys(tmp_path_factory.mktemp("one-thread"))
    with Service(folder, emptied(), KADUN_WORKERS="1", KADUN_THREADS="1") as running:
        yield running


@pytest.fixture
def with_one_thread(_with_one_thread: Service, database: Database, remembered: Remembered) -> Service:
    """A service with one worker and one native thread: what holds it for good holds up everything."""
    remembered.wait_until_forgotten()
    return _with_one_thread


def get(path: str, method: str = "GET", *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def test_head_and_body_arrive_together(connection: RawConnection, service: Service) -> None:
    (card_id,) = service.issue()
    for request in [verification(card_id), GET, get("/readyz"), get("/nothing"), verification("0" * 32)] * 5:
        received = connection.send(request).socket.recv(100_000)
        head, _, body = received.partition(b"\r\n\r\n")
        length = JSON_LENGTH.search(head)
        assert length is not None
        assert len(body) == int(length[1]) > 0, "what is sent in one call arrives as one"


def test_answers_without_a_body_leave_the_connection_in_step(
    connection: RawConnection, service: Service, card_with_file: str
) -> None:
    (link,) = links(service, card_with_file).values()
    etag = connection.send(get(link)).answer().headers["etag"]
    for request, status in (
        (get("/healthz", "HEAD"), b"200"),
        (get("/readyz", "HEAD"), b"200"),
        (get("/v1/verify", "HEAD"), b"405"),
        (get(link, "HEAD"), b"200"),
        (get(link, "GET", f"If-None-Match: {etag}"), b"304"),
    ):
        head, _, body = connection.send(request).socket.recv(100_000).partition(b"\r\n\r\n")
        assert (head.split()[1], body) == (status, b"")
        assert connection.send(GET).answer().json() == {"status": "ok"}


@for_each("path", ["/v1/verify", CARDS])  # on the hub, and in a thread
def test_a_body_that_is_too_large_is_refused_and_the_connection_stays_in_step(
    connection: RawConnection, service: Service, database: Database, path: str
) -> None:
    token = f"Authorization: Bearer {Shop(service, database).token}"
    large = b" " * 70_000
    for _ in range(3):
        assert connection.send(posting(path, large, token)).answer().json()["code"] == "BODY_TOO_LARGE"
        chunk = b"%x\r\n" % len(large) + large + b"\r\n0\r\n\r\n"
        chunked = posting(path, chunk, token, "Transfer-Encoding: chunked")
        assert connection.send(chunked).answer().json()["code"] == "BODY_TOO_LARGE"
        assert connection.send(GET).answer().json() == {"status": "ok"}


def test_chunked_bodies_are_read_however_they_are_cut(
    connection: RawConnection, service: Service, database: Database
) -> None:
    (card_id,) = service.issue()
    headers = (f"Authorization: Bearer {Shop(service, database).token}", "Idempotency-Key: k")
    for path, document in (("/v1/verify", question(card_id)), (CARDS, {"validity": "1d", "count": 1})):
        body = json.dumps(document).encode()
        for size in (1, 7, len(body)):
            chunks = [body[at : at + size] for at in range(0, len(body), size)]
            coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
            connection.send(posting(path, coded + b"0\r\n\r\n", *headers, "Transfer-Encoding: chunked"))
            assert connection.answer().status in {200, 201}
    assert Usage.get().count == 3


@for_each("path", ["/v1/verify", CARDS])  # on the hub, and in a thread
def test_a_client_that_expects_100_continue_gets_it(
    connection: RawConnection, service: Service, database: Database, path: str
) -> None:
    shop = Shop(service, database)
    (card_id,) = service.issue()
    body = json.dumps(question(card_id) if path == "/v1/verify" else {"validity": "1d"}).encode()
    more = ("Expect: 100-continue", f"Authorization: Bearer {shop.token}", "Idempotency-Key: k")
    connection.send(posting(path, b"", *more, f"Content-Length: {len(body)}"))
    assert connection.socket.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert connection.send(body).answer().status in {200, 201}


@for_each("path, leave", product(["/admin/login", CARDS], ["close", "reset"]))
def test_clients_that_leave_in_the_middle_of_a_body_give_their_thread_back(
    connect: Connections, with_one_thread: Service, database: Database, path: str, leave: str
) -> None:
    service = with_one_thread
    (card_id,) = service.issue()
    headers = [f"Authorization: Bearer {Shop(service, database).token}", "Idempotency-Key: k", "Content-Length: 9000"]
    head = posting(path, b"name=", *headers)
    if path == "/admin/login":
        head = head.replace(b"application/json", b"application/x-www-form-urlencoded")
    begun = len(service.log.read_bytes())
    for _ in range(3):
        leaving = connect(service).send(head)
        wait_for(lambda: connect(service).send(GET).answer().status == 200)
        getattr(leaving, leave)()
    activated = service.verify(question(card_id, f"machine of {card_id}"))
    assert activated.status == 200, "an activation takes the thread"
    assert "Traceback" not in service.log.read_bytes()[begun:].decode()


def test_pages_beyond_those_under_way_are_refused_whatever_their_session_and_customers_are_served(
    one_worker: Service,
) -> None:
    (card_id,) = one_worker.issue()
    add_operator("olga")
    olga, elsewhere = (Browser(one_worker, language="en", address="192.0.2.9").walk_in("olga") for _ in range(2))
    assert {olga.get("/admin/webhooks").status, elsewhere.get("/admin/webhooks").status} == {200}
    pages = [partial(session.get, "/admin/webhooks") for session in [olga, elsewhere] * 6]
    hold_up(one_worker, "LOCK TABLE webhook_outbox IN ACCESS EXCLUSIVE MODE", pages, card_id)
    assert olga.get("/admin/webhooks").status == 200
