"""Where code runs: on the hub, in native threads, or where it is called."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import gevent.socket
import pytest

from app import hub
from app.http.problems import Problem
from app.http.threads import REFUSED, Threads
from tests.support.hub_thread import HubThread
from tests.support.tables import for_each

here = threading.get_ident


class Stopped(BaseException):
    """As unusual as an exception can be."""


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_without_a_hub_everything_runs_where_it_is_called() -> None:
    assert not hub.is_here()
    assert hub.in_thread(here) == hub.on_hub(here) == here()


def test_work_runs_on_the_hub_and_in_native_threads(hub_thread: HubThread) -> None:
    on_hub = hub_thread.call(here)
    assert hub_thread.call(hub.is_here)
    in_thread = hub_thread.call(partial(hub.in_thread, here))
    assert len({here(), on_hub, in_thread}) == 3
    assert hub_thread.call(partial(hub.on_hub, here)) == on_hub
    assert hub_thread.call(lambda: hub.in_thread(partial(hub.on_hub, here))) == on_hub
    assert not hub_thread.call(partial(hub.in_thread, hub.is_here))
    assert hub_thread.call(lambda: hub.in_thread(lambda: hub.in_thread(here) == here())), "threads do it themselves"


def test_unhurried_work_waits_the_longer_the_busier_the_hub_was(
    hub_thread: HubThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    def unhurried() -> None:
        with hub.unhurried():
            pass

    monkeypatch.setattr(gevent, "sleep", waited.append)
    monkeypatch.setattr(hub.time, "thread_time", iter([1.0, 1.0, 1.0, 1.5]).__next__)
    hub_thread.call(unhurried)
    hub_thread.call(unhurried)
    assert waited == [0, 3]
    monkeypatch.setattr(hub.time, "thread_time", iter([1.0, 1.5]).__next__)
    with hub.unhurried():  # off the hub it waits for nothing
        assert waited == [0, 3]


@for_each("error", [ValueError("wrong"), SystemExit(3), Stopped(), gevent.GreenletExit()])
def test_exceptions_cross_unchanged(
    hub_thread: HubThread, capfd: pytest.CaptureFixture[str], error: BaseException
) -> None:
    caught = []

    def through(run: Callable[[Callable[[], None]], object]) -> None:
        try:
            run(raising(error))
        except BaseException as found:  # noqa: BLE001  # whatever comes
            caught.append(found)

    hub_thread.call(partial(through, hub.in_thread))
    hub_thread.call(partial(hub.in_thread, partial(through, hub.on_hub)))
    through(hub.on_hub)
    assert len(caught) == 3
    assert all(found is error for found in caught)
    assert capfd.readouterr().err == ""


def test_greenlets_go_on_while_native_threads_are_busy(hub_thread: HubThread) -> None:
    is_over = threading.Event()
    busy = [hub_thread.begin(partial(hub.in_thread, partial(is_over.wait, 20))) for _ in range(2)]
    waiting = hub_thread.begin(partial(hub.in_thread, here))
    assert hub_thread.call(lambda: "still here") == "still here"
    assert not waiting.done(), "both threads are taken"
    is_over.set()
    assert [one.result(20) for one in busy] == [True, True]
    assert waiting.result(20) not in {here(), hub_thread.call(here)}


def test_work_that_fails_or_whose_greenlet_is_killed_gives_its_thread_back(hub_thread: HubThread) -> None:
    for _ in range(10):
        for error in (ValueError(), Stopped()):
            with pytest.raises(type(error)):
                hub_thread.call(partial(hub.in_thread, raising(error)))
    is_over = threading.Event()
    killed = [hub_thread.spawn(partial(hub.in_thread, partial(is_over.wait, 20))) for _ in range(2)]
    hub_thread.call(partial(gevent.killall, killed))
    is_over.set()
    test_greenlets_go_on_while_native_threads_are_busy(hub_thread)


def test_turns_are_one_at_a_time_for_each_key_and_leave_nothing_behind(hub_thread: HubThread) -> None:
    turns, came, leave = hub.Turns(20.0), [], hub_thread.call(hub.event)
    with turns.taken("a") as one, turns.taken("a") as other:  # off the hub
        assert one
        assert other

    def visit(key: str, number: int) -> bool:
        with turns.taken(key) as is_taken:
            came.append((key, number))
            leave.wait()
            return is_taken

    visits = [hub_thread.begin(partial(visit, key, number)) for number in range(3) for key in "ab"]
    assert hub_thread.call(lambda: list(came)) == [("a", 0), ("b", 0)]
    hub_thread.call(leave.set)
    assert [each.result(20) for each in visits] == [True] * 6
    assert [number for key, number in came if key == "a"] == [0, 1, 2]
    assert (turns._places, turns._here) == ({}, {})  # noqa: SLF001  # strangers name the keys


@for_each("seconds, waiting", [(0.0, 100), (3600.0, 0), (3600.0, 1)])
def test_who_waits_too_long_or_comes_when_too_many_wait_gets_no_place_and_gives_none_back(
    hub_thread: HubThread, seconds: float, waiting: int
) -> None:
    places, leave = hub.Places(1, seconds, waiting), hub_thread.call(hub.event)
    with places.taken(), places.taken():  # off the hub there are places for all
        pass

    def visit() -> bool:
        with places.taken() as is_taken:
            if is_taken:
                leave.wait()
            return is_taken

    visits = [hub_thread.begin(visit) for _ in range(4)]
    assert [each.result(20) for each in visits[1 + waiting :]] == [False] * len(visits[1 + waiting :])
    hub_thread.call(leave.set)
    assert visits[0].result(20)
    assert [each.result(20) for each in visits[1 : 1 + waiting]] == [seconds > 0] * min(waiting, 3)
    assert hub_thread.call(lambda: places._semaphore.counter) == 1  # noqa: SLF001  # what else could tell


class Body:
    """A request's body that knows where it is read."""

    def __init__(self) -> None:
        self.read_in: set[int] = set()

    def read(self, size: int = -1) -> bytes:
        self.read_in.add(here())
        return b"x" * size

    readline = read


