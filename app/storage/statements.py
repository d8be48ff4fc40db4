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
    """Record the request of a bound card where nothing changes, and return the facts; return no row otherwise.

    $1 card ID, $2 SHA-256 of the hardware, $3 address, $4 function, $5 time, $6 day.

    The conditions are no second home of the rules: where they hold, the rules accept and change nothing, and all else
    is decided elsewhere. The usage row must exist: the day's first request of a function takes `bindings.apply`. A
    crash costs only the last counts and times, so the commit does not wait for the disk.
    """
    is_usage = (Usage.card == SQL("$1::text")) & (Usage.day == SQL("$6::date")) & (Usage.function == SQL("$4::text"))
    seen = CTE(
        "seen",
        Client.update(requested_at=SQL("$5::timestamptz"), function=SQL("$4::text"))
        .from_(Card)
        .where(
            (Client.card == SQL("$1::text"))
            & (Client.hardware_sha256 == SQL("$2::text"))
            & (Client.ip == SQL("$3::text"))
            & (Card.id == Client.card)
            & Card.is_activated
            & Card.frozen_at.is_null()
            & (Card.expires_at.is_null() | (Card.expires_at > SQL("$5::timestamptz")))
            & fn.EXISTS(Usage.select().where(is_usage))
        )
        .returning(*_CARD, *_CLIENT),
    )
    counted = CTE(
        "counted",
        Usage.update(count=Usage.count + SQL("1"), last_at=SQL("$5::timestamptz")).where(
            is_usage & fn.EXISTS(Select((seen,), (seen.c.id,)))
        ),
    )
    facts = [seen.c[field.column_name] for field in (*_CARD, *_CLIENT)]
    unsynchronised = fn.set_config("synchronous_commit", "off", True)  # noqa: FBT003
    return Select((seen,), (*facts, unsynchronised)).with_cte(seen, counted)


PREPARED = {"read_facts": _read_facts, "touch": _touch}
"""Functions that make the statements, by name; arguments in the order of their `$` numbers."""
