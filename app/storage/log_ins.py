"""Operators' log-ins, as the journal has them."""

from datetime import datetime
from typing import Any

from peewee import fn

from app.domain.codes import EventKind
from app.domain.operators import CONSOLE_ACTOR
from app.storage.journal import code_or_kind
from app.storage.models import Event, Operator

_MOST_LOOKED_AT = 1000
_MOST_SHOWN = 20


def last_by_operator() -> dict[str, datetime]:
    """Return when each operator logged in last, by the journal's entries since they were added."""
    actor = fn.CONCAT(CONSOLE_ACTOR, Operator.name)
    query = (
        Event.select(Operator.name, fn.MAX(Event.at))
        .join(Operator, on=(Event.actor == actor) & (Event.at >= Operator.created_at))
        .where(code_or_kind == EventKind.LOGGED_IN)
        .group_by(Operator.name)
    )
    return dict(query.tuples())


def last(actor: str, since: datetime) -> tuple[datetime | None, list[str]]:
    """Return when an operator logged in last since then, and from which addresses, by the newest log-ins."""
    newest = _of(actor, since).select(Event.at, Event.ip).order_by(Event.at.desc()).limit(_MOST_LOOKED_AT)
    rows = list(newest.tuples())
    return (rows[0][0] if rows else None), sorted({ip for _, ip in rows})


def new_ones(actor: str, since: datetime, until: datetime) -> list[Event]:
    """Return an operator's log-ins from a new browser or network from `since` to before `until`, the newest first."""
    new = _of(actor, since).where((Event.at < until) & Event.details["new"].is_null(is_null=False))
    return list(new.order_by(Event.at.desc()).limit(_MOST_SHOWN))


def newest_but(skipped: int, actor: str, since: datetime) -> datetime | None:
    """Return when an operator's newest log-in but so many was; None if there are no more since then."""
    at: datetime | None = _of(actor, since).select(Event.at).order_by(Event.at.desc()).offset(skipped).limit(1).scalar()
    return at


def _of(actor: str, since: datetime) -> Any:  # noqa: ANN401  # a peewee query
    return Event.select().where((Event.actor == actor) & (code_or_kind == EventKind.LOGGED_IN) & (Event.at >= since))
