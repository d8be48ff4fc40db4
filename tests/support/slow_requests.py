"""Requests that wait for a lock in the database, at a service of one process with four threads."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg2

from tests.support.service import Response, wait_for

ONE_WORKER = {"KADUN_BEHIND_PROXY": "true", "KADUN_WORKERS": "1", "KADUN_THREADS": "4"}
_MAX_UNDER_WAY = 8


@contextmanager
def slow_requests(
    database_url: str, lock: str, requests: Sequence[Callable[[], Response]], values: Sequence[str] = ()
) -> Iterator[None]:
    """Hold up requests inside the block: those above the limit are refused at once, all others are answered after it.

    Args:
        database_url: The service's database.
        lock: The SQL statement that takes the lock.
        requests: The requests to send at the same time.
        values: The values of the statement's parameters.
    """
    with closing(psycopg2.connect(database_url)) as other, ThreadPoolExecutor(len(requests)) as pool:
        with other.cursor() as cursor:
            cursor.execute(lock, values)
        answers = [pool.submit(request) for request in requests]
        try:
            wait_for(lambda: len(_done(answers)) == len(requests) - _MAX_UNDER_WAY, 3)  # before lock_timeout
            refused = _done(answers)
            assert {answer.result().status for answer in refused} == {503}
            assert {"retry-after" in answer.result().headers for answer in refused} == {True}
            yield
            assert _done(answers) == refused
        finally:
            other.rollback()
        assert {answer.result().status for answer in answers if answer not in refused} == {200}


def _done(answers: list[Future[Response]]) -> list[Future[Response]]:
    return [answer for answer in answers if answer.done()]
