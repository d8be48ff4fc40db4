"""Operators' log-ins, as the journal has them."""

from datetime import datetime

from peewee import fn

from app.domain.codes import EventKind
from app.domain.operators import CONSOLE_ACTOR
from app.storage.journal import code_or_kind
from app.storage.models import Event, Operator


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
