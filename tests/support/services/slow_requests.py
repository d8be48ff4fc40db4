"""Requests that wait for a lock in the database, at a service of one process with four threads."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

import psycopg2

from tests.support.services.service import Response, Service, question, wait_for

ONE_WORKER = {"KADUN_BEHIND_PROXY": "true", "KADUN_WORKERS": "1", "KADUN_THREADS": "4"}
_MAX_UNDER_WAY = 8
_SECONDS = 4
"""How long requests may be held up: the database ends their wait after five seconds (`lock_timeout`)."""
_TRIES = 3


def hold_up(
    service: Service,
    lock: str,
    requests: Sequence[Callable[[], Response]],
    card_id: str,
    values: Sequence[str] = (),
) -> None:
    """Hold up requests while a customer is served.

    Those above the limit are refused at once, all others are answered when the lock goes. All is done again, twice at
    most, if a busy machine takes too long.

    Args:
        service: What serves them.
        lock: The SQL statement that takes the lock.
        requests: The requests to send at the same time; each may be sent again.
        card_id: The customer's card.
        values: The values of the statement's parameters.
    """
    held_up = any(_hold_up_once(service, lock, requests, card_id, values) for _ in range(_TRIES))
    assert held_up, f"not all was done within {_SECONDS} s, in {_TRIES} tries"


def _hold_up_once(
    service: Service, lock: str, requests: Sequence[Callable[[], Response]], card_id: str, values: Sequence[str]
) -> bool:
    """Return False if the machine took so long that the database may have ended the requests' wait."""
    database_url = service.environment["DATABASE_URL"]
    with closing(psycopg2.connect(database_url)) as other, ThreadPoolExecutor(len(requests)) as pool:
        with other.cursor() as cursor:
            cursor.execute(lock, values)
        end = time.monotonic() + _SECONDS
        answers = [pool.submit(request) for request in requests]
        try:
            wait_for(lambda: len(_done(answers)) == len(requests) - _MAX_UNDER_WAY or time.monotonic() > end)
            refused = _done(answers)
            if time.monotonic() > end:
                return False
            assert {answer.result().status for answer in refused} == {503}
            assert {"retry-after" in answer.result().headers for answer in refused} == {True}
            for number in range(5):
                asked = question(card_id, "a machine", function=f"function {number}")
                assert service.verify(asked, address="192.0.2.1").status == 200
            held_up = _done(answers) == refused
            if time.monotonic() > end:
                return False
            assert held_up
        finally:
            other.rollback()
        assert {answer.result().status for answer in answers if answer not in refused} == {200}
        return True


def _done(answers: list[Future[Response]]) -> list[Future[Response]]:
    return [answer for answer in answers if answer.done()]
