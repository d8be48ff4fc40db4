"""Load over HTTP, by wrk, and single requests."""

import contextlib
import http.client
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from app.domain.licence.policy import OPEN_PROGRAM
from tests.bench import BenchError, run
from trial.environment import LOOPBACK

HARDWARE = "cpu=GenuineIntel-06-9E-0A;board=PF1Z2Y3X4W5V;disk=S3Z8NB0K123456;bench="
"""What goes before a card's number in its hardware string."""
SECONDS = 60
"""How long an answer is waited for."""
_LUA = Path(__file__).parent / "lua"
_GRACE_SECONDS = 30


class Load(NamedTuple):
    """What wrk counted; latencies in milliseconds."""

    requests: int
    per_second: float
    p50: float
    p99: float


class Questions(NamedTuple):
    """Which cards are asked for: `cards` numbers from `first`, at random for ever, or `each` once in turn.

    `fresh` sends each request on a new connection.
    """

    first: int
    cards: int
    each: bool = False
    public_key: str | None = None
    fresh: bool = False

    def arguments(self) -> list[str]:
        """Return them as verify.lua takes them."""
        mode, connection = "each" if self.each else "random", "close" if self.fresh else "-"
        return [HARDWARE, OPEN_PROGRAM, self.public_key or "-", mode, str(self.first), str(self.cards), connection]


def wrk(url: str, questions: Questions | None, *, connections: int, seconds: int, openssl: str = "") -> Load:
    """Put load on `url` for so many seconds; plain GETs when there are no questions.

    Args:
        url: What to ask.
        questions: For which cards.
        connections: Kept open, each with one request under way.
        seconds: How long.
        openssl: The path of OpenSSL's configuration, for TLS.
    """
    threads = 2 if openssl else 1  # without TLS it needs little, and the cores are for the service
    script = "summary.lua" if questions is None else "verify.lua"
    command = ["wrk", "--threads", str(threads), "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "10s", "--script", str(_LUA / script), url]
    if questions is not None:
        command += ["--", *questions.arguments()]
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", "OPENSSL_CONF": openssl or "/dev/null"}
    printed = run(command, env=environ, timeout=seconds + _GRACE_SECONDS)
    counted = json.loads(printed.rpartition("\nsummary ")[2])
    if counted["failed"] or counted["broken"] or not counted["requests"]:
        raise BenchError(
            f"of {counted['requests']} requests to {url}, {counted['failed']} were answered with an error "
            f"and {counted['broken']} not at all"
        )
    per_second = counted["requests"] / counted["microseconds"] * 1e6
    return Load(counted["requests"], per_second, counted["p50"] / 1000, counted["p99"] / 1000)


def question(number: int, **more: object) -> dict[str, object]:
    """Return the body of a request from the computer of card `number`, by the same formula as verify.lua's."""
    scattered = 1_000_000_000_000_000 + number * 618_033_989 % 1_000_000_007 * 1_000_000
    card = {"card_id": f"{scattered}{1_000_000_000_000_000 + number}", "hardware": f"{HARDWARE}{number}"}
    return card | {"function": OPEN_PROGRAM, "nonce": secrets.token_urlsafe(24)} | more


def exchange(port: int, method: str, path: str, document: Mapping[str, object] | None = None) -> tuple[int, bytes]:
    """Return the status and the body of the answer to one request."""
    with contextlib.closing(http.client.HTTPConnection(LOOPBACK, port, timeout=SECONDS)) as connection:
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
