"""Load over HTTP, by wrk, and single requests."""

import contextlib
import http.client
import json
import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.domain.licence.policy import OPEN_PROGRAM
from tests.bench import BenchError
from trial.environment import LOOPBACK
from trial.programs import tail

HARDWARE = "cpu=GenuineIntel-06-9E-0A;board=PF1Z2Y3X4W5V;disk=S3Z8NB0K123456;bench="
"""What goes before a card's number in its hardware string."""
SECONDS = 60
"""How long an answer is waited for."""
_LUA = Path(__file__).parent / "lua"
_GRACE_SECONDS = 30


class Computer(NamedTuple):
    """A bound card, and the hardware that it is bound to."""

    card_id: str
    hardware: str


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
    printed = run(command, environ, seconds=seconds + _GRACE_SECONDS)
    summary = [line.removeprefix("summary ") for line in printed.splitlines() if line.startswith("summary ")]
    if not summary:
        raise BenchError(f"wrk printed no summary: {printed.strip()[-200:]!r}")
    counted = json.loads(summary[0])
    if counted["failed"] or counted["broken"] or not counted["requests"]:
        raise BenchError(
            f"of {counted['requests']} requests to {url}, {counted['failed']} were answered with an error "
            f"and {counted['broken']} not at all"
        )
    per_second = counted["requests"] / counted["microseconds"] * 1e6
    return Load(counted["requests"], per_second, counted["p50"] / 1000, counted["p99"] / 1000)


def run(command: Sequence[str], environ: Mapping[str, str], *, seconds: float, text: str = "") -> str:
    """Return what a program printed; `text` is its standard input."""
    try:
        done = subprocess.run(
            command, env=environ, input=text, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{command[0]} had not ended after {seconds:.0f} s") from error
    if done.returncode:
        said = tail(done.stderr or done.stdout, lines=1) or "no word"
        raise BenchError(f"{command[0]} failed with status {done.returncode}: {said}")
    return done.stdout


def question(computer: Computer, **more: object) -> dict[str, object]:
    """Return the body of a request from a card's computer."""
    own = {"card_id": computer.card_id, "hardware": computer.hardware}
    return own | {"function": OPEN_PROGRAM, "nonce": secrets.token_urlsafe(24)} | more


def connect(port: int) -> http.client.HTTPConnection:
    """Return a connection to a service on this machine, to be closed by the caller."""
    return http.client.HTTPConnection(LOOPBACK, port, timeout=SECONDS)


def exchange(port: int, path: str, document: Mapping[str, object]) -> tuple[int, dict[str, Any]]:
    """Return the status of the answer to a POST, and its JSON."""
    with contextlib.closing(connect(port)) as connection:
        try:
            connection.request("POST", path, json.dumps(document), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            parsed: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise BenchError(f"{path} is not answered as it should be: {error}") from error
    return answer.status, parsed
