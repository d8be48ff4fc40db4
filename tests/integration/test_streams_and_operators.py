"""Operators' actions beside streams of refreshes: each answer is right for a moment between request and answer."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import pytest

from app.clock import utc_now
from app.domain.card_actions import Action
from app.domain.codes import EventKind
from app.domain.texts import RefusedError
from app.services.card_actions import CardActions
from app.storage.database import Database
from app.storage.models import Card, Client, Event, Usage
from tests.support.bound_cards import hardware_of, write_bound
from tests.support.service import Service
from tests.support.streams import Answered, Ask, Streams, own

CONNECTIONS = 4
"""Of each card and machine, so that all four workers serve it."""
ACTIONS = 8
BETWEEN = 20
"""How many answers of a card come between two actions on it."""


@dataclass
class Held:
    """A state, and the time in which it may have held: from the action that began it to the one that ended it."""

    state: Any
    since: float = 0.0
    until: float = float("inf")

    def overlaps(self, answer: Answered) -> bool:
        return self.since <= answer.received and answer.sent <= self.until


class History:
    """The states that actions gave a card, or several together."""

    def __init__(self, state: object) -> None:
        self.held = [Held(state)]

    def change(self, state: object, action: Callable[[], object]) -> None:
        begun = monotonic()
        action()
        self.held[-1].until = monotonic()
        self.held.append(Held(state, begun))

    def during(self, answer: Answered) -> set[Any]:
        """The states that may have held at some moment between request and answer."""
        return {held.state for held in self.held if held.overlaps(answer)}


@pytest.fixture
def operator(database: Database) -> CardActions:
    # So that a deadlock never ends an operator's transaction, in this thread and in others.
    database.execute_sql("SET deadlock_timeout = '60s'")
    database.connect_params["options"] += " -c deadlock_timeout=60s"
    return CardActions(database, "operator", utc_now)


@pytest.fixture
def quiet_log(proxied: Service) -> Iterator[None]:
    """The log tells of no trouble, of which deadlocks are the likeliest here."""
    begun = len(proxied.log.read_bytes())
    yield
    log = proxied.log.read_bytes()[begun:].decode()
    assert "deadlock" not in log
    assert "Traceback" not in log


def streams_of(service: Service, *asks: Ask) -> Streams:
    return Streams(service, [partial(lambda ask: ask, ask) for ask in asks for _ in range(CONNECTIONS)])


def of(card_id: str) -> Callable[[Answered], bool]:
    return lambda answer: answer.ask.card_id == card_id


def require_exact_counts(answers: list[Answered]) -> None:
    """Require that each accepted request was counted, once, and no other."""
    counted: Counter[str] = Counter()
    for row in Usage.select():
        counted[row.card_id] += row.count
    assert counted == Counter(answer.ask.card_id for answer in answers if answer.code == "OK")


@pytest.mark.usefixtures("quiet_log")
def test_a_card_is_refused_exactly_while_it_is_frozen(proxied: Service, operator: CardActions) -> None:
    ids = write_bound(4, utc_now())
    histories = {card_id: History("OK") for card_id in ids}

    def freeze_and_unfreeze(card_id: str) -> None:
        for number in range(ACTIONS):
            streams.wait_for_answers(BETWEEN, of(card_id))
            action, code = (Action.UNFREEZE, "OK") if number % 2 else (Action.FREEZE, "CARD_FROZEN")
            histories[card_id].change(code, partial(operator.apply, action, [card_id]))
        streams.wait_for_answers(BETWEEN, of(card_id))

    with streams_of(proxied, *map(own, ids)) as streams, ThreadPoolExecutor(4) as pool:
        list(pool.map(freeze_and_unfreeze, ids))
    for answer in streams.answers:
        assert answer.code in histories[answer.ask.card_id].during(answer)
    require_exact_counts(streams.answers)


@pytest.mark.usefixtures("quiet_log")
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
    for held, hardware in zip(history.held[1:], binders, strict=True):
        held.state = hardware
    for answer in streams.answers:
        owners = history.during(answer)
        is_right = answer.ask.hardware in owners if answer.code == "OK" else owners - {answer.ask.hardware}
        assert is_right
        assert answer.code in {"OK", "CLIENT_MISMATCH"}
    client = Client.get()
    assert client.hardware == binders[-1]
    assert client.ip == (mine if binders[-1] == mine.hardware else others).address
    require_exact_counts(streams.answers)


@pytest.mark.usefixtures("quiet_log")
def test_actions_on_many_cards_in_any_order_meet_no_deadlock(proxied: Service, operator: CardActions) -> None:
    ids = write_bound(12, utc_now())
    with streams_of(proxied, *map(own, ids)) as streams:
        for number in range(ACTIONS):
            streams.wait_for_answers(len(ids))
            for action in (Action.UNBIND, Action.FREEZE, Action.UNFREEZE):
                operator.apply(action, ids[::-1] if number % 2 else ids)
        streams.wait_for_answers(len(ids), lambda answer: answer.code == "OK")
    assert {answer.code for answer in streams.answers} <= {"OK", "CARD_FROZEN"}
    assert {client.card_id: client.hardware for client in Client.select()} == {i: hardware_of(i) for i in ids}
    require_exact_counts(streams.answers)


@pytest.mark.usefixtures("quiet_log")
def test_a_card_is_either_deleted_or_activated(proxied: Service, operator: CardActions) -> None:
    (busy,), fresh = write_bound(1, utc_now()), proxied.issue(24)
    target = own(busy)
    deleted = []
    with Streams(proxied, [lambda: target] * 2 * CONNECTIONS) as streams:
        streams.wait_for_answers(BETWEEN)
        for card_id in fresh:
            target = own(card_id)
            if card_id == fresh[0]:
                streams.wait_for_answers(1, of(card_id))
            with contextlib.suppress(RefusedError):
                operator.apply(Action.DELETE, [card_id])
                deleted.append(card_id)
            streams.wait_for_answers(BETWEEN, of(card_id))
            target = own(busy)
    assert fresh[0] not in deleted
    first: dict[str, str] = {}
    for answer in sorted(streams.answers, key=lambda answer: answer.received):
        # The first answer settles it.
        assert first.setdefault(answer.ask.card_id, answer.code) == answer.code
    assert first == {busy: "OK"} | {card_id: "CARD_NOT_FOUND" if card_id in deleted else "OK" for card_id in fresh}
    assert {card.id for card in Card.select()} == {busy, *fresh} - set(deleted)
    require_exact_counts(streams.answers)
