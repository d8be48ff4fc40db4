"""The two statements of a bound card's verification, rendered from the models and prepared once per connection."""

from peewee import CTE, JOIN, SQL, Expression, Query, Select, fn

from app.storage.models import Card, Client, Usage


def _read_facts() -> Query:
    """Read the card ($1 ID), its client, and another card's client with the hardware ($2 SHA-256)."""
    rival, rival_card = Client.alias("rival"), Card.alias("rival_card")
    return (
        Card.select(
            Card.validity,
            Card.activated_at,
            Card.expires_at,
            Card.frozen_at,
            Client.id,
            Client.hardware,
            Client.ip,
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


def _refresh() -> Query:
    """Record an accepted request of a bound card, if the facts still hold; return no row otherwise.

    $1 client ID, $2 card ID, $3 SHA-256 of the hardware, $4 address as read, $5 expiry as read,
    $6 address now, $7 time, $8 function, $9 day.

    The usage row must exist: the day's first request of a function takes `bindings.apply`. A refresh lost in a crash
    costs only a "last seen", so the commit does not wait for the disk.
    """
    seen = CTE(
        "seen",
        Client.update(ip=SQL("$6::text"), requested_at=SQL("$7::timestamptz"), function=SQL("$8::text"))
        .from_(Card)
        .where(
            (Client.id == SQL("$1::text"))
            & (Client.card == SQL("$2::text"))
            & (Client.hardware_sha256 == SQL("$3::text"))
            & (Client.ip == SQL("$4::text"))
            & (Card.id == Client.card)
            & Card.frozen_at.is_null()
            & Expression(Card.expires_at, "IS NOT DISTINCT FROM", SQL("$5::timestamptz"))
            & fn.EXISTS(_usage_row())
        )
        .returning(Client.id),
    )
    counted = CTE(
        "counted",
        Usage.update(count=Usage.count + SQL("1"), last_at=SQL("$7::timestamptz")).where(
            (Usage.card == SQL("$2::text"))
            & (Usage.day == SQL("$9::date"))
            & (Usage.function == SQL("$8::text"))
            & fn.EXISTS(Select((seen,), (seen.c.id,)))
        ),
    )
    return Select((seen,), (fn.set_config("synchronous_commit", "off", True),)).with_cte(  # noqa: FBT003
        seen, counted
    )


def _usage_row() -> Query:
    return Usage.select().where(
        (Usage.card == SQL("$2::text")) & (Usage.day == SQL("$9::date")) & (Usage.function == SQL("$8::text"))
    )


PREPARED = {"read_facts": _read_facts, "refresh": _refresh}
"""Functions that make the statements, by name; arguments in the order of their `$` numbers."""
