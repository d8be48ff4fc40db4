"""The abuse report: rejections by card, machine and network, and cards whose accepted requests look shared."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.domain.codes import Code, EventKind
from app.domain.sharing import Spread
from app.services import abuse_report
from app.services.abuse_report import MAX_ROWS, ChangingCard, collect
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from tests.support.changes import Environment, change
from tests.support.query_plans import plan, statements
from tests.support.service import Service

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SINCE, LATELY = NOW - 7 * DAY, NOW - DAY
SHANGHAI = ZoneInfo("Asia/Shanghai")
CARD = "A" * 32
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


def go_through(*environments: tuple[str, str], at: datetime = NOW, card_id: str = CARD) -> None:
    for before, after in pairwise(environments):
        change(card_id, Environment(*before), Environment(*after), at)


def changing(since: datetime = SINCE) -> list[ChangingCard]:
    return abuse_report.changing_cards(since, LATELY, since.astimezone(SHANGHAI).date())


def only() -> ChangingCard:
    (card,) = changing()
    return card


def test_both_sides_of_changes_count(database: Database) -> None:
    at = NOW - 2 * DAY
    go_through(("pc", "198.51.100.1"), ("pc", "198.51.200.1"), ("laptop", "198.51.200.1"), at=at)
    go_through(("laptop", "198.51.200.1"), ("laptop", "203.0.113.9"), at=NOW - HOUR)
    assert only() == ChangingCard(CARD, Spread(1, 2, 2, 1, 2), Spread(2, 3, 2, 3, 4), NOW - HOUR)


def test_a_network_of_ipv6_is_a_48_and_a_block_a_32(database: Database) -> None:
    go_through(
        *(("pc", ip) for ip in ("2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:2::1", "2001:db9:2::1", "32.1.13.184"))
    )
    assert only().whole == Spread(1, 4, 3, 4, 4)


def test_places_are_machines_in_networks(database: Database) -> None:
    home, hers, work = ("pc", "198.51.100.1"), ("her pc", "198.51.100.2"), ("pc", "203.0.113.1")
    go_through(home, ("pc", "198.51.100.2"), hers, home, work, at=NOW - 2 * DAY)
    go_through(work, home)
    assert only().whole == Spread(2, 2, 2, 5, 3)
    assert only().lately == Spread(1, 2, 2, 1, 2)


def test_a_change_at_the_very_beginning_counts(database: Database) -> None:
    moment = timedelta(microseconds=1)
    go_through(("a", "198.51.100.1"), ("b", "198.51.100.1"), at=SINCE - moment)
    assert changing() == []
    go_through(("b", "198.51.100.1"), ("c", "198.51.100.1"), at=SINCE)
    go_through(("c", "198.51.100.1"), ("d", "198.51.100.1"), at=LATELY - moment)
    assert only() == ChangingCard(CARD, Spread(0, 0, 0, 0, 0), Spread(3, 1, 1, 2, 3), LATELY - moment)
    go_through(("d", "198.51.100.1"), ("e", "198.51.100.1"), at=LATELY)
    assert only() == ChangingCard(CARD, Spread(2, 1, 1, 1, 2), Spread(4, 1, 1, 3, 4), LATELY)


def test_changes_beyond_count_at_the_time_of_the_last_one(database: Database) -> None:
    seats = [(f"seat {number}", "198.51.100.1") for number in range(71)]
    midnight = datetime(2026, 3, 9, tzinfo=SHANGHAI)  # 44 hours ago
    go_through(*seats[:61], at=midnight)
    assert only().lately.changes == 0
    go_through(*seats[60:], at=midnight + 21 * HOUR)  # within 24 hours
    assert only().lately == Spread(0, 0, 0, 20, 0)
    assert only().whole == Spread(51, 1, 1, 70, 51)


def test_rejections_and_other_cards_do_not_count(database: Database) -> None:
    go_through(("a", "198.51.100.1"), ("b", "198.51.100.1"))
    go_through(("c", "192.0.2.1"), ("d", "192.0.2.1"), ("e", "192.0.2.1"), card_id="B" * 32)
    rejected = Entry(NOW, EventKind.REJECTED, Code.CLIENT_MISMATCH, CARD, ip="203.0.113.1", hardware="other")
    journal.append_rejection(rejected, NOW.date())
    assert {card.card_id: card.whole for card in changing()} == {
        CARD: Spread(2, 1, 1, 1, 2),
        "B" * 32: Spread(3, 1, 1, 2, 3),
    }


def test_the_cards_with_most_changes_and_with_most_entries_of_each_kind_are_looked_at(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abuse_report, "MAX_CANDIDATES", 1)
    for number in range(1, 4):
        machines = [(f"seat {each}", "198.51.100.1") for each in range(number + 1)]
        places = [("pc", f"203.0.{each}.1") for each in range(number + 1)]
        go_through(*machines, card_id=f"M{number:031}")
        go_through(*places, card_id=f"P{number:031}")
    go_through(*[("pc", f"192.0.{each % 2}.1") for each in range(9)], card_id=f"T{0:031}")
    assert {card.card_id for card in changing()} == {f"M{3:031}", f"P{3:031}", f"T{0:031}"}


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


def test_the_report_shows_what_reaches_a_threshold_worst_first(database: Database) -> None:
    def seats(count: int, card_id: str, at: datetime = NOW - HOUR) -> None:
        go_through(*((f"seat {number}", "198.51.100.1") for number in range(count)), card_id=card_id, at=at)

    seats(4, "A" * 32)
    seats(5, "B" * 32)
    seats(7, "C" * 32, NOW - 2 * DAY)
    seats(9, "D" * 32, NOW - 2 * DAY)
    seats(10, "E" * 32)
    seats(5, "F" * 32)
    go_through(("seat 4", "198.51.100.1"), ("seat 4", "198.51.100.2"), card_id="F" * 32)
    accepted = collect(database, NOW, SHANGHAI)["accepted"]
    assert [row["card_id"][0] for row in accepted["first"]] == ["E", "D", "F", "B"]
    assert accepted["count"] == 4
    assert accepted["first"][1] == {
        "card_id": "D" * 32,
        "last_24_hours": {"machines": 0, "networks": 0, "blocks": 0, "changes": 0, "places": 0},
        "period": {"machines": 9, "networks": 1, "blocks": 1, "changes": 8, "places": 9},
        "last_at": "2026-03-08T20:00:00+08:00",
    }
    seats(7, "C" * 32, NOW - 9 * DAY)
    go_through(("seat 6", "198.51.100.1"), ("seat 7", "198.51.100.1"), card_id="C" * 32, at=NOW - 9 * DAY)
    assert collect(database, NOW, SHANGHAI)["accepted"]["count"] == 4
    assert collect(database, NOW, SHANGHAI, 10 * DAY)["accepted"]["count"] == 5


def test_the_report_has_the_first_rows_and_counts_all(database: Database) -> None:
    for number in range(MAX_ROWS + 2):
        go_through(*((f"seat {each}", "198.51.100.1") for each in range(5)), card_id=f"{number:032}")
    accepted = collect(database, NOW, SHANGHAI)["accepted"]
    assert (accepted["count"], len(accepted["first"])) == (MAX_ROWS + 2, MAX_ROWS)
