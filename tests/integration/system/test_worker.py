"""A worker's HTTP: answers in one piece, connections in step, slow bodies, and an end that cuts off no request."""
# Owns http-worker.

import contextlib
import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path

import pytest

from app.storage.database import Database
from app.storage.models import Usage
from tests.integration.conftest import with_keys
from tests.support.console.console import Browser, add_operator
from tests.support.downloads import links
from tests.support.services.processes import children_of, is_alive
from tests.support.services.raw_http import GET, Connections, RawConnection, hold_up, posting, verification
from tests.support.services.service import Service, question, wait_for, wait_for_lock
from tests.support.services.socket_service import SocketService
from tests.support.shop import CARDS, Shop
from tests.support.tables import for_each

SOON = 15
"""Seconds: half of gunicorn's `graceful_timeout`."""


@pytest.fixture
def connection(connect: Connections, service: Service) -> RawConnection:
    return connect(service)


@pytest.fixture
def alone(database: Database, database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service with one worker and one native thread: what holds it for good holds up everything."""
    with Service(with_keys(tmp_path), database_url, KADUN_WORKERS="1", KADUN_THREADS="1") as running:
        yield running


@pytest.fixture
def token(service: Service, database: Database) -> str:
    return f"Authorization: Bearer {Shop(service, database).token}"


def get(path: str, method: str = "GET", *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def test_head_and_body_arrive_together(connection: RawConnection, service: Service) -> None:
    (card_id,) = service.issue()
    for request in [verification(card_id), GET, get("/readyz"), get("/nothing"), verification("0" * 32)] * 5:
        received = connection.send(request).socket.recv(100_000)
        head, _, body = received.partition(b"\r\n\r\n")
        (length,) = re.findall(rb"content-length: (\d+)", head.lower())
        assert len(body) == int(length) > 0, "what is sent in one call arrives as one"


def test_answers_without_a_body_keep_step(connection: RawConnection, service: Service, card_with_file: str) -> None:
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


def test_a_body_that_is_too_large_leaves_the_connection_in_step(connection: RawConnection, token: str) -> None:
    large = b" " * 70_000
    chunk = b"%x\r\n" % len(large) + large + b"\r\n0\r\n\r\n"
    for path in ("/v1/verify", CARDS) * 3:  # on the hub, and in a thread
        for request in (posting(path, large, token), posting(path, chunk, token, "Transfer-Encoding: chunked")):
            assert connection.send(request).answer().json()["code"] == "BODY_TOO_LARGE", path
        assert connection.send(GET).answer().json() == {"status": "ok"}, path


def test_chunked_bodies_are_read_however_they_are_cut(connection: RawConnection, service: Service, token: str) -> None:
    (card_id,) = service.issue()
    headers = (token, "Idempotency-Key: k")
    for path, document in (("/v1/verify", question(card_id)), (CARDS, {"validity": "1d", "count": 1})):
        body = json.dumps(document).encode()
        for size in (1, 7, len(body)):
            chunks = [body[at : at + size] for at in range(0, len(body), size)]
            coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
            connection.send(posting(path, coded + b"0\r\n\r\n", *headers, "Transfer-Encoding: chunked"))
            assert connection.answer().status in {200, 201}
    assert Usage.get().count == 3


def test_a_client_that_expects_100_continue_gets_it(connect: Connections, service: Service, token: str) -> None:
    (card_id,) = service.issue()
    for path, document in (("/v1/verify", question(card_id)), (CARDS, {"validity": "1d"})):
        body = json.dumps(document).encode()
        more = ("Expect: 100-continue", token, "Idempotency-Key: k", f"Content-Length: {len(body)}")
        connection = connect(service).send(posting(path, b"", *more))
        assert connection.socket.recv(1_000) == b"HTTP/1.1 100 Continue\r\n\r\n", path
        assert connection.send(body).answer().status in {200, 201}, path


@for_each("path, leave", product(["/admin/login", CARDS], ["close", "reset"]))
def test_clients_that_leave_in_the_middle_of_a_body_give_their_thread_back(
    connect: Connections, alone: Service, database: Database, path: str, leave: str
) -> None:
    (card_id,) = alone.issue()
    headers = [f"Authorization: Bearer {Shop(alone, database).token}", "Idempotency-Key: k", "Content-Length: 9000"]
    head = posting(path, b"name=", *headers)
    if path == "/admin/login":
        head = head.replace(b"application/json", b"application/x-www-form-urlencoded")
    for _ in range(3):
        leaving = connect(alone).send(head)
        wait_for(lambda: connect(alone).send(GET).answer().status == 200)
        getattr(leaving, leave)()
    activated = alone.verify(question(card_id, f"machine of {card_id}"))
    assert activated.status == 200, "an activation takes the thread"
    assert "Traceback" not in alone.log.read_text()


def test_pages_beyond_those_under_way_are_refused_and_customers_are_served(one_worker: Service) -> None:
    (card_id,) = one_worker.issue()
    add_operator("olga")
    olga, elsewhere = (Browser(one_worker, language="en", address="192.0.2.9").walk_in("olga") for _ in range(2))
    assert {olga.get("/admin/webhooks").status, elsewhere.get("/admin/webhooks").status} == {200}
    pages = [partial(session.get, "/admin/webhooks") for session in [olga, elsewhere] * 6]
    hold_up(one_worker, "LOCK TABLE webhook_outbox IN ACCESS EXCLUSIVE MODE", pages, card_id)
    assert olga.get("/admin/webhooks").status == 200


def end(service: Service, number: int = signal.SIGTERM) -> None:
    """Tell the service to end, and require that it does soon."""
    assert service.process is not None
    service.process.send_signal(number)
    assert service.process.wait(SOON) == 0


@for_each("kind", [Service, SocketService])
def test_idle_connections_are_closed_at_once(
    database: Database, database_url: str, tmp_path: Path, connect: Connections, kind: type[Service]
) -> None:
    with kind(with_keys(tmp_path / kind.__name__), database_url) as service:
        idle = [*connect.kept(service, 50), *(connect(service) for _ in range(5))]
        idle += [connect(service).send(GET[:9]) for _ in range(5)]
        assert connect(service).send(GET).answer().status == 200  # by now the others are accepted
        end(service)
        assert all(connection.is_closed() for connection in idle)
        assert "Traceback" not in service.log.read_text()


@contextlib.contextmanager
def under_way(connection: RawConnection, service: Service, database: Database) -> Iterator[None]:
    """Have the service work at a request of the connection while the block lasts."""
    (card_id,) = service.issue()
    with database.atomic():
        database.execute_sql("SELECT FROM card FOR UPDATE")
        connection.send(verification(card_id))
        wait_for_lock(database)
        yield


def test_a_request_in_progress_is_finished(connect: Connections, alone: Service, database: Database) -> None:
    connection = connect(alone)
    (idle,) = connect.kept(alone, 1)
    with ThreadPoolExecutor(1) as pool:
        with under_way(connection, alone, database):
            ending = pool.submit(end, alone)
            assert idle.is_closed()
            with pytest.raises(ConnectionRefusedError):
                wait_for(lambda: connect(alone).close(), SOON)
        assert connection.answer().status == 200
        assert connection.is_closed()
        ending.result()


def test_what_arrives_at_the_last_moment_is_answered(connect: Connections, alone: Service) -> None:
    (card_id,) = alone.issue()
    kept, new = connect.kept(alone, 10), [connect(alone) for _ in range(5)]
    assert connect(alone).send(GET).answer().status == 200  # by now the others are accepted
    (worker,) = children_of(alone.process.pid)
    os.kill(worker, signal.SIGSTOP)  # so that what comes meanwhile comes at once
    wait_for(lambda: ") T " in Path(f"/proc/{worker}/stat").read_text())
    for connection in kept:
        connection.send(verification(card_id))
    for _ in range(20):
        connect(alone)
    asking = [connect(alone).send(GET) for _ in range(20)]
    os.kill(worker, signal.SIGTERM)
    os.kill(worker, signal.SIGCONT)
    for connection in new:  # which have a moment for their first request
        connection.send(GET)
    answers = [connection.answer() for connection in kept + new]
    assert {(answer.status, answer.headers["connection"]) for answer in answers} == {(200, "close")}
    wait_for(lambda: not is_alive(worker), SOON)
    assert {connection.answer().status for connection in asking} == {200}
