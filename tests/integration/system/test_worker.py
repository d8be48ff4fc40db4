"""The end of a worker: prompt, and without cutting off a request."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from app.storage.database import Database
from tests.integration.conftest import with_keys
from tests.support.downloads import links, put
from tests.support.services.processes import children_of, is_alive
from tests.support.services.raw_http import GET, Connections, RawConnection, verification
from tests.support.services.service import Service, wait_for, wait_for_lock
from tests.support.services.socket_service import SocketService

SOON = 15
"""Seconds: half of gunicorn's `graceful_timeout`."""


@pytest.fixture
def alone(database: Database, database_url: str, tmp_path: Path) -> Iterator[Service]:
    """A service with one worker."""
    with Service(with_keys(tmp_path), database_url, KADUN_WORKERS="1", KADUN_THREADS="2") as running:
        yield running


def workers_of(service: Service) -> list[int]:
    assert service.process is not None
    return children_of(service.process.pid)


def end(service: Service, number: int = signal.SIGTERM) -> None:
    """Tell the service to end, and require that it does soon."""
    assert service.process is not None
    service.process.send_signal(number)
    assert service.process.wait(SOON) == 0


@pytest.mark.parametrize("kind", ["TCP", "Unix socket"])
def test_idle_connections_are_closed_at_once(
    database: Database, database_url: str, tmp_path: Path, connect: Connections, kind: str
) -> None:
    folder = with_keys(tmp_path)
    with Service(folder, database_url) if kind == "TCP" else SocketService(folder, database_url) as service:
        kept = connect.kept(service, 50)
        unused = [connect(service) for _ in range(5)]
        started = [connect(service).send(GET[:9]) for _ in range(5)]
        assert connect(service).send(GET).answer().status == 200  # by now the others are accepted
        end(service)
        assert all(connection.is_closed() for connection in kept + unused + started)
        assert "Traceback" not in service.log.read_text()


def refuses(service: Service) -> bool:
    try:
        with RawConnection(service.port):
            return False
    except ConnectionRefusedError:
        return True


@contextlib.contextmanager
def under_way(connection: RawConnection, service: Service, database: Database) -> Iterator[None]:
    """Have the service work at a request of the connection while the block lasts."""
    (card_id,) = service.issue()
    with database.atomic():
        database.execute_sql("SELECT FROM card FOR UPDATE")
        connection.send(verification(card_id))
        wait_for_lock(database)
        yield


def test_a_request_in_progress_is_finished_and_its_connection_closed(
    connect: Connections, alone: Service, database: Database
) -> None:
    connection = connect(alone)
    (idle,) = connect.kept(alone, 1)
    with ThreadPoolExecutor(1) as pool:
        with under_way(connection, alone, database):
            ending = pool.submit(end, alone)
            assert idle.is_closed()
            wait_for(lambda: refuses(alone), SOON)
        assert connection.answer().status == 200
        assert connection.is_closed()
        ending.result()


