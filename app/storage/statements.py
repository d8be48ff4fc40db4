"""The two statements that verifications begin with, rendered from the models and prepared once per connection."""

from peewee import CTE, JOIN, SQL, Query, Select, fn

from app.storage.models import Card, Client, Usage

_CARD = (Card.validity, Card.activated_at, Card.expires_at, Card.frozen_at)
_CLIENT = (Client.id, Client.hardware, Client.ip)


def _read_facts() -> Query:
    """Read the card ($1 ID), its client, and another card's client with the hardware ($2 SHA-256)."""
    rival, rival_card = Client.alias("rival"), Card.alias("rival_card")
    return (
        Card.select(
            *_CARD,
            *_CLIENT,
            rival.id,
            rival.card,
            rival.hardware,
            rival.ip,
            rival_card.validity,
            rival_card.activated_at,
            rival_card.expires_at,
            rival_card.frozen_at,
        )
        .join(Client, JOIN.LEFT_OUTER)
        .switch()
        .join(
            rival,
            JOIN.LEFT_OUTER,
            on=((rival.hardware_sha256 == SQL("$2::text")) & (rival.card != Card.id)),
        )
        .join(rival_card, JOIN.LEFT_OUTER)
        .where(Card.id == SQL("$1::text"))
    )


def _touch() -> Query:
    """Record the requests of bound cards where nothing changes, and return their facts; no row for any other.

    Arrays with a member for each card: $1 card IDs, sorted, $2 SHA-256s of the hardware, $3 addresses, $4 functions,
    $5 numbers of requests that are recorded as one. For all: $6 day, $7 time.

    The conditions are no second home of the rules: where they hold, the rules accept and change nothing, and all else
    is decided elsewhere. The usage row must exist: the day's first request of a function takes `bindings.apply`. They
    are checked again when the statement has waited for a client's row, so a client that was unbound or moved to
    another card meanwhile is left alone.
    """
    asked = CTE("asked", Select((), [fn.UNNEST(SQL(parameter)).alias(name) for name, parameter in _ASKED.items()]))
    day, at = SQL("$6::date"), SQL("$7::timestamptz")
    of_card = (Usage.card == asked.c.card) & (Usage.day == day) & (Usage.function == asked.c.function)
    seen = CTE(
        "seen",
        Client.update(requested_at=at, function=asked.c.function)
        .from_(asked, Card)
        .where(
            (Client.card == asked.c.card)
            & (Client.hardware_sha256 == asked.c.hardware_sha256)
            & (Client.ip == asked.c.ip)
            & (Card.id == Client.card)
            & Card.is_activated
            & Card.frozen_at.is_null()
            & (Card.expires_at.is_null() | (Card.expires_at > at))
            & fn.EXISTS(Usage.select().where(of_card))
        )
        .returning(Card.id.alias("card"), *_CARD, *_CLIENT, asked.c.function, asked.c.times),
    )
    counted = CTE(
        "counted",
        Usage.update(count=Usage.count + seen.c.times, last_at=at)
        .from_(seen)
        .where((Usage.card == seen.c.card) & (Usage.day == day) & (Usage.function == seen.c.function)),
    )
    facts = [seen.c[field.column_name] for field in (*_CARD, *_CLIENT)]
    return Select((seen,), (seen.c.card, *facts)).with_cte(asked, seen, counted)


_ASKED = {
    "card": "$1::text[]",
    "hardware_sha256": "$2::text[]",
    "ip": "$3::text[]",
    "function": "$4::text[]",
    "times": "$5::int[]",
}
PREPARED = {"read_facts": _read_facts, "touch": _touch}
"""Functions that make the statements, by name; arguments in the order of their `$` numbers."""