ON_THE_HUB = ("/v1/verify", "/v1/files", "/v1/files/update.zip", "/v1/execute", "/healthz")
IN_THREADS = ("/", "/admin", "/admin/login", "/v1/shop/cards", "/readyz", "/metrics", "/v1/openapi.json", "/v1", "/v2")


@for_each("path", [*ON_THE_HUB, *IN_THREADS, "/.well-known/jwks.json", "/healt", "/x/v1/verify"])
def test_verifications_files_and_calls_run_on_the_hub_and_all_else_in_native_threads(
    hub_thread: HubThread, path: str
) -> None:
    body, ran_in = Body(), []

    def application(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
        ran_in.append(here())
        start_response("200 OK", [])
        read = environ["wsgi.input"]
        return [read.read(3) + read.readline(2)]  # type: ignore[attr-defined]

    statuses: list[str] = []
    environ = {"PATH_INFO": path, "wsgi.input": body}
    threads = Threads(application, lambda _environ: False, lambda _environ: None)
    answer = hub_thread.call(partial(threads, environ, lambda status, _headers: statuses.append(status)))
    on_hub = hub_thread.call(here)
    assert (answer, statuses) == ([b"xxxxx"], ["200 OK"])
    assert (ran_in == [on_hub]) == (path in ON_THE_HUB)
    assert ran_in != [here()]
    assert body.read_in == {on_hub}


def _page(environ: dict[str, object], _start_response: object) -> list[bytes]:
    if environ["PATH_INFO"] == "/broken":
        raise ValueError("broken")
    return [b"refused" if environ.get(REFUSED) else b"page"]


def asking(hub_thread: HubThread, *senders: Callable[[dict[str, Any]], str | None]) -> Callable[..., Any]:
    """Return what asks an application that breaks at one path, where the senders tell whose session a request has."""
    threads = Threads(_page, lambda _environ: False, *senders)

    def ask(path: str = "/admin", **environ: str) -> Any:
        return hub_thread.call(partial(threads, {"PATH_INFO": path, "wsgi.input": Body(), **environ}, print))

    return ask


FULL = [[b"page"]] * 8 + [[b"refused"]]


def test_an_operators_answers_are_under_way_until_they_are_closed(hub_thread: HubThread) -> None:
    ask = asking(hub_thread, lambda environ: str(environ["sender"]))
    for _ in range(20):
        with pytest.raises(ValueError, match="broken"):
            ask("/broken", sender="olga")
    answers = [ask(sender="olga") for _ in range(8)]
    assert [list(answer) for answer in [*answers, ask(sender="olga")]] == FULL
    assert [list(ask(sender=f"seller {number}")) for number in range(9)] == FULL
    answers[0].close()
    assert [list(ask(sender="olga")) for _ in range(2)] == [[b"page"], [b"refused"]]


def test_each_kind_of_requests_has_turns_of_its_own(hub_thread: HubThread) -> None:
    def of_kind(kind: str) -> Callable[[dict[str, Any]], str | None]:
        return lambda environ: environ["who"] if environ["kind"] == kind else None

    ask = asking(hub_thread, of_kind("operator"), of_kind("customer"))
    for kind in ("customer", "operator"):
        assert [list(ask(kind=kind, who="x")) for _ in range(9)] == FULL
    assert [list(ask(kind="customer", who=who)) for who in "yz"] == [[b"page"]] * 2
    assert [list(ask(kind="nobody", who="x")) for _ in range(20)] == [[b"page"]] * 20


def test_of_log_ins_too_many_are_refused_and_run_in_no_thread(hub_thread: HubThread) -> None:
    release, in_threads = threading.Event(), []

    def application(environ: dict[str, object], _start_response: object) -> list[bytes]:
        error = environ.get(REFUSED)
        if isinstance(error, Problem):
            return [error.status.encode()]
        in_threads.append(here())
        release.wait(60)
        return [b"logged in"]

    threads = Threads(application, lambda _environ: True, lambda _environ: None)
    ask = partial(threads, {"PATH_INFO": "/admin/login", "wsgi.input": Body()}, print)
    asking = [hub_thread.begin(ask) for _ in range(2 + 10)]
    assert [hub_thread.call(ask) for _ in range(3)] == [[b"429 Too Many Requests"]] * 3
    assert len(in_threads) <= 2
    release.set()
    assert [each.result(60) for each in asking] == [[b"logged in"]] * len(asking)
