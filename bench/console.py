"""python -m bench.console: how long each page of the console takes with a vendor's year in the database."""

import argparse
import re
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from http.cookies import SimpleCookie
from typing import NamedTuple
from urllib.parse import urlencode

from app.console.issue import MAX_ISSUED
from bench import console_pages, process_usage
from bench.command import number, run, say
from bench.console_pages import OPERATOR, Asked, Form
from bench.errors import BenchError
from bench.gunicorn import WORKERS, Gunicorn
from bench.process_usage import OtherPrograms
from bench.service import FOLDER, Host, host
from tests.support import sample_year
from trial.stopping import Stopping

LIMIT_MS = 200
_PASSWORD = "a password for a minute"  # noqa: S105  # of a database that is gone in a minute
_COUNTING_SECONDS = 120
_POLL_SECONDS = 0.2
_CHUNK_BYTES = 2**20
_BYTES_A_ROW = 1_500
_SPARE_BYTES = 2**31


class Plan(NamedTuple):
    """What the caller wants: how often each page is asked for, and of how much."""

    rounds: int
    cards: int
    events: int


class Visitor:
    """A browser that has logged in. Each request takes a connection of its own, so that all workers serve it."""

    def __init__(self, service: Gunicorn) -> None:
        self._service = service
        self._cookies = {"kadun_language": "zh"}
        self._token: str | None = None
        self._location = ""

    def log_in(self) -> None:
        """Log in.

        Raises:
            BenchError: it is refused.
        """
        self._send("/admin/login", {"name": OPERATOR, "password": _PASSWORD})
        if "kadun_session" not in self._cookies:
            raise BenchError("the console lets nobody in")

    def page(self, path: str, form: Form | None = None) -> str:
        """Return a page, asked for with a form where it wants one.

        Raises:
            BenchError: it is not answered with success.
        """
        return b"".join(self._ask("GET", path) if form is None else self._ask("POST", path, self._own(form))).decode()

    def issue(self, count: int) -> str:
        """Issue cards; return the address of the page that shows them."""
        form = {"validity": "30d", "count": str(count), "form_number": secrets.token_urlsafe(16)}
        return self._send("/admin/cards/issue", self._own(form))

    def export(self) -> Iterator[bytes]:
        """Yield all cards as CSV, as they come."""
        return self._ask("POST", "/admin/cards/export", self._own({"format": "csv"}))

    def _own(self, form: Form) -> Form:
        if self._token is None:
            (self._token,) = set(re.findall(r'name="csrf" value="([0-9a-f]+)"', self.page("/admin/account")))
        return {"csrf": self._token, **form}

    def _send(self, path: str, form: Form) -> str:
        for _ in self._ask("POST", path, form, HTTPStatus.SEE_OTHER):
            pass
        return self._location

    def _ask(
        self, method: str, path: str, form: Form | None = None, expected: HTTPStatus = HTTPStatus.OK
    ) -> Iterator[bytes]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if form:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        with closing(self._service.connect()) as connection:
            connection.request(method, path, urlencode(form, doseq=True) if form else None, headers)
            answer = connection.getresponse()
            if answer.status != expected:
                raise BenchError(f"{path} is answered {answer.status}")
            self._location = answer.headers.get("Location", "")
            for line in answer.headers.get_all("Set-Cookie") or []:
                self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
            while piece := answer.read(_CHUNK_BYTES):
                yield piece


class Timed(NamedTuple):
    """A page, and how long each of its answers took, in milliseconds."""

    name: str
    taken: list[float]


