"""Read the facts for the rules, and write decisions under a guard."""

import json
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

import peewee
import psycopg2
from psycopg2.errors import ForeignKeyViolation, UniqueViolation

from app.domain.cards.cards import CardFacts
from app.domain.licence.policy import Binding, ClientFacts, Decision, Facts, VerificationRequest
from app.domain.programs import MAIN
from app.storage import journal, models
from app.storage.database import Database
from app.storage.statements import NEW_CLIENT, OTHER_FUNCTIONS


def read_facts(
    database: Database, card_id: str, hardware_sha256: str, day: date | None = None, program: str = MAIN
) -> Facts:
    """Read the card, its client, and the program's other client with this hardware, at one moment.

    With a day, read how often the card's environment changed on it, too: first, so that a change between the two is
    seen as the client's and not counted against the very machine that made it. Who holds the card's lock sees all.
    """
    changes = None if day is None else journal.changes_of_day(card_id, day)
    rows = database.run_prepared("read_facts", card_id, hardware_sha256, program)
    if not rows:
        return Facts()
    row = rows[0]
    card = CardFacts(card_id, *row[0:5])._replace(is_imported=row[8], program=row[9])
    client = None if row[5] is None else ClientFacts(row[5], card_id, row[6], row[7])
    if row[10] is None:
        return Facts(card, client, changes_today=changes, day_counted=day)
    rival_card = CardFacts(row[11], *row[14:])._replace(program=program)
    return Facts(card, client, ClientFacts(*row[10:14]), rival_card, changes, day)


def apply(  # noqa: PLR0913  # one decision and all that is written with it
    database: Database,
    facts: Facts,
    decision: Decision,
    request: VerificationRequest,
    *,
    at: datetime,
    day: date,
    entries: list[journal.Entry],
    client_id: str,
    are_current: Callable[[], bool] = lambda: True,
) -> bool:
    """Write an accepted decision in one transaction, if the facts still hold.

    Every writer of a card's rows locks the card first. With the cards locked, the facts are read again and compared.
    Two requests that share no card (one machine, two unused cards) conflict in the unique constraints instead.
    Waiting for the lock may take seconds: `are_current` then says whether what the decision was made by still is.
    Return False when the facts no longer hold: read them and decide again.
    """
    if facts.card is None or decision.card is None:
        raise ValueError("an accepted decision has a card")
    environment = {
        "card": decision.card.id,
        "hardware": request.hardware,
        "hardware_sha256": request.hardware_sha256,
        "ip": request.address,
        "requested_at": at,
        "function": request.function,
    }
    try:
        if decision.binding is Binding.CREATE:
            client = {"client": client_id, "day": day, **environment}
            return _create_client(database, facts.card, decision.card, client, *entries)
        with database.transact():
            lock_cards([decision.card.id] + ([decision.released.card_id] if decision.released else []))
            asked = (decision.card.id, request.hardware_sha256, facts.day_counted, request.program)
            if not are_current() or read_facts(database, *asked) != facts:
                return False
            if decision.activates:
                times = {"activated_at": decision.card.activated_at, "expires_at": decision.card.expires_at}
                models.Card.update(is_activated=True, **times).where(models.Card.id == decision.card.id).execute()
            _bind(decision, environment)
            database.run_prepared("count_usage", decision.card.id, day, request.function, at)
            journal.append_counted(entries, day)
    except (peewee.IntegrityError, psycopg2.IntegrityError) as error:
        if isinstance(getattr(error, "orig", error), UniqueViolation | ForeignKeyViolation):
            return False
        raise
    return True


def _create_client(
    database: Database, before: CardFacts, after: CardFacts, client: dict[str, Any], entry: journal.Entry
) -> bool:
    """Do what most first requests of a card need in one statement, which is its own guard and transaction."""
    values = {
        **entry.row(),
        "details": None if entry.details is None else json.dumps(entry.details),
        **client,
        "validity": before.validity,
        "activated_at_before": before.activated_at,
        "expires_at_before": before.expires_at,
        "activated_at": after.activated_at,
        "expires_at": after.expires_at,
    }
    return bool(database.run_prepared("create_client", *(values[name] for name in NEW_CLIENT)))


def lock_cards(card_ids: list[str]) -> list[models.Card]:
    """Lock cards for the rest of the transaction, always in the order of their IDs; return those that exist."""
    return list(
        models.Card.select()
        .where(models.Card.id.in_(card_ids))
        .order_by(models.Card.id)
        .for_update("FOR NO KEY UPDATE")
    )


def take_back(request: VerificationRequest, day: date) -> None:
    """Take back one counted request, whose function turned out not to exist."""
    of_the_day = (models.Usage.card == request.card_id) & (models.Usage.day == day)
    is_counted = models.Usage.select().where(of_the_day & (models.Usage.function == request.function)).exists()
    row = of_the_day & (models.Usage.function == (request.function if is_counted else OTHER_FUNCTIONS))
    # In this order: of two at once, the second waits for the first, and then deletes the row.
    if not models.Usage.update(count=models.Usage.count - 1).where(row & (models.Usage.count > 1)).execute():
        models.Usage.delete().where(row & (models.Usage.count == 1)).execute()


def _bind(decision: Decision, environment: dict[str, Any]) -> None:
    released = decision.released
    if decision.binding is Binding.MOVE and released is not None:
        models.Client.update(**environment).where(models.Client.id == released.id).execute()
    else:
        if released is not None:
            models.Client.delete().where(models.Client.id == released.id).execute()
        models.Client.update(**environment).where(models.Client.card == environment["card"]).execute()
