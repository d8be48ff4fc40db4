"""The simulation behind the thresholds (`scripts/bench.sh --sharing`): it follows the rules, and what it shows."""

from statistics import median_low
from typing import Any

from app.services.licence import LicenceService
from app.storage.database import Database
from app.storage.models import Card, DailyCount, Event
from bench.customers import HONEST, SHARERS, Kind
from bench.sharing import FIRST_DAY, QUICK, asked_for, customers, live, moment, simulate
from tests.conftest import Clock


def written(database: Database) -> tuple[list[Any], list[Any]]:
    fields = (Event.at, Event.kind, Event.card_id, Event.ip, Event.ip_network, Event.hardware, Event.function)
    changes = Event.select(*fields, Event.details).where(Event.kind == "environment_changed")
    entries, counts = list(changes.order_by(Event.card_id, Event.at, Event.id).tuples()), DailyCount.select()
    order = (DailyCount.card_id, DailyCount.day, DailyCount.kind)
    changed = counts.where(DailyCount.kind.in_(["hardware_changed", "address_changed"]))
    return entries, list(changed.order_by(*order).tuples())


def test_the_simulation_writes_what_the_service_writes(
    database: Database, licences: LicenceService, clock: Clock
) -> None:
    numbers = dict.fromkeys((Kind.LAPTOP, Kind.MOBILE, *SHARERS), 1)
    live(customers(numbers), FIRST_DAY)
    simulated = written(database)
    Event.delete().execute()
    DailyCount.delete().execute()
    for customer in customers(numbers):
        card = customer.card
        issued = card.activated_at
        Card.insert(id=card.id, is_activated=True, activated_at=issued, created_at=issued).execute()
        for request in next(customer.days):
            clock.now = moment(FIRST_DAY, request)
            licences.evaluate(asked_for(card.id, request))
    really = written(database)
    assert really[1] == simulated[1]
    assert really[0] == simulated[0]
    assert len(simulated[0]) > 50
    assert max(count for _card, _day, _kind, count, _at, _places in simulated[1]) > 50


def test_sharers_are_shown_and_honest_customers_are_not(database: Database) -> None:
    shown = simulate(database, QUICK, days=9)
    assert len(shown.by_day) == 3
    for kind in SHARERS:
        assert median_low(shown.on_days(kind)) >= 19, kind
        assert shown.ever(kind) >= 19, kind
    honest = sum(QUICK[kind] for kind in HONEST)
    assert sum(shown.ever(kind) for kind in HONEST) <= honest / 100
