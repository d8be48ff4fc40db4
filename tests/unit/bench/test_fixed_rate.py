"""Verifications at a fixed rate: all that are due are sent, and their time counts from then."""

import re
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench import fixed_rate
from bench.cards import Computer
from bench.errors import BenchError
from bench.fixed_rate import Target

COMPUTERS = [Computer("1" * 32, "board=1"), Computer("2" * 32, "board=2")]
ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"


class Answers(socketserver.ThreadingTCPServer):
    """Answers one request after the other, each after `seconds`; closes the connection if the first `is_last`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: bytes, seconds: float, *, is_last: bool) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.answer = answer
        self.seconds = seconds
        self.is_last = is_last
        self.bodies: list[bytes] = []
        self.one_at_a_time = threading.Lock()


class Asked(socketserver.StreamRequestHandler):
    server: Answers

    def handle(self) -> None:
        while self.rfile.readline():
            head = b"".join(iter(self.rfile.readline, b"\r\n"))
            found = re.search(rb"Content-Length: (\d+)", head)
            assert found
            self.server.bodies.append(self.rfile.read(int(found[1])))
            with self.server.one_at_a_time:
                time.sleep(self.server.seconds)
                self.wfile.write(self.server.answer)
            if self.server.is_last:
                return


@contextmanager
def answering(answer: bytes, seconds: float = 0, *, is_last: bool = False) -> Iterator[Answers]:
    with Answers(answer, seconds, is_last=is_last) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def p99(server: Answers, *, rate: float, seconds: float) -> float:
    return fixed_rate.p99(Target("127.0.0.1", server.server_address[1]), COMPUTERS, rate=rate, seconds=seconds)


def test_every_request_that_is_due_is_sent() -> None:
    with answering(ACCEPTED) as server:
        assert p99(server, rate=200, seconds=1) > 0
        assert len(server.bodies) == 200
        assert all(any(computer.card_id.encode() in body for computer in COMPUTERS) for body in server.bodies)


def test_a_request_has_waited_since_it_was_due_also_where_no_connection_was_free() -> None:
    # 100 requests are due within 50 ms; the last is answered 100 × 5 ms after the first was due, and sent just before.
    with answering(ACCEPTED, seconds=0.005) as server:
        assert p99(server, rate=2_000, seconds=0.05) > 400


def test_a_request_that_is_not_accepted_ends_the_measurement() -> None:
    with (
        answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") as server,
        pytest.raises(BenchError, match=r"answered HTTP/1\.1 503"),
    ):
        p99(server, rate=10, seconds=1)


def test_an_answer_that_breaks_off_ends_the_measurement() -> None:
    with (
        answering(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\ngood", is_last=True) as server,
        pytest.raises(BenchError, match="the connection has ended"),
    ):
        p99(server, rate=10, seconds=1)
