"""Cards in bulk, made inside PostgreSQL: all that belongs to card number i follows from i.

So wrk's Lua, which knows numbers and little else, names any of a million cards without a list.
"""

import contextlib
from datetime import UTC, date, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import psycopg2

from app.domain.licence.policy import OPEN_PROGRAM
from tests.bench.load import HARDWARE, Computer
from tests.support.sample_year import CARD_ID
from trial.environment import LOOPBACK

FIRST_CARD_ID = "10000000000000001000000000000000"

_CARDS = f"""
INSERT INTO card (id, validity, is_activated, activated_at, expires_at, created_at)
SELECT {CARD_ID}, interval '36500 days', %(bound)s,
       CASE WHEN %(bound)s THEN now() END, CASE WHEN %(bound)s THEN timestamptz '2100-01-01Z' END, now()
FROM generate_series(0, %(cards)s::bigint - 1) AS i
"""  # noqa: S608  # constants
_CLIENTS = f"""
INSERT INTO client (id, card_id, hardware, hardware_sha256, ip, requested_at, function)
SELECT {CARD_ID}, {CARD_ID}, %(hardware)s || i, encode(sha256(convert_to(%(hardware)s || i, 'UTF8')), 'hex'),
       %(ip)s, now(), %(function)s
FROM generate_series(0, %(cards)s::bigint - 1) AS i
"""  # noqa: S608  # constants
_USAGE = f"""
INSERT INTO usage (card_id, day, function, count, last_at)
SELECT {CARD_ID}, %(day)s, %(function)s, 1, now() FROM generate_series(0, %(cards)s::bigint - 1) AS i
"""  # noqa: S608  # constants


def noon_zone(now: datetime) -> ZoneInfo:
    """Return a time zone where it is about noon: the day must not change under a measurement."""
    return ZoneInfo(f"Etc/GMT{now.astimezone(UTC).hour - 12:+d}")


class CardTable(NamedTuple):
    """A database, migrated, for so many cards: bound ones (`is_bound`) or unused ones."""

    url: str
    cards: int
    day: date
    is_bound: bool = True

    def fill(self) -> None:
        """Make the cards, and leave the tables as autovacuum would: vacuumed, with statistics."""
        values = {
            "cards": self.cards,
            "bound": self.is_bound,
            "hardware": HARDWARE,
            "ip": LOOPBACK,
            "function": OPEN_PROGRAM,
            "day": self.day,
        }
        with contextlib.closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in (_CARDS, _CLIENTS, _USAGE) if self.is_bound else (_CARDS,):
                    cursor.execute(statement, values)
                cursor.execute("VACUUM (ANALYZE)")
                cursor.execute("CHECKPOINT")

    def accepted(self) -> int:
        """Return how many requests were ever accepted, by the usage counts."""
        return int(self._rows("SELECT coalesce(sum(count), 0) FROM usage")[0][0])

    def activated(self) -> int:
        """Return how many cards are activated and bound."""
        return int(self._rows("SELECT count(*) FROM card JOIN client ON card_id = card.id WHERE is_activated")[0][0])

    def computers(self, count: int) -> list[Computer]:
        """Return so many bound cards, or all if there are fewer."""
        rows = self._rows("SELECT card_id, hardware FROM client ORDER BY card_id LIMIT %s", count)
        return [Computer(*row) for row in rows]

    def _rows(self, question: str, *values: int) -> list[tuple[Any, ...]]:
        with contextlib.closing(psycopg2.connect(self.url)) as connection, connection.cursor() as cursor:
            cursor.execute(question, values or None)
            return cursor.fetchall()
