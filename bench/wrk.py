"""Load over HTTP, by wrk."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from app.domain.policy import OPEN_PROGRAM
from bench import children
from bench.cards import HARDWARE
from bench.errors import BenchError

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


def run(url: str, questions: Questions | None, *, connections: int, seconds: int, openssl: str = "") -> Load:
    """Put load on `url` for so many seconds; plain GETs when there are no questions.

    Args:
        url: What to ask.
        questions: For which cards.
        connections: Kept open, each with one request under way.
        seconds: How long.
        openssl: The path of OpenSSL's configuration, for TLS.

    Raises:
        BenchError: any request failed: such a figure would not mean what it says.
    """
    threads = 2 if openssl else 1  # without TLS it needs little, and the cores are for the service
    script = "summary.lua" if questions is None else "verify.lua"
    command = ["wrk", "--threads", str(threads), "--connections", str(connections), "--duration", f"{seconds}s"]
    command += ["--timeout", "10s", "--script", str(_LUA / script), url]
    if questions is not None:
        command += ["--", *questions.arguments()]
    environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", "OPENSSL_CONF": openssl or "/dev/null"}
    printed = children.run(command, environ=environ, seconds=seconds + _GRACE_SECONDS)
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
