"""What those who verify notice of others: core functions that hang, an export of all cards, people who log in."""

import http
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from http.cookies import SimpleCookie
from itertools import count
from typing import Any
from urllib.parse import urlencode

from tests.bench import BenchError, fixed_rate, load, report
from tests.bench.service import CONNECTIONS, THIS, Gunicorn, Host, command, host
from tests.bench.subject import COMPUTERS, NEW_CONNECTIONS, Plan
from trial.environment import LOOPBACK

_UNDER_WAY_SECONDS = 3
_LOG_INS_A_SECOND = 10
_OPERATOR, _PASSWORD = "exporter", "a password for a minute"  # of a database that is gone in a minute
_HANGING = ["spin"] * 4 + ["sleep"] * 60  # busy loops on twice as many cores as the machines of the figures have
_FUNCTION_SECONDS = 3
_FUNCTIONS = """
import time

from app.functions import core_function


@core_function("spin")
def spin(arguments, caller):
    while True:
        pass


@core_function("sleep")
def sleep(arguments, caller):
    time.sleep(3600)
"""
_FORM = {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
_EXPORT = "/admin/cards/export"
_OTHER = http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.TOO_MANY_REQUESTS


def measure(plan: Plan) -> list[str]:
    """Measure, and return the lines of the report."""
    (cards,) = plan.cards
    with host() as here:
        print(report.machine(here.binaries), flush=True)
        table = here.table("cards", cards)
        settings = here.environ(table) | {"KADUN_FUNCTION_SECONDS": str(_FUNCTION_SECONDS)}
        command(THIS, settings, "admin", "add", _OPERATOR, text=f"{_PASSWORD}\n")
        service = Gunicorn(settings, here.folder / "service.log")
        computers = table.computers(COMPUTERS)

        def verify() -> float:
            before, url, questions = table.accepted(), f"{service.url}/v1/verify", load.Questions(0, cards)
            runs = [
                load.wrk(url, questions, connections=CONNECTIONS, seconds=plan.seconds) for _ in range(NEW_CONNECTIONS)
            ]
            if table.accepted() - before < sum(run.requests for run in runs):
                raise BenchError("not all requests were accepted")
            return max(run.per_second for run in runs)

        def p99(rate: float) -> float:
            return fixed_rate.p99(service.port, computers, rate=rate, seconds=plan.seconds)

        kinds: dict[str, list[Callable[[_Work], None]]] = {
            f"{len(_HANGING)} customers call core functions that hang": [
                partial(_call, service=service, computer=computer, function=name)
                for name, computer in zip(_HANGING, computers, strict=False)
            ],
            f"an operator exports all {cards:,} cards": [partial(_export, service=service)],
            f"{_LOG_INS_A_SECOND} log-ins a second with a wrong password": [
                partial(_log_in, service=service, first=first) for first in range(_LOG_INS_A_SECOND)
            ],
        }
        with service.running(), _functions_service(here).running(""):
            verify()
            measured = []
            for turn in range(plan.rounds):
                figures = {}
                for kind, people in kinds.items():
                    report.say(f"round {turn + 1} of {plan.rounds}: {kind} …")
                    idle = verify()
                    idle_p99 = p99(idle / 2)
                    with _at_work(people) as work:
                        time.sleep(_UNDER_WAY_SECONDS)
                        busy, busy_p99 = verify(), p99(idle / 2)
                    figures[kind] = {
                        "V idle, verifications/s": idle,
                        "   meanwhile, to V idle": busy / idle,
                        "at half of V idle, 99% within, ms: idle": idle_p99,
                        "   meanwhile": busy_p99,
                    } | {name: done / work.seconds for name, done in work.done.items()}
                measured.append(figures)
        heading = f"medians of {plan.rounds} rounds of {plan.seconds} s a measurement (lowest to highest)"
        return ["", heading, *report.figures(measured)]


class _Work:
    """What goes on beside: until `ended`, people add to `done` what they did, by what it is called."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.done: Counter[str] = Counter()
        self.seconds = 0.0


@contextmanager
def _at_work(people: list[Callable[[_Work], None]]) -> Generator[_Work]:
    work, begun = _Work(), time.perf_counter()
    with ThreadPoolExecutor(len(people)) as pool:
        working = [pool.submit(person, work) for person in people]
        try:
            yield work
        finally:
            work.ended.set()
    work.seconds = time.perf_counter() - begun
    for one in working:
        one.result()


def _functions_service(here: Host) -> Gunicorn:
    folder, socket = here.folder / "functions", here.folder / "functions.sock"
    folder.mkdir()
    (folder / "bench_functions.py").write_text(_FUNCTIONS)
    environ = {
        "KADUN_FUNCTIONS_DIR": str(folder),
        "KADUN_FUNCTIONS_SOCKET": str(socket),
        "KADUN_FUNCTION_SECONDS": str(_FUNCTION_SECONDS),
        "KADUN_FUNCTION_CONCURRENCY": str(len(_HANGING)),
        "KADUN_FUNCTION_CALLS_PER_ADDRESS": str(len(_HANGING)),
    }
    if os.geteuid() == 0:
        environ["KADUN_FUNCTION_FIRST_UID"] = "400000000"  # far from accounts
    return Gunicorn(environ, here.folder / "functions.log", ("-m", "app.functions"), socket=socket)


def _call(work: _Work, service: Gunicorn, computer: load.Computer, function: str) -> None:
    while not work.ended.is_set():
        status, _ = load.exchange(service.port, "/v1/execute", load.question(computer, function, arguments={}))
        if status not in (http.HTTPStatus.GATEWAY_TIMEOUT, *_OTHER):
            raise BenchError(f"a call of {function} is answered {status}")
        work.done["calls that hung, a second" if status not in _OTHER else "calls refused, a second"] += 1
        if status in _OTHER:
            work.ended.wait(2)  # as Retry-After says


def _log_in(work: _Work, service: Gunicorn, first: int) -> None:
    """Fail once a second, each time from another address: the service slows down one that fails."""
    for turn in count():
        number = turn * _LOG_INS_A_SECOND + first
        address = f"127.{1 + number // 62_500 % 250}.{number // 250 % 250}.{1 + number % 250}"
        begun = time.perf_counter()
        status, _, _ = _ask(service, "/admin/login", {"name": _OPERATOR, "password": "wrong"}, source=address)
        if status not in (http.HTTPStatus.FORBIDDEN, *_OTHER):
            raise BenchError(f"a log-in is answered {status}")
        work.done["log-ins checked, a second" if status not in _OTHER else "log-ins refused, a second"] += 1
        if work.ended.wait(max(0.0, begun + 1 - time.perf_counter())):
            return


def _export(work: _Work, service: Gunicorn) -> None:
    _, _, cookie = _ask(service, "/admin/login", {"name": _OPERATOR, "password": _PASSWORD})
    _, page, _ = _ask(service, "/admin/account", cookie=cookie)
    (token,) = set(re.findall(rb'name="csrf" value="([0-9a-f]+)"', page)) or {b""}
    form = {"csrf": token.decode(), "format": "csv", "own_password": _PASSWORD}
    while not work.ended.is_set():
        status, exported, _ = _ask(service, _EXPORT, form, cookie=cookie, ended=work.ended)
        if status != http.HTTPStatus.OK:
            raise BenchError(f"an export is answered {status}")
        work.done["lines exported, a second"] += exported.count(b"\n")


def _ask(
    service: Gunicorn,
    path: str,
    form: dict[str, Any] | None = None,
    *,
    cookie: str = "",
    source: str = LOOPBACK,
    ended: threading.Event | None = None,
) -> tuple[int, bytes, str]:
    """Return status, body and cookies of an answer of the console's; it is read on until `ended`."""
    headers = (_FORM if form else {}) | {"Cookie": cookie}
    with closing(load.connect(service.port, source)) as connection:
        connection.request("POST" if form else "GET", path, urlencode(form) if form else None, headers)
        answer, body = connection.getresponse(), b""
        while not (ended and ended.is_set()) and (piece := answer.read(2**20)):
            body += piece
        cookies = SimpleCookie("; ".join(answer.headers.get_all("Set-Cookie") or []))
        return answer.status, body, "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items())