def main() -> int:
    """Run the measurements; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench.sh --console", description="Measures the console here.")
    parser.add_argument("--rounds", type=number(1, 1000), metavar="N", help="of all pages (20)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, 20,000 cards, 100,000 journal entries")
    given = parser.parse_args()
    plan = Plan(given.rounds or 3, 20_000, 100_000) if given.quick else Plan(given.rounds or 20, 1_000_000, 5_000_000)
    return run(lambda stopping: _measure(plan, stopping))


def _measure(plan: Plan, stopping: Stopping) -> list[str]:
    if shutil.disk_usage(FOLDER).free < plan.events * _BYTES_A_ROW + _SPARE_BYTES:
        raise BenchError(f"{FOLDER} has not enough room")
    say(f"making {plan.cards:,} cards and {plan.events:,} journal entries …")
    with (
        host(
            stopping,
            cards=plan.cards,
            is_bound=False,
            fill=lambda table: sample_year.fill(table.url, cards=plan.cards, events=plan.events, today=table.day),
        ) as here,
        here.service() as service,
    ):
        visitor = _operator(here, service)
        counted = _first_figures(visitor, here)
        wanted = console_pages.pages(here.table.url, visitor.issue(MAX_ISSUED))
        say("warming up …")
        _ask_all(visitor, wanted, 2 * WORKERS)  # each worker reads each template once
        before = process_usage.of_tree(service.pid)
        others = OtherPrograms()
        pages = _ask_all(visitor, wanted, plan.rounds)
        after = process_usage.of_tree(service.pid)
        return [
            others.line(),
            "",
            f"{plan.cards:,} cards, {plan.events:,} journal entries; each page {plan.rounds} times, milliseconds",
            *(_line(page) for page in pages),
            _verdict(pages),
            "",
            f"  the overview's figures, counted in the background: {counted:.1f} s",
            f"  memory of gunicorn, MiB (PSS): {before.pss} before the pages, {after.pss} after them",
            *_export(visitor, service),
        ]


def _operator(here: Host, service: Gunicorn) -> Visitor:
    with tempfile.TemporaryFile() as typed:
        typed.write(f"{_PASSWORD}\n".encode())
        typed.seek(0)
        here.cardctl("admin", "add", OPERATOR, source=typed)
    visitor = Visitor(service)
    visitor.log_in()
    return visitor


def _first_figures(visitor: Visitor, here: Host) -> float:
    """Wait until the figures are counted; return how many seconds that took."""
    say("counting the overview's figures …")
    deadline = time.monotonic() + _COUNTING_SECONDS
    while True:
        visitor.page("/admin/")
        found = console_pages.figures_seconds(here.table.url)
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise BenchError("the overview's figures do not get counted")
        time.sleep(_POLL_SECONDS)


def _ask_all(visitor: Visitor, pages: Mapping[str, Asked], rounds: int) -> list[Timed]:
    """Ask for every page in turns, so that each finds the caches as the others left them."""
    timed = [Timed(name, []) for name in pages]
    for turn in range(rounds):
        say(f"round {turn + 1} of {rounds} …")
        for page in timed:
            begun = time.perf_counter()
            visitor.page(*pages[page.name])
            page.taken.append((time.perf_counter() - begun) * 1000)
    return timed


def _export(visitor: Visitor, service: Gunicorn) -> list[str]:
    say("exporting all cards …")
    before = highest = process_usage.of_tree(service.pid).pss
    begun, lines, size = time.perf_counter(), 0, 0
    for piece in visitor.export():
        lines += piece.count(b"\n")
        size += len(piece)
        highest = max(highest, process_usage.of_tree(service.pid).pss)
    taken = time.perf_counter() - begun
    return [
        f"  all cards as CSV: {lines:,} lines, {size / 2**20:.0f} MiB in {taken:.0f} s",
        f"  memory of gunicorn meanwhile, MiB (PSS): {before} before, {highest} at most",
    ]


def _line(page: Timed) -> str:
    return f"  {page.name:<52}{statistics.median(page.taken):>7.0f}   (worst {max(page.taken):.0f})"


def _verdict(pages: Sequence[Timed]) -> str:
    over = [page.name for page in pages if max(page.taken) > LIMIT_MS]
    return f"  over {LIMIT_MS} ms at their worst: {', '.join(over) or 'none'}"


if __name__ == "__main__":
    sys.exit(main())
