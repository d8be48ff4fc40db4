"""The statements that verifications need most, rendered from the models and prepared once per connection."""

from typing import Any

from peewee import CTE, JOIN, SQL, Expression, Query, Select, fn

from app.storage.models import Card, Client, Event, Usage
from app.storage.usage import counting

_CARD = (Card.validity, Card.activated_at, Card.expires_at, Card.frozen_at, Card.renewed_card_id)
_CLIENT = (Client.id, Client.hardware, Client.ip)
_IS_IMPORTED = Card.imported_key.is_null(is_null=False).alias("is_imported")


def _read_facts() -> Query:
    """Read the card ($1 ID), its client, and another card's client with the hardware ($2 SHA-256)."""
    rival, rival_card = Client.alias("rival"), Card.alias("rival_card")
    return (
        Card.select(
            *_CARD,
            *_CLIENT,
            _IS_IMPORTED,
            rival.id,
            rival.card,
            rival.hardware,
            rival.ip,
            rival_card.validity,
            rival_card.activated_at,
            rival_card.expires_at,
            rival_card.frozen_at,
            rival_card.renewed_card_id,
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


def _create_client() -> Query:
    """Bind a card without a client to a new machine, with all that belongs to it, if the card is still as it was.

    Returns a row if it was. A client that the card or the machine has meanwhile violates a unique constraint.
    """
    value = {name: SQL(f"${number}::{kind}") for number, (name, kind) in enumerate(NEW_CLIENT.items(), 1)}
    bound = CTE(
        "bound",
        Card.update(is_activated=True, activated_at=value["activated_at"], expires_at=value["expires_at"])
        .where(
            (Card.id == value["card"])
            & _is(Card.validity, value["validity"])
            & _is(Card.activated_at, value["activated_at_before"])
            & _is(Card.expires_at, value["expires_at_before"])
            & Card.frozen_at.is_null()
            & Card.renewed_card_id.is_null()
        )
        .returning(Card.id.alias("card")),
    )
    card = bound.c.card
    client = {
        Client.id: value["client"],
        Client.card: card,
        Client.hardware: value["hardware"],
        Client.hardware_sha256: value["hardware_sha256"],
        Client.ip: value["ip"],
        Client.requested_at: value["requested_at"],
        Client.function: value["function"],
    }
    entry = {
        Event.at: value["at"],
        Event.kind: value["kind"],
        Event.card_id: card,
        Event.reference: value["reference"],
        Event.ip: value["ip"],
        Event.ip_network: value["ip_network"],
        Event.claimed_ip: value["claimed_ip"],
        Event.hardware: value["hardware"],
        Event.function: value["function"],
        Event.details: value["details"],
    }
    return Select((bound,), (card,)).with_cte(
        bound,
        CTE("created", Client.insert_from(Select((bound,), [*client.values()]), list(client))),
        CTE("counted", counting((bound,), card, value["day"], value["function"], value["requested_at"])),
        CTE("journalled", Event.insert_from(Select((bound,), [*entry.values()]), list(entry))),
    )


def _is(column: Any, value: Any) -> Any:  # noqa: ANN401  # peewee's expressions
    return Expression(column, "IS NOT DISTINCT FROM", value)


def _count_usage() -> Query:
    """Count an accepted request: $1 card ID, $2 day, $3 function, $4 time."""
    asked = CTE("asked", Select((), [SQL("$1::text").alias("card")]))
    return counting((asked,), asked.c.card, SQL("$2::date"), SQL("$3::text"), SQL("$4::timestamptz")).with_cte(asked)


NEW_CLIENT = {
    "card": "text",
    "validity": "interval",
    "activated_at_before": "timestamptz",
    "expires_at_before": "timestamptz",
    "activated_at": "timestamptz",
    "expires_at": "timestamptz",
    "client": "text",
    "hardware": "text",
    "hardware_sha256": "text",
    "ip": "text",
    "function": "text",
    "requested_at": "timestamptz",
    "day": "date",
    "at": "timestamptz",
    "kind": "text",
    "reference": "text",
    "ip_network": "text",
    "claimed_ip": "text",
    "details": "jsonb",
}
"""What `create_client` takes, with its types: columns of `card` before and after, `client`, `usage` and `event`."""
_ASKED = {
    "card": "$1::text[]",
    "hardware_sha256": "$2::text[]",
    "ip": "$3::text[]",
    "function": "$4::text[]",
    "times": "$5::int[]",
}
PREPARED = {
    "read_facts": _read_facts,
    "touch": _touch,
    "create_client": _create_client,
    "count_usage": _count_usage,
}
"""Functions that make the statements, by name; arguments in the order of their `$` numbers."""
