"""Issuing new cards and importing cards sold before, all or none."""

import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg2

from app.domain.cards.cards import ID_RANDOM_BYTES, format_validity, id_from_random
from app.domain.codes import EventKind
from app.domain.operators.operators import console_actor
from app.domain.programs import MAIN, named
from app.domain.texts import RefusedError, check_text
from app.services.journal import journal_lists
from app.services.journal.journal_lists import JournalFilter
from app.services.operators.ceilings import Acting
from app.services.programs import find
from app.storage import cards as card_rows
from app.storage import journal
from app.storage.cards import NewCard, Owner
from app.storage.models import Card, Event, Operator

MAX_COUNT = 1_000_000
JOURNALLED_BATCHES = 100


class Issued(NamedTuple):
    """New cards, and the time of their issue, which is that of the journal's entry."""

    at: datetime
    cards: list[NewCard]


class Issuing(Acting):
    """Adds cards to one database."""

    def issue(
        self,
        count: int,
        validity: timedelta | None,
        batch: str | None = None,
        note: str | None = None,
        program: str = MAIN,
    ) -> Issued:
        """Issue `count` new cards, from 1 to `MAX_COUNT`, in one transaction.

        Each lasts for `validity` once activated, None for ever. Raise RefusedError if a number or a text is out of
        bounds, ProgramNotFoundError, CeilingExceededError if the operator or the shop may not issue so many, or so long
        ones.
        """
        if not 1 <= count <= MAX_COUNT:
            raise RefusedError(f"数量必须是 1 到 {MAX_COUNT}", f"the count must be from 1 to {MAX_COUNT}")
        check_text("batch", batch)
        check_text("note", note)
        find(program)
        new_cards = [
            NewCard(id_from_random(secrets.token_bytes(ID_RANDOM_BYTES)), validity, batch, note, program=program)
            for _ in range(count)
        ]
        details: dict[str, object] = {"count": count, "batch": batch, "validity": format_validity(validity)}
        details |= named(program)
        return Issued(self._insert(new_cards, EventKind.ISSUED, details).at, new_cards)

    def import_cards(self, new_cards: list[NewCard]) -> journal.Entry:
        """Insert cards that were sold before, in one transaction; return the journal's entry.

        `app.services.imports.imports` reads and checks them: each ID is there once, and not in the database. Raise
        RefusedError if one was added since it was looked up, CeilingExceededError as `issue`.
        """
        batches = sorted({card.batch for card in new_cards if card.batch is not None})
        bound = sum(card.binding is not None for card in new_cards)
        details: dict[str, object] = {
            "count": len(new_cards),
            "batches": batches[:JOURNALLED_BATCHES],
            **({"bound": bound} if bound else {}),
            **(named(new_cards[0].program) if new_cards else {}),
        }
        try:
            return self._insert(new_cards, EventKind.IMPORTED, details)
        except psycopg2.errors.UniqueViolation as error:
            raise RefusedError(
                "其间已有同样的卡密或设备加入，未导入任何卡密，请重试",
                "one of these cards or machines was added meanwhile: nothing was imported, try again",
            ) from error

    def _insert(self, new_cards: list[NewCard], kind: EventKind, details: dict[str, object]) -> journal.Entry:
        entry = journal.Entry(at=self.clock(), kind=kind, actor=self.actor, details=details)
        # Imported cards are nobody's: only owners import, and they see every card.
        owner = Owner() if self.limits is None or kind is EventKind.IMPORTED else self.limits.owner

        with self.database.transact():
            if self.limits is not None:
                self.limits.take(new_cards, entry.at)
            card_rows.insert(self.database, new_cards, entry.at, owner)
            journal.append([entry])
        return entry


def recent_issues(seller: Operator | None, limit: int) -> list[Event]:
    """Return the newest entries of issues: the seller's own, or those of all operators where `seller` is None."""
    if seller is None:
        return journal_lists.issued_by_hand(limit)
    own = JournalFilter(kind=EventKind.ISSUED, actor=console_actor(seller.name), since=seller.created_at)
    return journal_lists.page(own, limit=limit).rows


def issue_at(at: datetime, seller: Operator | None, limit: int) -> tuple[Event, list[NewCard]] | None:
    """Return the entry of the issue at a moment, and up to `limit` of its cards; None if it is not this seller's."""
    if seller is not None and at < seller.created_at:
        return None
    actor = None if seller is None else console_actor(seller.name)
    moment = JournalFilter(kind=EventKind.ISSUED, actor=actor, since=at, until=at + timedelta(microseconds=1))

    for event in journal_lists.page(moment, limit=1).rows:
        # With what batch and note say now.
        columns = (Card.id, Card.validity, Card.batch, Card.note)
        issued = Card.select(*columns).where(Card.created_at == at).order_by(Card.id).limit(limit)
        return event, list(issued.objects(NewCard))
    return None
