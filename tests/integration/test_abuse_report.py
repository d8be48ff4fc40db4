"""The abuse report: rejections grouped by card, machine and network."""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.domain.codes import Code, EventKind
from app.storage import abuse_report, journal
from app.storage.database import Database

NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def values(groups: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("card_id", "hardware", "network", "cards", "machines", "networks", "rejections", "first_at", "last_at")
    return [tuple(group[name] for name in names if name in group) for group in groups]


def rejected(code: Code, card: str, hardware: str, ip: str, at: datetime = NOW) -> journal.Entry:
    return journal.Entry(at=at, kind=EventKind.REJECTED, code=code, card_id=card * 32, hardware=hardware, ip=ip)


def test_rejections_are_grouped_by_card_machine_and_network(database: Database) -> None:
    mismatch, unknown = Code.CLIENT_MISMATCH, Code.CARD_NOT_FOUND
    first, last = NOW - 2 * DAY, NOW - DAY
    journal.append(
        [
            rejected(mismatch, "A", "h1", "198.51.100.1", first),
            rejected(mismatch, "A", "h1", "198.51.100.2", last),
            rejected(mismatch, "A", "h2", "198.51.100.2", last),
            rejected(mismatch, "B", "h3", "2001:db8::1", last),
            rejected(mismatch, "C", "h3", "2001:db8::2", last),
            rejected(unknown, "C", "h4", "2001:db8::3", last),
            rejected(mismatch, "D", "h9", "192.0.2.9", NOW - 8 * DAY),
            rejected(mismatch, "E", "h9", "192.0.2.9", NOW - 8 * DAY),
        ]
    )
    since = NOW - 7 * DAY
    assert values(abuse_report.shared_cards(since, 50)) == [
        ("A" * 32, 2, 2, 3, first, last),
        ("B" * 32, 1, 1, 1, last, last),
        ("C" * 32, 1, 1, 1, last, last),
    ]
    assert values(abuse_report.shared_cards(since, 1)) == [("A" * 32, 2, 2, 3, first, last)]
    assert values(abuse_report.trying_machines(since, 50)) == [("h3", 2, 1, 2, last, last)]
    assert values(abuse_report.trying_networks(since, 50)) == [("2001:db8::/64", 2, 2, 3, last, last)]
