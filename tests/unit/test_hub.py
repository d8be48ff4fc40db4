"""Where code runs: on the hub, in native threads, or where it is called."""

import socket
import threading
from collections.abc import Callable
from functools import partial

import gevent
import gevent.socket
import pytest

from app import hub
from app.http.threads import Threads
from tests.support.hub_thread import HubThread

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
    with hub.new_socket(socket.AF_UNIX) as made:
        assert type(made) is socket.socket


def test_work_runs_on_the_hub_and_in_native_threads(hub_thread: HubThread) -> None:
    on_hub = hub_thread.call(here)
    assert hub_thread.call(hub.is_here)
    assert not hub.is_here()
    in_thread = hub_thread.call(partial(hub.in_thread, here))
    assert len({here(), on_hub, in_thread}) == 3
    assert hub_thread.call(partial(hub.on_hub, here)) == on_hub
    assert hub_thread.call(lambda: hub.in_thread(partial(hub.on_hub, here))) == on_hub
    assert not hub_thread.call(partial(hub.in_thread, hub.is_here))


def test_a_native_thread_runs_work_for_threads_itself(hub_thread: HubThread) -> None:
    assert hub_thread.call(lambda: hub.in_thread(lambda: hub.in_thread(here) == here()))


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


def test_unhurried_work_off_the_hub_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.time, "thread_time", iter([1.0, 1.5]).__next__)
    with hub.unhurried():
        assert not hub.is_here()


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(3), Stopped(), gevent.GreenletExit()], ids=repr)
def test_exceptions_cross_unchanged(
    hub_thread: HubThread, capfd: pytest.CaptureFixture[str], error: BaseException
) -> None:
    caught = []

    def through_a_thread() -> None:
        try:
            hub.in_thread(raising(error))
        except BaseException as found:  # noqa: BLE001  # whatever comes
            caught.append(found)

    def through_the_hub() -> None:
        try:
            hub.on_hub(raising(error))
        except BaseException as found:  # noqa: BLE001  # as above
            caught.append(found)

    hub_thread.call(through_a_thread)
    hub_thread.call(partial(hub.in_thread, through_the_hub))
    through_the_hub()
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


def test_work_that_fails_gives_its_thread_back(hub_thread: HubThread) -> None:
    for _ in range(10):
        for error in (ValueError(), Stopped()):
            with pytest.raises(type(error)):
                hub_thread.call(partial(hub.in_thread, raising(error)))
    test_greenlets_go_on_while_native_threads_are_busy(hub_thread)


def test_work_whose_greenlet_is_killed_gives_its_thread_back(hub_thread: HubThread) -> None:
    is_over = threading.Event()
    killed = [hub_thread.spawn(partial(hub.in_thread, partial(is_over.wait, 20))) for _ in range(2)]
    hub_thread.call(partial(gevent.killall, killed))
    is_over.set()
    test_greenlets_go_on_while_native_threads_are_busy(hub_thread)


def test_a_socket_of_the_hub_lets_other_greenlets_run(hub_thread: HubThread) -> None:
    made = hub_thread.call(lambda: hub.new_socket(socket.AF_UNIX))
    assert isinstance(made, gevent.socket.socket)
    hub_thread.call(made.close)
    with hub_thread.call(lambda: hub.in_thread(lambda: hub.new_socket(socket.AF_UNIX))) as plain:
        assert type(plain) is socket.socket


def test_so_many_have_a_place_and_the_others_wait_in_order(hub_thread: HubThread) -> None:
    places, came, leave = hub.Places(2, 20.0), [], hub_thread.call(hub.event)

    def visit(number: int) -> None:
        with places.taken():
            came.append(number)
            leave.wait()

    visits = [hub_thread.begin(partial(visit, number)) for number in range(5)]
    assert hub_thread.call(lambda: list(came)) == [0, 1]
    hub_thread.call(leave.set)
    assert [each.result(20) for each in visits] == [None] * 5
    assert came == [0, 1, 2, 3, 4]


def test_who_waited_too_long_for_a_place_goes_in_and_gives_none_back(hub_thread: HubThread) -> None:
    places, leave = hub.Places(1, 0.0), hub_thread.call(hub.event)

    def visit() -> None:
        with places.taken():
            leave.wait()

    visits = [hub_thread.begin(visit) for _ in range(3)]
    hub_thread.call(leave.set)
    assert [each.result(20) for each in visits] == [None] * 3
    assert hub_thread.call(lambda: places._semaphore.counter) == 1  # noqa: SLF001  # what else could tell


def test_off_the_hub_there_are_places_for_all() -> None:
    places = hub.Places(1, 20.0)
    with places.taken(), places.taken():
        pass


class Body:
    """A request's body that knows where it is read."""

    def __init__(self) -> None:
        self.read_in: set[int] = set()

    def read(self, size: int = -1) -> bytes:
        self.read_in.add(here())
        return b"x" * size

    def readline(self, size: int = -1) -> bytes:
        self.read_in.add(here())
        return b"y" * size


ON_THE_HUB = ("/v1/verify", "/v1/files", "/v1/files/update.zip", "/v1/execute", "/healthz")
IN_THREADS = ("/", "/admin", "/admin/login", "/v1/shop/cards", "/readyz", "/metrics", "/v1/openapi.json", "/v1", "/v2")


@pytest.mark.parametrize("path", [*ON_THE_HUB, *IN_THREADS, "/.well-known/jwks.json", "/healt", "/x/v1/verify"])
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
    threads = Threads(application, lambda _environ: False)
    answer = hub_thread.call(partial(threads, environ, lambda status, _headers: statuses.append(status)))
    on_hub = hub_thread.call(here)
    assert (answer, statuses) == ([b"xxxyy"], ["200 OK"])
    assert (ran_in == [on_hub]) == (path in ON_THE_HUB)
    assert ran_in != [here()]
    assert body.read_in == {on_hub}
