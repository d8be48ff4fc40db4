"""Accepted changes of a card's machine or address, journalled as the service does."""

from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from app.domain.codes import Counted, EventKind
from app.storage import journal
from app.storage.journal import Entry


class Environment(NamedTuple):
    machine: str
    ip: str


def change(card_id: str, before: Environment, after: Environment, at: datetime) -> None:
    """Journal that a card was used in another environment than before."""
    counted = Counted.ADDRESS_CHANGED if before.machine == after.machine else Counted.HARDWARE_CHANGED
    entry = Entry(
        at,
        EventKind.ENVIRONMENT_CHANGED,
        card_id=card_id,
        ip=after.ip,
        hardware=after.machine,
        details={"before": {"hardware": before.machine, "ip": before.ip}},
        counted=counted,
    )
    journal.append_counted([entry], at.astimezone(ZoneInfo("Asia/Shanghai")).date())
