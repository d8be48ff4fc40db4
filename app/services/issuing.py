"""How cards come into being: issued, or imported from where they were sold before. All or nothing."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

import psycopg2

from app.domain.cards import ID_RANDOM_BYTES, format_validity, id_from_random
from app.domain.codes import EventKind
from app.domain.texts import RefusedError, check_text
from app.storage import cards as card_rows
from app.storage import journal
from app.storage.cards import NewCard
from app.storage.database import Database

MAX_COUNT = 1_000_000
JOURNALLED_BATCHES = 100


class Issuing:
    """New cards for one database.

    Args:
        database: Where they go.
        actor: Who acts, as the journal names them.
        clock: Returns the time now, aware.
    """

    def __init__(self, database: Database, actor: str, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._actor = actor
        self._clock = clock

    def issue(
        self,
        count: int,
        validity: timedelta | None,
        batch: str | None = None,
        note: str | None = None,
        progress: Callable[[int], None] = lambda _done: None,
    ) -> list[NewCard]:
        """Issue `count` new cards in one transaction.

        Args:
            count: How many, from 1 to `MAX_COUNT`.
            validity: How long each lasts once activated; None for permanent.
            batch: The vendor's name for these cards.
            note: The vendor's note on each.
            progress: Called with how many more are in.

        Raises:
            RefusedError: a number or a text is out of bounds.
        """
        if not 1 <= count <= MAX_COUNT:
            raise RefusedError(f"数量必须是 1 到 {MAX_COUNT}", f"the count must be from 1 to {MAX_COUNT}")
        check_text("batch", batch)
        check_text("note", note)
        new_cards = [
            NewCard(id_from_random(secrets.token_bytes(ID_RANDOM_BYTES)), validity, batch, note) for _ in range(count)
        ]
        now = self._clock()
        details: dict[str, object] = {"count": count, "batch": batch, "validity": format_validity(validity)}

        def write() -> None:
            with self._database.atomic():
                for done in card_rows.insert(self._database, new_cards, now):
                    progress(done)
                journal.append([journal.Entry(at=now, kind=EventKind.ISSUED, actor=self._actor, details=details)])

        self._database.with_connection(write, once=True)
        return new_cards

    def import_cards(self, new_cards: list[NewCard], progress: Callable[[int], None] = lambda _done: None) -> None:
        """Take in cards that were sold before, in one transaction; `app.services.imports` reads and checks them.

        Args:
            new_cards: The cards, each ID once and not here yet.
            progress: Called with how many more are in.

        Raises:
            RefusedError: one of them came in since it was looked up.
        """
        now = self._clock()
        batches = sorted({card.batch for card in new_cards if card.batch is not None})
        details: dict[str, object] = {"count": len(new_cards), "batches": batches[:JOURNALLED_BATCHES]}

        def write() -> None:
            with self._database.atomic():
                for done in card_rows.insert(self._database, new_cards, now):
                    progress(done)
                journal.append([journal.Entry(at=now, kind=EventKind.IMPORTED, actor=self._actor, details=details)])

        try:
            self._database.with_connection(write, once=True)
        except psycopg2.errors.UniqueViolation as error:
            raise RefusedError(
                "其间已有同样的卡密加入，未导入任何卡密，请重试",
                "one of these cards came in meanwhile: nothing was imported, try again",
            ) from error
