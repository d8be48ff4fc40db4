"""Arguments of core functions: large ones are parsed beside verifications, and none kept while the rules are asked."""

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import falcon
import falcon.testing
import gevent
import pytest

from app import hub
from app.http import request_parser, schemas
from app.http.problems import Problem
from app.http.request_parser import RequestParser
from app.services.functions import Execution
from tests.support.hub_thread import HubThread
from tests.support.service import question

SMALL: dict[str, Any] = {"a": [1]}
LARGE: dict[str, Any] = {"a": [[]] * 4000}


def executing(arguments: dict[str, Any]) -> Callable[[], tuple[object, Callable[[], dict[str, Any]]]]:
    """Return what parses a request with these arguments."""
    body = json.dumps(question("0" * 32, function="f", arguments=arguments)).encode()
    headers = {"Content-Type": "application/json"}
    environ = falcon.testing.create_environ(method="POST", headers=headers, body=body)
    parser = RequestParser(behind_proxy=False, require_sealed=False)
    return lambda: parser.execute_request(falcon.Request(environ))


@pytest.fixture
def around(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Has a function called before a body is parsed."""
    parse = schemas.parse_execute_request

    def put(before: Callable[[], object]) -> None:
        monkeypatch.setattr(schemas, "parse_execute_request", lambda body: (before(), parse(body))[1])

    return put


def test_large_bodies_are_parsed_off_the_hub_and_small_ones_on_it(hub_thread: HubThread, around: Any) -> None:
    where: list[bool] = []
    around(lambda: where.append(hub.is_here()))
    for arguments in (SMALL, LARGE):
        _, read = hub_thread.call(executing(arguments))
        assert hub_thread.call(read) == arguments
    assert where == [True, True, False, False]


def test_large_bodies_are_parsed_one_at_a_time(hub_thread: HubThread, around: Any) -> None:
    parsing, together, go_on = 0, [], threading.Event()

    def note() -> None:
        nonlocal parsing
        parsing += 1
        together.append(parsing)
        assert go_on.wait(60)
        parsing -= 1

    def ask_often() -> None:
        asking = [gevent.spawn(executing(LARGE)) for _ in range(4)]
        while not together:
            gevent.sleep(0.01)
        assert executing(SMALL)  # the hub goes on meanwhile
        go_on.set()
        gevent.joinall(asking, raise_error=True)

    around(note)
    hub_thread.call(ask_often)
    assert together == [1] * 4


def test_large_bodies_that_find_too_many_waiting_are_refused_unparsed(
    hub_thread: HubThread, around: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, go_on = [], threading.Event()
    monkeypatch.setattr(request_parser, "_PARSING", hub.Places(1, seconds=3600, waiting=2))

    def note() -> None:
        parsed.append(True)
        assert go_on.wait(60)

    def ask_often() -> int:
        asking = [gevent.spawn(executing(LARGE)) for _ in range(3)]
        gevent.sleep(0)
        refused = [gevent.spawn(executing(LARGE)) for _ in range(4)]
        gevent.joinall(refused)
        assert [type(each.exception) for each in refused] == [Problem] * 4
        go_on.set()
        gevent.joinall(asking, raise_error=True)
        return len(parsed)

    around(note)
    assert hub_thread.call(ask_often) == 3


def test_arguments_of_a_rejected_request_are_not_read() -> None:
    rejected = SimpleNamespace(decision=SimpleNamespace(accepted=False))
    licences = SimpleNamespace(evaluate=lambda _request: rejected, sign=lambda evaluation: ("signed", evaluation))
    execution = Execution(cast("Any", licences), cast("Any", None))
    assert execution.execute(cast("Any", None), cast("Any", None)) == ("signed", rejected)
