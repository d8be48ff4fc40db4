"""Cards in bulk, made inside PostgreSQL: all that belongs to card number i follows from i.

So wrk's Lua, which knows numbers and little else, names any of a million cards without a list.
"""

import contextlib
from datetime import date
from typing import Any

import psycopg2

from app.domain.licence.policy import OPEN_PROGRAM
from tests.bench.load import HARDWARE
from tests.support.sample_year import CARD_ID
from trial.environment import LOOPBACK

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


def fill(url: str, cards: int, day: date, *, is_bound: bool) -> None:
    """Make cards in a migrated database, and leave its tables as autovacuum would: vacuumed, with statistics.

    Args:
        url: The database's.
        cards: How many.
        day: The day on which bound cards have been used already.
        is_bound: Whether they are bound, or unused.
    """
    values = {"cards": cards, "bound": is_bound, "day": day}
    values |= {"hardware": HARDWARE, "ip": LOOPBACK, "function": OPEN_PROGRAM}
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in (_CARDS, _CLIENTS, _USAGE) if is_bound else (_CARDS,):
                cursor.execute(statement, values)
            cursor.execute("VACUUM (ANALYZE)")
            cursor.execute("CHECKPOINT")


def accepted(url: str) -> int:
    """Return how many requests were ever accepted, by the usage counts."""
    return int(value(url, "SELECT coalesce(sum(count), 0) FROM usage"))


def activated(url: str) -> int:
    """Return how many cards are activated and bound."""
    return int(value(url, "SELECT count(*) FROM card JOIN client ON card_id = card.id WHERE is_activated"))


def value(url: str, question: str) -> Any:
    """Return the one value that a question to the database has for an answer."""
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchall()[0][0]
