"""The abuse report: rejections by card, machine and network, and cards whose accepted requests look shared."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.domain.codes import Code, EventKind
from app.domain.reports.sharing import Spread
from app.services.reports import abuse_report
from app.services.reports.abuse_report import MAX_ROWS, ChangingCard, collect
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from tests.support.licence.changes import Environment, change
from tests.support.query_plans import plan, statements
from tests.support.services.service import Service

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOUR, DAY, MOMENT = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
SINCE, LATELY = NOW - 7 * DAY, NOW - DAY
SHANGHAI = ZoneInfo("Asia/Shanghai")
ODD = "sea\u202et"


def values(groups: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("card_id", "hardware", "network", "cards", "machines", "networks", "rejections", "first_at", "last_at")
    return [tuple(group[name] for name in names if name in group) for group in groups]


def rejected(code: Code, card: str, hardware: str, ip: str, at: datetime = NOW) -> Entry:
    return Entry(at=at, kind=EventKind.REJECTED, code=code, card_id=card * 32, hardware=hardware, ip=ip)


def test_rejections_are_grouped_by_card_machine_and_network(database: Database) -> None:
    mismatch, unknown = Code.CLIENT_MISMATCH, Code.CARD_NOT_FOUND
    first, last = NOW - 2 * DAY, NOW - DAY
    whole, digest = "h" * 71, hashlib.sha256(b"h" * 71).hexdigest()
    refusal = rejected(unknown, "C", whole[:64], "2001:db8::3", last)
    journal.append(
        [
            rejected(mismatch, "A", "h1", "198.51.100.1", first),
            rejected(mismatch, "A", "h1", "198.51.100.2", last),
            rejected(mismatch, "A", "h2", "198.51.100.2", last),
            rejected(mismatch, "B", whole, "2001:db8::1", last),
            rejected(mismatch, "C", whole, "2001:db8::2", last),
            replace(refusal, details={"hardware_sha256": digest}),  # of the same machine, with its text's beginning
            replace(refusal, details={"hardware_sha256": "0" * 64}),
            rejected(mismatch, "D", "h9", "192.0.2.9", NOW - 8 * DAY),
            rejected(mismatch, "E", "h9", "192.0.2.9", NOW - 8 * DAY),
        ]
    )
    assert values(abuse_report.group("cards", SINCE)) == [
        ("A" * 32, 2, 2, 3, first, last),
        ("B" * 32, 1, 1, 1, last, last),
        ("C" * 32, 1, 1, 1, last, last),
    ]
    assert values(abuse_report.group("cards", SINCE, 1)) == [("A" * 32, 2, 2, 3, first, last)]
    (machine,) = abuse_report.group("machines", SINCE)
    assert machine["hardware_sha256"] == digest
    assert values([machine]) == [(whole, 2, 1, 3, last, last)]
    assert values(abuse_report.group("networks", SINCE)) == [("2001:db8::/64", 2, 2, 4, last, last)]


def test_cards_that_customers_unbind_again_and_again_are_listed(database: Database) -> None:
    def unbound(card: str, *days_ago: int, kind: EventKind = EventKind.SELF_UNBOUND) -> list[Entry]:
        return [Entry(NOW - ago * DAY, kind, card_id=card * 32) for ago in days_ago]

    journal.append([*unbound("A", 1, 2, 8), *unbound("B", 1, 3, 2), *unbound("C", 1), *unbound("D", 8, 8)])
    journal.append(unbound("E", 1, 2, kind=EventKind.UNBOUND))
    expected = [("B" * 32, 3, NOW - 3 * DAY, NOW - DAY), ("A" * 32, 2, NOW - 2 * DAY, NOW - DAY)]
    found = abuse_report.group("unbindings", SINCE)
    assert [(row["card_id"], row["unbindings"], row["first_at"], row["last_at"]) for row in found] == expected


def go_through(card: str, *environments: tuple[str, str], at: datetime = NOW) -> None:
    for before, after in pairwise(environments):
        change(card * 32, Environment(*before), Environment(*after), at)


def seats(first: int, last: int) -> list[tuple[str, str]]:
    return [(f"{ODD} {number}", "198.51.100.1") for number in range(first, last + 1)]


def changing() -> dict[str, ChangingCard]:
    return {
        card.card_id: card for card in abuse_report.changing_cards(SINCE, LATELY, SINCE.astimezone(SHANGHAI).date())
    }


def test_the_spread_of_each_card_in_the_period_and_in_its_last_part(database: Database) -> None:
    earlier, midnight = NOW - 2 * DAY, datetime(2026, 3, 9, tzinfo=SHANGHAI)  # 44 hours ago
    both_sides = [("pc", "198.51.100.1"), ("pc", "198.51.200.1"), ("laptop", "198.51.200.1")]
    go_through("A", *both_sides, at=earlier)
    go_through("A", both_sides[-1], ("laptop", "203.0.113.9"), at=NOW - HOUR)
    ipv6 = ("2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:2::1", "2001:db9:2::1", "32.1.13.184")
    go_through("B", *(("pc", ip) for ip in ipv6))
    home, hers, work = ("pc", "198.51.100.1"), ("her pc", "198.51.100.2"), ("pc", "203.0.113.1")
    go_through("C", home, ("pc", "198.51.100.2"), hers, home, work, at=earlier)
    go_through("C", work, home)
    go_through("D", *seats(0, 1))  # what is refused does not count
    journal.append_rejection(rejected(Code.CLIENT_MISMATCH, "D", "other", "203.0.113.1"), NOW.date())
    go_through("E", *seats(0, 1), at=SINCE - MOMENT)
    for card in "FG":
        go_through(card, *seats(0, 1), at=SINCE - MOMENT)
        go_through(card, *seats(1, 2), at=SINCE)
        go_through(card, *seats(2, 3), at=LATELY - MOMENT)
    go_through("G", *seats(3, 4), at=LATELY)
    # Changes beyond the entries of a day count at the time of its last one.
    go_through("H", *seats(0, 60), at=midnight)
    go_through("I", *seats(0, 60), at=midnight)
    go_through("I", *seats(60, 70), at=midnight + 21 * HOUR)  # within 24 hours
    none = Spread(0, 0, 0, 0, 0)
    expected = {
        "A": (Spread(1, 2, 2, 1, 2), Spread(2, 3, 2, 3, 4), NOW - HOUR),
        "B": (Spread(1, 4, 3, 4, 4), Spread(1, 4, 3, 4, 4), NOW),
        "C": (Spread(1, 2, 2, 1, 2), Spread(2, 2, 2, 5, 3), NOW),
        "D": (Spread(2, 1, 1, 1, 2), Spread(2, 1, 1, 1, 2), NOW),
        "F": (none, Spread(3, 1, 1, 2, 3), LATELY - MOMENT),
        "G": (Spread(2, 1, 1, 1, 2), Spread(4, 1, 1, 3, 4), LATELY),
        "H": (none, Spread(51, 1, 1, 60, 51), midnight),
        "I": (Spread(0, 0, 0, 20, 0), Spread(51, 1, 1, 70, 51), midnight + 21 * HOUR),
    }
    assert changing() == {card * 32: ChangingCard(card * 32, *found) for card, found in expected.items()}


def test_the_cards_with_most_changes_or_entries_are_looked_at(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abuse_report, "MAX_CANDIDATES", 1)
    for number, (machines, places) in enumerate(("AD", "BE", "CF"), start=1):
        go_through(machines, *seats(0, number))
        go_through(places, *(("pc", f"203.0.{each}.1") for each in range(number + 1)))
    go_through("T", *(("pc", f"192.0.{each % 2}.1") for each in range(9)))
    assert set(changing()) == {"C" * 32, "F" * 32, "T" * 32}


def test_few_rows_of_a_large_journal_are_read_by_index(database: Database) -> None:
    # A year of changes of a thousand cards, and a week in which a few change often.
    database.execute_sql(
        """INSERT INTO event (at, kind, card_id, ip, ip_network, hardware, details)
           SELECT %s - i * interval '25 minutes', 'environment_changed', lpad((i %% 1000)::text, 32, '0'),
               '198.51.100.1', '198.51.100.1', 'b', '{"before": {"hardware": "a", "ip": "198.51.100.1"}}'
           FROM generate_series(1, 20000) AS i""",
        (NOW,),
    )
    database.execute_sql(
        """INSERT INTO daily_count (card_id, day, kind, count, last_at)
           SELECT card_id, date(at), 'hardware_changed', count(*), max(at) FROM event GROUP BY 1, 2"""
    )
    database.execute_sql("ANALYZE event, daily_count")
    with statements(database) as ran:
        assert 300 < len(changing()) < 500
    (statement,) = ran
    told = plan(database, statement)
    assert "daily_count_day" in told
    assert "Seq Scan" not in told


def test_the_report_shows_what_reaches_a_threshold_worst_first_and_counts_all(database: Database) -> None:
    hour_ago, days_ago = NOW - HOUR, NOW - 2 * DAY
    for card, count, at in (
        ("A", 4, hour_ago), ("B", 5, hour_ago), ("C", 7, days_ago), ("D", 9, days_ago), ("E", 10, hour_ago),
        ("F", 5, hour_ago),
    ):  # fmt: skip
        go_through(card, *seats(1, count), at=at)
    go_through("F", *[*seats(5, 5), (f"{ODD} 5", "198.51.100.2")] * 4)  # more changes than E
    accepted = collect(NOW, SHANGHAI)["accepted"]
    assert [row["card_id"][0] for row in accepted["first"]] == ["E", "D", "F", "B"]
    assert accepted["count"] == 4
    assert accepted["first"][1] == {
        "card_id": "D" * 32,
        "last_24_hours": {"machines": 0, "networks": 0, "blocks": 0, "changes": 0, "places": 0},
        "period": {"machines": 9, "networks": 1, "blocks": 1, "changes": 8, "places": 9},
        "last_at": "2026-03-08T20:00:00+08:00",
    }
    go_through("C", *seats(7, 8), at=NOW - 9 * DAY)
    assert collect(NOW, SHANGHAI)["accepted"]["count"] == 4
    assert collect(NOW, SHANGHAI, 10 * DAY)["accepted"]["count"] == 5
    for number in range(MAX_ROWS):
        go_through(chr(ord("一") + number), *seats(1, 5))
    accepted = collect(NOW, SHANGHAI)["accepted"]
    assert (accepted["count"], len(accepted["first"])) == (MAX_ROWS + 4, MAX_ROWS)


def test_the_command_prints_the_report_as_json_and_as_tables(offline: Service) -> None:
    now = datetime.now(UTC)
    for number, hours_ago in enumerate((192, 4, 3, 2, 1)):  # the first eight days ago
        go_through("S", *seats(number, number + 1), at=now - timedelta(hours=hours_ago))
    journal.append([rejected(Code.CLIENT_MISMATCH, card, ODD, "192.0.2.1", now) for card in "DE"])
    journal.append([Entry(now, EventKind.SELF_UNBOUND, card_id="F" * 32)] * 2)
    report = offline.cardctl_json("report", "abuse")
    assert set(report) == {"at", "since", "limits", "accepted", "cards", "machines", "networks", "unbindings"}
    at, since = datetime.fromisoformat(report["at"]), datetime.fromisoformat(report["since"])
    assert (at - since, at.utcoffset()) == (timedelta(days=7), timedelta(hours=8))
    expected = {"machines": 5, "networks": 15, "blocks": 10, "places": 35, "changes": 101}
    assert report["limits"]["last_24_hours"] == expected
    (row,) = report["accepted"]["first"]
    assert (row["card_id"], row["last_24_hours"]["machines"], row["period"]["machines"]) == ("S" * 32, 5, 5)
    for group, column, found in (
        ("cards", "card_id", ["D" * 32, "E" * 32]),
        ("machines", "hardware", [ODD]),
        ("networks", "network", ["192.0.2.1"]),
        ("unbindings", "card_id", ["F" * 32]),
    ):
        assert [row[column] for row in report[group]] == found, group
    (line,) = [line for line in offline.cardctl("report", "abuse").stdout.splitlines() if "S" * 32 in line]
    assert line.split()[1:4] == ["5", "|", "5"]
    (row,) = offline.cardctl_json("report", "abuse", "--since", "30d")["accepted"]["first"]
    assert (row["last_24_hours"]["changes"], row["period"]["changes"]) == (4, 5)
