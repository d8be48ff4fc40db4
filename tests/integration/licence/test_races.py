"""Activations in races, of which exactly one wins, and streams of requests beside operators and under a database or a
worker that is killed: what was answered stands."""
# Owns verdict-races, verdict-faults.

import contextlib
import json
import os
import signal
from collections import Counter, deque
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
from app.runtime.clock import utc_now
from app.services.cards.card_actions import CardActions
from app.storage.database import Database, connect_to
from app.storage.models import Card, Client, Event, Usage
from tests.integration.conftest import with_keys
from tests.support.concurrency import at_once
from tests.support.licence.bound_cards import hardware_of, write_bound
from tests.support.services.processes import children_of
from tests.support.services.raw_http import RawConnection, posting
from tests.support.services.service import Response, Service, question, wait_for
from trial.postgres import EmbeddedPostgres
from trial.programs import TrialError

CARDS, MACHINES, THREADS = 200, 8, 8


def asking(service: Service, card_id: str, machine: int, round_: int = 0) -> Callable[[], Response]:
    document = question(card_id, hardware=f"machine {round_}-{machine}")
    return lambda: service.verify(document, address=f"10.{round_ // 250}.{round_ % 250}.{machine + 1}")


def codes(answers: list[Response]) -> list[Any]:
    return sorted(answer.claims["code"] for answer in answers)


def test_of_eight_machines_that_race_for_a_card_one_wins(proxied: Service) -> None:
    for number, card_id in enumerate(proxied.issue(CARDS)):
        answers = at_once([asking(proxied, card_id, machine, number) for machine in range(MACHINES)])
        assert codes(answers) == ["CLIENT_MISMATCH"] * (MACHINES - 1) + ["OK"], card_id
        (winner,) = (a for a in answers if a.status == 200)
        assert winner.claims["activated"] is True
        assert Client.get(Client.card == card_id).hardware_sha256 == winner.claims["hardware_sha256"]
    assert Event.select().where(Event.kind == "activated").count() == CARDS
    assert Event.select().where(Event.code == "CLIENT_MISMATCH").count() == CARDS * (MACHINES - 1)


def test_a_machine_that_sends_four_cards_at_once_gets_one(proxied: Service) -> None:
    for number in range(20):
        issued = proxied.issue(4)
        answers = at_once([asking(proxied, card_id, 0, number) for card_id in issued])
        assert codes(answers) == ["CLIENT_HAS_ANOTHER_CARD"] * 3 + ["OK"]
        assert Card.select().where(Card.id.in_(issued) & Card.is_activated).count() == 1


def test_an_extension_during_an_activation_is_not_lost(proxied: Service) -> None:
    for number in range(5):
        (card_id,) = proxied.issue(validity="1d")
        with ThreadPoolExecutor(2) as pool:
            extending = pool.submit(proxied.run_cardctl, "card", "extend", card_id, "--by", "1d")
            while not extending.done():
                assert asking(proxied, card_id, 0, number)().status == 200
        card = Card.get_by_id(card_id)
        assert (card.expires_at - card.activated_at).days == 2


NEW_CARDS = """
INSERT INTO card (id, validity, created_at) SELECT lpad(number::text, 32, '0'), '30 days', now()
FROM generate_series(1, 60000) AS number RETURNING id
"""  # `card issue` would take longer than all else here


def starts(postgres: EmbeddedPostgres) -> bool:
    """Whether it starts: not before the last process of a killed server has ended."""
    try:
        postgres.start()
    except TrialError:
        return False
    return True


