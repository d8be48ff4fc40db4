"""Read the facts for the rules, and write decisions under a guard."""

from datetime import date, datetime

import peewee
from psycopg2.errors import ForeignKeyViolation, UniqueViolation

from app.domain.cards import Card
from app.domain.policy import Binding, Client, Decision, Facts, VerificationRequest
from app.storage import journal, models, usage
from app.storage.database import Database


def read_facts(database: Database, card_id: str, hardware_sha256: str) -> Facts:
    """Read the card, its client, and the other client with this hardware, at one moment."""
    rows = database.run_prepared("read_facts", card_id, hardware_sha256)
    if not rows:
        return Facts()
    row = rows[0]
    card = Card(card_id, *row[0:4])
    client = None if row[4] is None else Client(row[4], card_id, row[5], row[6])
    if row[7] is None:
        return Facts(card, client)
    return Facts(card, client, Client(*row[7:11]), Card(row[8], *row[11:]))


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
) -> bool:
    """Write an accepted decision in one transaction, if the facts still hold.

    Every writer of a card's rows locks the card first. With the cards locked, the facts are read again and compared.
    Two requests that share no card (one machine, two unused cards) conflict in the unique constraints instead.

    Returns:
        False when the facts no longer hold: read them and decide again.
    """
    if decision.card is None:
        raise ValueError("an accepted decision has a card")
    try:
        with database.atomic():
            lock_cards([decision.card.id] + ([decision.released.card_id] if decision.released else []))
            if read_facts(database, decision.card.id, request.hardware_sha256) != facts:
                return False
            if decision.activates:
                _activate(decision.card)
            _bind(decision, request, at, client_id)
            usage.count(decision.card.id, day, request.function, at)
            journal.append_counted(entries, day)
    except peewee.IntegrityError as error:
        if isinstance(error.orig, UniqueViolation | ForeignKeyViolation):
            return False
        raise
    return True


def lock_cards(card_ids: list[str]) -> list[models.Card]:
    """Lock cards for the rest of the transaction, always in the order of their IDs; return those that exist."""
    return list(
        models.Card.select()
        .where(models.Card.id.in_(card_ids))
        .order_by(models.Card.id)
        .for_update("FOR NO KEY UPDATE")
    )


def _activate(card: Card) -> None:
    (
        models.Card.update(is_activated=True, activated_at=card.activated_at, expires_at=card.expires_at)
        .where(models.Card.id == card.id)
        .execute()
    )


def _bind(decision: Decision, request: VerificationRequest, at: datetime, client_id: str) -> None:
    environment = {
        "card": request.card_id,
        "hardware": request.hardware,
        "hardware_sha256": request.hardware_sha256,
        "ip": request.address,
        "requested_at": at,
        "function": request.function,
    }
    released = decision.released
    if decision.binding is Binding.CREATE:
        models.Client.insert(id=client_id, **environment).execute()
    elif decision.binding is Binding.MOVE and released is not None:
        models.Client.update(**environment).where(models.Client.id == released.id).execute()
    else:
        if released is not None:
            models.Client.delete().where(models.Client.id == released.id).execute()
        models.Client.update(**environment).where(models.Client.card == request.card_id).execute()
