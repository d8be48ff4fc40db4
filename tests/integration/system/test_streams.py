"""Streams of refreshes: every acknowledged request is counted, whatever happens and operators do meanwhile."""

import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException
from itertools import cycle
from pathlib import Path
from time import monotonic, sleep
from typing import Any, NamedTuple, Self

import pytest
from peewee import fn

from app.domain.cards.card_actions import Action
from app.domain.codes import EventKind
from app.runtime.clock import utc_now
from app.services.cards.card_actions import CardActions
from app.storage.database import Database, connect_to
from app.storage.models import Client, Event, Usage
from tests.integration.conftest import with_keys
from tests.support.licence.bound_cards import hardware_of, write_bound
from tests.support.services.processes import children_of
from tests.support.services.raw_http import RawConnection, posting
from tests.support.services.service import Service, question, wait_for
from trial.postgres import EmbeddedPostgres

CONNECTIONS = 4
"""Of each card and machine, so that all four workers serve it."""
ACTIONS = 8
BETWEEN = 20
"""How many answers of a card come between two actions on it."""
PAUSE_SECONDS = 0.02
"""How long a client waits after it got no answer, or 503."""
PROXIED = {"KADUN_BEHIND_PROXY": "true", "KADUN_WORKERS": "2"}


class Ask(NamedTuple):
    """What to ask, from which machine and address."""

    card_id: str
    hardware: str = "machine-1"
    address: str = "198.51.100.1"

    def encoded(self) -> bytes:
        """The request as it travels behind a proxy."""
        body = json.dumps(question(self.card_id, self.hardware, "f")).encode()
        return posting("/v1/verify", body).replace(b"X-Real-IP: 127.0.0.1", f"X-Real-IP: {self.address}".encode())


def own(card_id: str) -> Ask:
    """A request from the machine that `write_bound` has bound the card to."""
    return Ask(card_id, hardware_of(card_id))


class Answered(NamedTuple):
    """An answer, with the monotonic times before the request and after the answer; status 0 if none came."""

    ask: Ask
    sent: float
    received: float
    status: int = 0
    code: str = ""
    says_when_again: bool = False


class Streams:
    """Asks again and again, over a connection of its own for each of `sources`, which return what to ask next."""

    def __init__(self, service: Service, sources: list[Callable[[], Ask]]) -> None:
        self._port, self._sources = service.port, sources
        self._is_over = False
        self._pool = ThreadPoolExecutor(len(sources))
        self.answers: list[Answered] = []

    def __enter__(self) -> Self:
        self._asking = [self._pool.submit(self._ask_again_and_again, source) for source in self._sources]
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for asking in self._asking:
            asking.result(600)
        self._pool.shutdown()

    def wait_for_answers(self, more: int, matches: Callable[[Answered], bool] = lambda _answer: True) -> None:
        """Wait for so many further answers that match, each to a request that is sent from now on."""
        begun, now = len(self.answers), monotonic()
        wait_for(lambda: sum(a.sent > now and matches(a) for a in self.answers[begun:]) >= more, 60)

    def _ask_again_and_again(self, source: Callable[[], Ask]) -> None:
        while not self._is_over:
            with contextlib.suppress(OSError, HTTPException), RawConnection(self._port) as connection:
                while not self._is_over:
                    self._ask(connection, source())

    def _ask(self, connection: RawConnection, ask: Ask) -> None:
        sent = monotonic()
        answered = Answered(ask, sent, sent)
        try:
            found = connection.send(ask.encoded()).answer()
            has_retry_after = "retry-after" in found.headers
            answered = Answered(ask, sent, monotonic(), found.status, found.json()["code"], has_retry_after)
        finally:
            self.answers.append(answered)
            if answered.status in {0, 503}:
                sleep(PAUSE_SECONDS)


def counted() -> Counter[str]:
    total = fn.SUM(Usage.count)
    return Counter({card: int(count) for card, count in Usage.select(Usage.card, total).group_by(Usage.card).tuples()})


def by_card(answers: list[Answered], statuses: set[int]) -> Counter[str]:
    """How many requests of each card were answered so."""
    return Counter(answer.ask.card_id for answer in answers if answer.status in statuses)


def require_all_acknowledged_to_be_counted(ids: list[str], answers: list[Answered]) -> None:
    found, acknowledged, asked = counted(), by_card(answers, {200}), by_card(answers, {0, 200, 503})
    assert [card_id for card_id in ids if not acknowledged[card_id] <= found[card_id] <= asked[card_id]] == []


def test_a_killed_worker_loses_no_acknowledged_request(database: Database, database_url: str, tmp_path: Path) -> None:
    ids = write_bound(20, utc_now())
    with Service(with_keys(tmp_path), database_url, **PROXIED) as service:
        assert service.process is not None
        master = service.process.pid
        # Several connections ask about each card.
        turns = [partial(next, map(own, cycle(ids[number:] + ids[:number]))) for number in range(32)]
        with Streams(service, turns) as streams:
            for _ in range(3):
                streams.wait_for_answers(300)
                first, _second = wait_for(lambda: len(found := children_of(master)) == 2 and found)
                os.kill(first, signal.SIGKILL)
            streams.wait_for_answers(300)
    assert {answer.status for answer in streams.answers} - {503} == {0, 200}, "503 where a busy machine takes too long"
    require_all_acknowledged_to_be_counted(ids, streams.answers)


