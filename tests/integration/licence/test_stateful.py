"""The rules on a real PostgreSQL, compared with a small model in random sequences of requests and actions."""
# Owns verdict-model.

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from app.domain.cards.card_actions import Action
from app.services.cards.card_actions import CardActions
from app.services.cards.issuing import Issuing
from app.services.licence.licence import Verification
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.conftest import START, Clock
from tests.support.licence.bound_cards import ask, claims

CARDS = 4
MACHINES = st.sampled_from(["h1", "h2", "h3"])
ADDRESSES = st.sampled_from(["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"])
NETWORK = {"2001:db8::2": "2001:db8::1"}  # of the addresses above, these two count as one
INDEX = st.integers(0, CARDS - 1)
DAY = timedelta(days=1)


@dataclass
class ModelCard:
    """A card in the model: the protocol's section 2, implemented a second time in another way."""

    validity: timedelta | None
    expires: datetime | None = None
    activated: bool = False
    frozen: bool = False
    machine: str | None = None
    address: str | None = None

    def live(self, now: datetime) -> bool:
        return self.activated and not self.frozen and not self.expired(now)

    def expired(self, now: datetime) -> bool:
        return self.activated and self.expires is not None and now >= self.expires

    def release(self) -> None:
        self.machine = self.address = None


@dataclass
class Model:
    cards: list[ModelCard] = field(default_factory=list)

    def ask(self, index: int, machine: str, address: str, now: datetime) -> str:
        card = self.cards[index]
        if card.frozen:
            return "CARD_FROZEN"
        if card.expired(now):
            return "CARD_EXPIRED"
        if card.machine is not None and card.machine != machine and card.address != address:
            return "CLIENT_MISMATCH"
        for other in self.cards:
            if other is not card and other.machine == machine:
                if other.live(now):
                    return "CLIENT_HAS_ANOTHER_CARD"
                other.release()
        if not card.activated:
            card.activated = True
            card.expires = None if card.validity is None else now.replace(microsecond=0) + card.validity
        card.machine, card.address = machine, address
        return "OK"


def machine_of(  # noqa: C901  # the rules stand together
    database: Database, verification: Verification, card_actions: CardActions, issuing: Issuing, clock: Clock
) -> type[RuleBasedStateMachine]:
    class Customers(RuleBasedStateMachine):
        @initialize(validities=st.lists(st.sampled_from([DAY, 3 * DAY, None]), min_size=CARDS, max_size=CARDS))
        def issue(self, validities: list[timedelta | None]) -> None:
            database.execute_sql("SET session_replication_role = replica")
            database.execute_sql("DELETE FROM usage; DELETE FROM client; DELETE FROM event; DELETE FROM card")
            database.execute_sql("SET session_replication_role = DEFAULT")
            clock.now = START
            self.ids = [issuing.issue(1, validity).cards[0].id for validity in validities]
            self.model = Model([ModelCard(validity) for validity in validities])

        @rule(index=INDEX, machine=MACHINES, address=ADDRESSES)
        def ask(self, index: int, machine: str, address: str) -> None:
            verdict = ask(verification, self.ids[index], machine, address)
            expected = self.model.ask(index, machine, NETWORK.get(address, address), clock.now)
            assert verdict.code == expected
            told = claims(verdict)
            assert told["accepted"] is ("KERNAL_DATA_KEY" in told) is (expected == "OK")
            if expected.startswith("CLIENT"):
                assert Event.select().where(Event.reference == verdict.reference).count() == 1
            self.compare()

        @rule(index=INDEX)
        def freeze(self, index: int) -> None:
            card_actions.apply(Action.FREEZE, [self.ids[index]])
            self.model.cards[index].frozen = True
            self.compare()

        @rule(index=INDEX)
        def unfreeze(self, index: int) -> None:
            outcome = card_actions.apply(Action.UNFREEZE, [self.ids[index]])
            card = self.model.cards[index]
            told = card.frozen and card.activated and not card.expired(clock.now) and card.machine is None
            card.frozen = False
            assert bool(outcome.revived_unbound) is told
            self.compare()

        @rule(index=INDEX)
        def unbind(self, index: int) -> None:
            card_actions.apply(Action.UNBIND, [self.ids[index]])
            self.model.cards[index].release()
            self.compare()

        @precondition(lambda self: any(card.validity for card in self.model.cards))
        @rule(data=st.data())
        def extend(self, data: st.DataObject) -> None:
            index = data.draw(st.sampled_from([i for i, card in enumerate(self.model.cards) if card.validity]))
            card_actions.apply(Action.EXTEND, [self.ids[index]], DAY)
            card = self.model.cards[index]
            assert card.validity is not None
            if card.expires is None:
                card.validity += DAY
            else:
                card.expires = max(card.expires, clock.now.replace(microsecond=0)) + DAY
            self.compare()

        @rule(by=st.sampled_from([timedelta(seconds=1), DAY - timedelta(seconds=1), DAY, 5 * DAY]))
        def wait(self, by: timedelta) -> None:
            clock.advance(by)

        def compare(self) -> None:
            """Compare all rows with the model: one card, one client, always."""
            for card_id, card in zip(self.ids, self.model.cards, strict=True):
                row, client = Card.get_by_id(card_id), Client.get_or_none(Client.card == card_id)
                assert (row.is_activated, row.expires_at) == (card.activated, card.expires)
                assert (row.frozen_at is not None) is card.frozen
                bound = None if client is None else (client.hardware, NETWORK.get(client.ip, client.ip))
                assert bound == (None if card.machine is None else (card.machine, card.address))

    return Customers


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("examples", [25, pytest.param(200, marks=pytest.mark.nightly)])
def test_the_service_behaves_as_the_model(
    database: Database,
    verification: Verification,
    card_actions: CardActions,
    issuing: Issuing,
    clock: Clock,
    examples: int,
) -> None:
    health = list(HealthCheck)
    run_state_machine_as_test(
        machine_of(database, verification, card_actions, issuing, clock),
        settings=settings(
            max_examples=examples, stateful_step_count=30, derandomize=True, suppress_health_check=health
        ),
    )