def test_a_download_in_progress_is_finished(connect: Connections, alone: Service) -> None:
    content = bytes(range(256)) * 65_536  # more than the buffers of both ends hold
    put(alone, "update.bin", content)
    (card_id,) = alone.issue()
    (link,) = links(alone, card_id).values()
    connection = connect(alone).send(f"GET {link} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    (idle,) = connect.kept(alone, 1)
    with ThreadPoolExecutor(1) as pool:
        begun = connection.socket.recv(1_000)
        ending = pool.submit(end, alone)
        assert idle.is_closed()
        received = [begun, *iter(lambda: connection.socket.recv(1_000_000), b"")]
        assert b"".join(received).partition(b"\r\n\r\n")[2] == content
        ending.result()


def while_stopped(service: Service) -> int:
    """Stop the only worker, so that what comes meanwhile comes at once."""
    (worker,) = workers_of(service)
    os.kill(worker, signal.SIGSTOP)
    wait_for(lambda: ") T " in Path(f"/proc/{worker}/stat").read_text())
    return worker


def test_what_arrives_at_the_last_moment_is_answered_and_does_not_hold_up_the_end(
    connect: Connections, alone: Service
) -> None:
    (card_id,) = alone.issue()
    kept = connect.kept(alone, 10)
    worker = while_stopped(alone)
    for connection in kept:
        connection.send(verification(card_id))
    for _ in range(20):
        connect(alone)
    asking = [connect(alone).send(GET) for _ in range(20)]
    os.kill(worker, signal.SIGTERM)
    os.kill(worker, signal.SIGCONT)
    answers = [connection.answer() for connection in kept]
    assert {(answer.status, answer.headers["connection"]) for answer in answers} == {(200, "close")}
    wait_for(lambda: not is_alive(worker), SOON)
    assert {connection.answer().status for connection in asking} == {200}


def test_a_new_connection_has_a_moment_for_its_first_request(connect: Connections, alone: Service) -> None:
    new = [connect(alone) for _ in range(5)]
    assert connect(alone).send(GET).answer().status == 200  # by now the others are accepted
    (worker,) = workers_of(alone)
    os.kill(worker, signal.SIGTERM)
    asked = [connection.send(GET) for connection in new]
    answers = [connection.answer() for connection in asked]
    assert {(answer.status, answer.headers["connection"]) for answer in answers} == {(200, "close")}
    wait_for(lambda: not is_alive(worker), SOON)


def test_connections_that_come_while_workers_are_replaced_are_answered(alone: Service) -> None:
    ended = threading.Event()

    def ask() -> set[int]:
        statuses = set()
        while not ended.is_set():
            with RawConnection(alone.port) as connection:
                statuses.add(connection.send(GET).answer().status)
        return statuses

    def is_ended(worker: int) -> bool:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGTERM)  # again and again: one that has just been forked has no handler yet
        return not is_alive(worker)

    with ThreadPoolExecutor(4) as pool:
        try:
            asking = [pool.submit(ask) for _ in range(4)]
            for _ in range(10):
                (worker,) = wait_for(lambda: [*filter(is_alive, workers_of(alone))])
                wait_for(partial(is_ended, worker), SOON)
        finally:
            ended.set()
        assert {status for statuses in asking for status in statuses.result()} == {200}


def test_a_client_that_resets_its_connection_does_not_disturb_the_end(
    connect: Connections, alone: Service, database: Database
) -> None:
    kept = connect.kept(alone, 10)
    busy = connect(alone)
    with ThreadPoolExecutor(1) as pool:
        with under_way(busy, alone, database):
            worker = while_stopped(alone)
            for connection in kept:
                connection.reset()
            ending = pool.submit(end, alone)
            wait_for(lambda: signal.SIGTERM in pending_signals(worker))
            os.kill(worker, signal.SIGCONT)
            wait_for(lambda: signal.SIGTERM not in pending_signals(worker))
        assert busy.answer().status == 200
        ending.result()


def pending_signals(pid: int) -> set[int]:
    """The signals that a process has not yet received."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return {number for number in range(1, 32) for mask in masks if mask >> (number - 1) & 1}


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_a_quick_end_does_not_wait_for_requests(
    connect: Connections, alone: Service, database: Database, number: int
) -> None:
    connection = connect(alone)
    (idle,) = connect.kept(alone, 1)
    with under_way(connection, alone, database):
        end(alone, number)
        assert connection.is_closed()
        assert idle.is_closed()


def test_a_worker_that_stands_still_is_replaced(database: Database, database_url: str, tmp_path: Path) -> None:
    settings = {"KADUN_WORKERS": "1", "GUNICORN_CMD_ARGS": "--timeout=5"}
    with Service(with_keys(tmp_path), database_url, **settings) as service:
        worker = while_stopped(service)
        wait_for(lambda: workers_of(service) not in ([worker], []))
        assert not is_alive(worker)
        assert service.get("/healthz").status == 200