def test_a_service_that_starts_before_its_database_recovers(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    with Service(tmp_path, own_postgres.url()) as first:
        (card_id,) = first.issue()
    own_postgres.stop()
    with Service(tmp_path, own_postgres.url()) as service:
        assert service.verify(question(card_id)).status == 503
        own_postgres.start()
        wait_for(lambda: service.verify(question(card_id)).status == 200)


CONNECTIONS = 4  # of each card and machine, so that all four workers serve it
ACTIONS = 8
BETWEEN = 20  # so many answers of a card come between two actions on it
PAUSE_SECONDS = 0.02  # of a client that got no answer, or 503
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


def has_status(status: int) -> Callable[[Answered], bool]:
    return lambda answer: answer.status == status


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
    found, acknowledged, asked = counted(), *(by_card(streams.answers, each) for each in ({200}, {0, 200, 503}))
    assert [card_id for card_id in ids if not acknowledged[card_id] <= found[card_id] <= asked[card_id]] == []


def test_a_killed_database_has_all_acknowledged_activations(own_postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    database = connect_to(Database(own_postgres.url(), bulk=True))
    with Service(tmp_path, own_postgres.url(), **PROXIED) as service:
        new = deque(card_id for (card_id,) in database.execute_sql(NEW_CARDS))
        database.close()
        with Streams(service, [lambda: own(new.popleft())] * THREADS) as streams:
            streams.wait_for_answers(50, has_status(200))
            assert own_postgres.pid
            os.kill(own_postgres.pid, signal.SIGKILL)
            own_postgres.stop()
            streams.wait_for_answers(30, has_status(503))
            assert (service.get("/healthz").status, service.get("/readyz").status) == (200, 503)
            wait_for(lambda: starts(own_postgres))
            streams.wait_for_answers(200, has_status(200))
        assert service.get("/readyz").status == 200
    assert {answer.status for answer in streams.answers} == {200, 503}
    assert all(answer.says_when_again for answer in streams.answers if answer.status == 503)
    with database.connection_context():
        activated = {row.id for row in Card.select(Card.id).where(Card.is_activated)}
    assert by_card(streams.answers, {200}).keys() <= activated


class History:
    """A card's states; each may have held from the action that began it to the one that ended it."""

    def __init__(self, state: str) -> None:
        self._held = [(state, 0.0, float("inf"))]

    def change(self, state: str, action: Callable[[], object]) -> None:
        (before, since, _until), begun = self._held.pop(), monotonic()
        action()
        self._held += [(before, since, monotonic()), (state, begun, float("inf"))]

    def during(self, answer: Answered) -> set[str]:
        return {state for state, since, until in self._held if since <= answer.received and answer.sent <= until}


@pytest.fixture
def operator(database: Database, proxied: Service) -> Iterator[CardActions]:
    """Acts beside requests; neither meets a deadlock, which never ends an operator's transaction here."""
    database.execute_sql("SET deadlock_timeout = '60s'")
    database.connect_params["options"] += " -c deadlock_timeout=60s"  # in other threads
    begun = len(proxied.log.read_bytes())
    yield CardActions(database, "operator", utc_now)
    log = proxied.log.read_bytes()[begun:].decode()
    assert ("deadlock" in log, "Traceback" in log) == (False, False)


def test_a_card_is_refused_exactly_while_it_is_frozen(proxied: Service, operator: CardActions) -> None:
    ids = write_bound(4, utc_now())
    histories = {card_id: History("OK") for card_id in ids}

    def freeze_and_unfreeze(card_id: str) -> None:
        for action, code in ((Action.FREEZE, "CARD_FROZEN"), (Action.UNFREEZE, "OK")) * (ACTIONS // 2):
            streams.wait_for_answers(BETWEEN, lambda answer: answer.ask.card_id == card_id)
            histories[card_id].change(code, partial(operator.apply, action, [card_id]))
        streams.wait_for_answers(BETWEEN, lambda answer: answer.ask.card_id == card_id)

    sources = [partial(own, card_id) for card_id in ids for _ in range(CONNECTIONS)]
    with Streams(proxied, sources) as streams, ThreadPoolExecutor(4) as pool:
        list(pool.map(freeze_and_unfreeze, ids))
    for answer in streams.answers:
        assert answer.code in histories[answer.ask.card_id].during(answer)
    assert counted() == Counter(answer.ask.card_id for answer in streams.answers if answer.code == "OK")
