"""The abuse report: rejections grouped by card, machine and network; `cardctl report abuse`."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.domain.codes import Code, EventKind
from app.services import abuse_report
from app.storage import journal
from app.storage.database import Database
from tests.support.changes import Environment, change
from tests.support.service import Service

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
SHARED, ODD = "S" * 32, "sea\u202et"


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
    assert values(abuse_report.group("cards", since)) == [
        ("A" * 32, 2, 2, 3, first, last),
        ("B" * 32, 1, 1, 1, last, last),
        ("C" * 32, 1, 1, 1, last, last),
    ]
    assert values(abuse_report.group("cards", since, 1)) == [("A" * 32, 2, 2, 3, first, last)]
    assert values(abuse_report.group("machines", since)) == [("h3", 2, 1, 2, last, last)]
    assert values(abuse_report.group("networks", since)) == [("2001:db8::/64", 2, 2, 3, last, last)]


def test_a_machine_is_one_where_refusals_have_the_beginning_of_its_text(database: Database) -> None:
    whole, digest = "h" * 71, hashlib.sha256(b"h" * 71).hexdigest()
    short = [
        replace(rejected(Code.CARD_NOT_FOUND, card, whole[:64], "2001:db8::3"), details={"hardware_sha256": digest})
        for card in "AB"
    ]
    other = replace(short[0], details={"hardware_sha256": "0" * 64})
    journal.append([rejected(Code.CLIENT_MISMATCH, "C", whole, "2001:db8::3"), *short, other])
    assert values(abuse_report.group("machines", NOW - DAY)) == [(whole, 3, 1, 3, NOW, NOW)]
    assert [group["machines"] for group in abuse_report.group("networks", NOW - DAY)] == [2]
    (group,) = abuse_report.group("machines", NOW - DAY)
    assert group["hardware_sha256"] == digest


def test_cards_that_customers_unbind_again_and_again_are_listed(database: Database) -> None:
    def unbound(card: str, *days_ago: int, kind: EventKind = EventKind.SELF_UNBOUND) -> list[journal.Entry]:
        return [journal.Entry(NOW - ago * DAY, kind, card_id=card * 32) for ago in days_ago]

    journal.append([*unbound("A", 1, 2, 8), *unbound("B", 1, 3, 2), *unbound("C", 1), *unbound("D", 8, 8)])
    journal.append(unbound("E", 1, 2, kind=EventKind.UNBOUND))
    expected = [("B" * 32, 3, NOW - 3 * DAY, NOW - DAY), ("A" * 32, 2, NOW - 2 * DAY, NOW - DAY)]
    found = abuse_report.group("unbindings", NOW - 7 * DAY)
    assert [(row["card_id"], row["unbindings"], row["first_at"], row["last_at"]) for row in found] == expected
    assert len(abuse_report.group("unbindings", NOW - 7 * DAY, 1)) == 1


@pytest.fixture
def shared(database: Database) -> datetime:
    """A card that changed eight days ago, and since then went through five machines; one machine that tries cards."""
    now = datetime.now(UTC)
    for number, ago in enumerate((192, 4, 3, 2, 1)):
        before, after = (Environment(f"{ODD} {each}", "198.51.100.1") for each in (number, number + 1))
        change(SHARED, before, after, now - timedelta(hours=ago))
    for card in "DE":
        journal.append(
            [journal.Entry(now, EventKind.REJECTED, Code.CLIENT_MISMATCH, card * 32, ip="192.0.2.1", hardware=ODD)]
        )
    journal.append([journal.Entry(now, EventKind.SELF_UNBOUND, card_id="F" * 32)] * 2)
    return now


def test_the_report_as_json_and_as_tables(offline: Service, shared: datetime) -> None:
    report = offline.cardctl_json("report", "abuse")
    assert set(report) == {"at", "since", "limits", "accepted", "cards", "machines", "networks", "unbindings"}
    at, since = datetime.fromisoformat(report["at"]), datetime.fromisoformat(report["since"])
    assert at - since == timedelta(days=7)
    assert at >= shared
    assert at.utcoffset() == timedelta(hours=8)
    expected = {"machines": 5, "networks": 15, "blocks": 10, "places": 35, "changes": 101}
    assert report["limits"]["last_24_hours"] == expected
    assert report["accepted"]["count"] == 1
    (row,) = report["accepted"]["first"]
    assert (row["card_id"], row["last_24_hours"]["machines"], row["period"]["machines"]) == (SHARED, 5, 5)
    assert [row["card_id"] for row in report["cards"]] == ["D" * 32, "E" * 32]
    assert [(row["hardware"], row["cards"]) for row in report["machines"]] == [(ODD, 2)]
    assert [(row["network"], row["cards"]) for row in report["networks"]] == [("192.0.2.1", 2)]
    assert [(row["card_id"], row["unbindings"]) for row in report["unbindings"]] == [("F" * 32, 2)]
    (line,) = [line for line in offline.cardctl("report", "abuse").stdout.splitlines() if SHARED in line]
    assert line.split()[1:4] == ["5", "|", "5"]
    (row,) = offline.cardctl_json("report", "abuse", "--since", "30d")["accepted"]["first"]
    assert (row["last_24_hours"]["changes"], row["period"]["changes"]) == (4, 5)