def test_a_database_restart_loses_no_acknowledged_request(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    database = connect_to(Database(own_postgres.url(), bulk=True))
    with database.connection_context():
        ids = write_bound(64, utc_now())
    with Service(with_keys(tmp_path), own_postgres.url(), **PROXIED) as service:
        with Streams(service, [partial(own, card_id) for card_id in ids]) as streams:
            streams.wait_for_answers(1_000)
            own_postgres.stop()
            streams.wait_for_answers(500, lambda answer: answer.status == 503)
            own_postgres.start()
            back_from = len(streams.answers)
            wait_for(lambda: by_card(streams.answers[back_from:], {200}).keys() == set(ids), 60)
        assert service.get("/readyz").status == 200
    assert {answer.status for answer in streams.answers} == {200, 503}
    assert all(answer.says_when_again for answer in streams.answers if answer.status == 503)
    with database.connection_context():
        require_all_acknowledged_to_be_counted(ids, streams.answers)


class History:
    """A card's states; each may have held from the action that began it to the one that ended it."""

    def __init__(self, state: object) -> None:
        self.states = [state]
        self._since, self._until = [0.0], [float("inf")]

    def change(self, state: object, action: Callable[[], object]) -> None:
        self._since.append(monotonic())
        action()
        self._until.insert(-1, monotonic())
        self.states.append(state)

    def during(self, answer: Answered) -> set[Any]:
        held = zip(self.states, self._since, self._until, strict=True)
        return {state for state, since, until in held if since <= answer.received and answer.sent <= until}


@pytest.fixture
def operator(database: Database, proxied: Service) -> Iterator[CardActions]:
    """Acts beside requests; neither meets a deadlock, which never ends an operator's transaction here."""
    database.execute_sql("SET deadlock_timeout = '60s'")
    database.connect_params["options"] += " -c deadlock_timeout=60s"  # in other threads
    begun = len(proxied.log.read_bytes())
    yield CardActions(database, "operator", utc_now)
    log = proxied.log.read_bytes()[begun:].decode()
    assert ("deadlock" in log, "Traceback" in log) == (False, False)


def streams_of(service: Service, *asks: Ask) -> Streams:
    return Streams(service, [partial(lambda ask: ask, ask) for ask in asks for _ in range(CONNECTIONS)])


def require_exact_counts(answers: list[Answered]) -> None:
    """Require that each accepted request was counted, once, and no other."""
    assert counted() == Counter(answer.ask.card_id for answer in answers if answer.code == "OK")


def test_a_card_is_refused_exactly_while_it_is_frozen(proxied: Service, operator: CardActions) -> None:
    ids = write_bound(4, utc_now())
    histories = {card_id: History("OK") for card_id in ids}

    def freeze_and_unfreeze(card_id: str) -> None:
        for action, code in ((Action.FREEZE, "CARD_FROZEN"), (Action.UNFREEZE, "OK")) * (ACTIONS // 2):
            streams.wait_for_answers(BETWEEN, lambda answer: answer.ask.card_id == card_id)
            histories[card_id].change(code, partial(operator.apply, action, [card_id]))
        streams.wait_for_answers(BETWEEN, lambda answer: answer.ask.card_id == card_id)

    with streams_of(proxied, *map(own, ids)) as streams, ThreadPoolExecutor(4) as pool:
        list(pool.map(freeze_and_unfreeze, ids))
    for answer in streams.answers:
        assert answer.code in histories[answer.ask.card_id].during(answer)
    require_exact_counts(streams.answers)


def test_an_unbound_card_belongs_to_the_machine_that_came_first(proxied: Service, operator: CardActions) -> None:
    (card_id,) = write_bound(1, utc_now())
    mine, others = own(card_id), Ask(card_id, "another machine", "203.0.113.9")
    history = History(mine.hardware)
    with streams_of(proxied, mine, others) as streams:
        for _ in range(ACTIONS):
            streams.wait_for_answers(BETWEEN)
            history.change(None, partial(operator.apply, Action.UNBIND, [card_id]))
            streams.wait_for_answers(1, lambda answer: answer.code == "OK")  # it is bound again
    binders = [event.hardware for event in Event.select().where(Event.kind == EventKind.BOUND).order_by(Event.id)]
    assert len(binders) == ACTIONS
    history.states[1:] = binders
    for answer in streams.answers:
        owners = history.during(answer)
        assert answer.ask.hardware in owners if answer.code == "OK" else owners - {answer.ask.hardware}
        assert answer.code in {"OK", "CLIENT_MISMATCH"}
    client = Client.get()
    assert client.hardware == binders[-1]
    assert client.ip == (mine if binders[-1] == mine.hardware else others).address
    require_exact_counts(streams.answers)
