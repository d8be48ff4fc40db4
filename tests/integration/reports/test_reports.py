"""The vendor's figures, `cardctl stats` and `cardctl report abuse`: what is counted, and cards that look shared."""
# Owns figures.

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.domain.codes import Code, EventKind
from app.domain.sharing import Spread
from app.services.reports import abuse_report, figures, statistics
from app.services.reports.abuse_report import MAX_ROWS, ChangingCard, collect
from app.services.reports.figures import FRESH_FOR
from app.storage import cards, journal, models
from app.storage.cards import NewCard
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Card, Client, DailyCount, Usage
from tests.conftest import Clock
from tests.support.licence.bound_cards import CardState, Environment, change, write
from tests.support.query_plans import plan, statements
from tests.support.services.service import Service

NOW = datetime(2026, 3, 1, 17, 0, tzinfo=UTC)  # in Shanghai it is 1 a.m. of the next day
SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = timedelta(days=1)
TODAY = date(2026, 3, 2)
pytestmark = pytest.mark.apart  # whole tables are counted


def stats() -> dict[str, Any]:
    return statistics.collect(NOW, SHANGHAI)


def card(
    number: int, batch: str | None = None, expires_in: timedelta | None = None, *, frozen: bool = False
) -> NewCard:
    """A card, in use where it is to expire at some time."""
    start, end = (None, None) if expires_in is None else (NOW - 30 * DAY, NOW + expires_in)
    return NewCard(f"{number:032}", 30 * DAY, batch, f"note {number}", start, end, NOW if frozen else None)


def add(database: Database, *new_cards: NewCard) -> None:
    cards.insert(database, new_cards, NOW)


@pytest.fixture
def quick(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    clock.now = NOW
    monkeypatch.setattr(figures, "QUICK_SECONDS", 3600.0)  # however busy the machine is


@pytest.fixture
def much(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "QUICK_BYTES", -1)


def test_few_rows_are_counted_on_request_unless_that_took_long(database: Database, quick: None) -> None:
    shown = figures.current(NOW, SHANGHAI)
    assert shown.counted_at == NOW
    assert shown.document["cards"] == {"total": 0, "spent": 0, "frozen": 0, "expired": 0, "active": 0, "unused": 0}
    add(database, card(1))
    assert figures.current(NOW, SHANGHAI).document["cards"]["unused"] == 1
    (row,) = models.Figures.select()
    assert (row.counted_at, row.document) == (NOW, figures.current(NOW, SHANGHAI).document)
    models.Figures.update(seconds=3600.0).execute()
    assert figures.current(NOW + timedelta(seconds=1), SHANGHAI).counted_at == NOW, "slow counts are left to the task"


def test_expiries_and_rejections_are_counted_for_14_days_of_the_vendors_zone(database: Database, quick: None) -> None:
    midnight, second = datetime(2026, 3, 3, tzinfo=SHANGHAI), timedelta(seconds=1)
    for number, expires_at in enumerate((NOW + second, midnight - second, midnight, midnight + 13 * DAY, NOW)):
        add(database, card(number, None, expires_at - NOW))
    add(database, card(6, None, midnight - NOW, frozen=True))
    for ago in (timedelta(minutes=59), timedelta(minutes=61), 14 * DAY):
        journal.append([Entry(NOW - ago, EventKind.REJECTED, Code.CARD_EXPIRED, "A" * 32)])
    document = figures.current(NOW, SHANGHAI).document
    days = document["expiring_days"]  # not the fifteenth, nor what is expired or frozen
    assert [day["day"] for day in days] == [f"2026-03-{number:02}" for number in range(2, 16)]
    assert [day["cards"] for day in days] == [2, 1] + [0] * 12
    assert [day["day"] for day in document["rejection_days"][-2:]] == ["2026-03-01", "2026-03-02"]
    assert [day["counts"] for day in document["rejection_days"]] == [*[{}] * 12, *[{"CARD_EXPIRED": 1}] * 2]


def test_old_figures_are_shown_while_newer_are_wanted(database: Database, clock: Clock, much: None) -> None:
    def shown_at() -> datetime:
        return figures.current(clock.now, SHANGHAI).counted_at

    assert figures.current(clock.now, SHANGHAI) is None
    figures.count_if_wanted(clock.now, SHANGHAI)
    first = shown_at()
    add(database, card(1))
    clock.advance(FRESH_FOR)
    assert shown_at() == first
    figures.count_if_wanted(clock.now, SHANGHAI)
    assert shown_at() == first, "still fresh: nobody counts"
    clock.advance(timedelta(seconds=1))
    figures.count_if_wanted(clock.now, SHANGHAI)
    assert shown_at() == first, "old, but nobody had looked"
    figures.count_if_wanted(clock.now, SHANGHAI)
    newer = figures.current(clock.now, SHANGHAI)
    assert (newer.counted_at, newer.document["cards"]["unused"]) == (clock.now, 1)


def test_cards_are_counted_by_state_and_batch(database: Database) -> None:
    add(database, card(1, "b"), card(2, "b", DAY), card(3, "b", -DAY))
    add(database, card(4, None, DAY, frozen=True), card(5, None, -DAY, frozen=True))
    counted = stats()
    assert counted["cards"] == {"total": 5, "spent": 0, "frozen": 2, "expired": 1, "active": 1, "unused": 1}
    assert counted["batches"]["largest"] == [
        {"batch": "b", "cards": 3, "spent": 0, "frozen": 0, "expired": 1, "active": 1, "unused": 1},
        {"batch": None, "cards": 2, "spent": 0, "frozen": 2, "expired": 0, "active": 0, "unused": 0},
    ]


def test_no_more_rows_are_read_than_are_shown_however_many_batches_there_are(database: Database) -> None:
    with statements(database) as at_first:
        stats()
    add(database, *(card(n, f"b{n:03}", frozen=n % 2 == 0) for n in range(100)))
    add(database, *(card(n, "b050") for n in range(100, 103)))
    with statements(database) as ran:
        counted = stats()
    assert len(at_first) == len(ran) == 8
    assert (counted["batches"]["count"], counted["cards"]["unused"], counted["cards"]["frozen"]) == (100, 53, 50)
    largest = [batch["batch"] for batch in counted["batches"]["largest"]]
    assert largest == ["b050", *(f"b{n:03}" for n in range(9))], "the largest first"
    assert max(len(database.execute_sql(*statement).fetchall()) for statement in ran) == 10


def test_days_are_the_last_fourteen_of_the_vendors_zone_including_empty_ones(database: Database) -> None:
    add(database, card(1))
    midnight = datetime(2026, 3, 2, tzinfo=SHANGHAI)
    for at in (midnight, midnight - timedelta(seconds=1), midnight - 13 * DAY, midnight - 13 * DAY - DAY / 86_400):
        journal.append([Entry(at=at, kind=EventKind.ACTIVATED)])
    for back, function, count in ((0, "f", 3), (0, "g", 4), (13, "f", 5), (14, "f", 9)):
        day = TODAY - back * DAY
        Usage.insert(card=f"{1:032}", day=day, function=function, count=count, last_at=NOW).execute()
    counted = stats()
    assert [day["day"] for day in counted["days"]] == [str(TODAY - back * DAY) for back in range(13, -1, -1)]
    assert [day["activations"] for day in counted["days"]] == [1, *[0] * 11, 1, 1]
    assert [day["requests"] for day in counted["days"]] == [5, *[0] * 12, 7]
    assert counted["functions"] == [{"function": "f", "requests": 8}, {"function": "g", "requests": 4}]


def test_customers_are_cards_used_on_a_day_of_the_vendors_zone_and_in_the_last_minutes(database: Database) -> None:
    add(database, *(card(number, expires_in=DAY) for number in range(1, 5)))
    for number, back, function in ((1, 0, "f"), (1, 0, "g"), (2, 0, "f"), (3, 1, "f"), (3, 1, "g"), (1, 2, "f")):
        used = {"card": f"{number:032}", "day": TODAY - back * DAY, "function": function}
        Usage.insert(**used, count=9, last_at=NOW).execute()
    for number, minutes in ((1, 0), (2, 14), (3, 15)):
        machine, at = f"machine {number}", NOW - timedelta(minutes=minutes)
        told = {"hardware": machine, "hardware_sha256": sha256(machine.encode()).hexdigest(), "ip": "198.51.100.1"}
        Client.insert(id=f"{number:032}", card=f"{number:032}", requested_at=at, function="f", **told).execute()
    assert stats()["customers"] == {"online": 2, "today": 2, "yesterday": 1}
    Card.update(frozen_at=NOW).where(Card.id == f"{1:032}").execute()
    Card.update(expires_at=NOW).where(Card.id == f"{2:032}").execute()
    assert stats()["customers"]["online"] == 0


def test_rejections_are_counted_by_code_also_those_without_an_entry_at_the_time_of_the_last(database: Database) -> None:
    """The first hours of the last week are on the day before it in America."""
    for code, hours in ((Code.CARD_EXPIRED, 2), (Code.CARD_EXPIRED, 30), (Code.CARD_FROZEN, 169)):
        journal.append([Entry(at=NOW - timedelta(hours=hours), kind=EventKind.REJECTED, code=code)])
    counts = ((TODAY, 60, 1), (TODAY - DAY, 53, 25), (TODAY - DAY, 50, 26), (TODAY - 8 * DAY, 90, 200))
    for day, count, hours in (*counts, (TODAY - 8 * DAY, 61, 167)):
        at = NOW - timedelta(hours=hours)
        DailyCount.insert(card_id=f"{count:032}", day=day, kind="CLIENT_MISMATCH", count=count, last_at=at).execute()
    DailyCount.insert(card_id="0" * 32, day=TODAY, kind="hardware_changed", count=99, last_at=NOW).execute()
    assert stats()["rejections"] == [
        {"code": "CLIENT_MISMATCH", "last_24_hours": 10, "last_7_days": 24},
        {"code": "CARD_EXPIRED", "last_24_hours": 1, "last_7_days": 2},
    ]
    by_day = statistics.rejections_by_day(NOW - 3 * DAY, SHANGHAI)
    assert by_day == {
        TODAY: {"CLIENT_MISMATCH": 10},
        TODAY - DAY: {"CLIENT_MISMATCH": 3, "CARD_EXPIRED": 1},
        TODAY - 2 * DAY: {"CARD_EXPIRED": 1},
    }


def test_repeated_rejections_are_counted_beside_the_entries_of_their_places(database: Database) -> None:
    entry = Entry(NOW, EventKind.REJECTED, Code.CLIENT_MISMATCH, "0" * 32, counted=Code.CLIENT_MISMATCH)
    written = [journal.append_rejection(replace(entry, hardware=name), TODAY) for name in "aabaa"]
    assert written == [True, False, True, False, False]
    assert stats()["rejections"] == [{"code": "CLIENT_MISMATCH", "last_24_hours": 5, "last_7_days": 5}]
    assert statistics.rejections_by_day(NOW - DAY, SHANGHAI) == {TODAY: {"CLIENT_MISMATCH": 5}}


def test_active_cards_that_expire_soon_are_named_the_first_first(database: Database) -> None:
    add(database, card(1, None, 7 * DAY), card(2, None, 7 * DAY + timedelta(seconds=1)))
    add(database, card(3, None, -DAY), card(4, None, DAY, frozen=True))
    add(database, *(card(n, "b", n * timedelta(minutes=1)) for n in range(20, 9, -1)))
    expiring = stats()["expiring"]
    assert expiring["count"] == 12
    assert [int(row["id"]) for row in expiring["first"]] == list(range(10, 20))


def test_the_document_has_its_documented_shape(offline: Service) -> None:
    now = datetime.now(UTC)
    used = ((now.astimezone(SHANGHAI).date(), "f\x1b"),)
    (card_id,) = write([CardState(expires_in=DAY, functions=used)], now)
    journal.append([Entry(now, EventKind.ACTIVATED, card_id=card_id)])
    printed = offline.cardctl("stats", "--format", "json").stdout
    document = json.loads(printed)
    assert list(document) == ["at", "cards", "batches", "days", "customers", "rejections", "expiring", "functions"]
    assert set(document["batches"]) == {"count", "largest"}
    assert sum(day["activations"] for day in document["days"]) == 1
    (first,) = document["expiring"]["first"]
    assert (set(first), first["id"]) == ({"id", "expires_at", "batch", "note"}, card_id)
    assert [row["function"] for row in document["functions"]] == ["f\x1b"]
    tables = offline.cardctl("stats").stdout
    assert card_id in tables
    assert re.search(
        r"总数 Total\s+已用于续费 spent\s+已冻结 frozen\s+已过期 expired\s+使用中 active\s+未激活 unused", tables
    )
    assert ("f\\x1b" in tables, "\x1b" in printed + tables) == (True, False)


NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
ODD = "sea\u202et"
HOUR, MOMENT = timedelta(hours=1), timedelta(microseconds=1)
SINCE, LATELY = NOON - 7 * DAY, NOON - DAY
GROUPS = ("cards", "machines", "networks", "unbindings")


def values(groups: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("card_id", "hardware", "network", "cards", "machines", "networks", "rejections", "first_at", "last_at")
    return [tuple(group[name] for name in names if name in group) for group in groups]


def rejected(code: Code, card: str, hardware: str, ip: str, at: datetime = NOON) -> Entry:
    return Entry(at=at, kind=EventKind.REJECTED, code=code, card_id=card * 32, hardware=hardware, ip=ip)


def test_rejections_are_grouped_by_card_machine_and_network(database: Database) -> None:
    mismatch, unknown = Code.CLIENT_MISMATCH, Code.CARD_NOT_FOUND
    first, last = NOON - 2 * DAY, NOON - DAY
    whole, digest = "h" * 71, sha256(b"h" * 71).hexdigest()
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
            rejected(mismatch, "D", "h9", "192.0.2.9", NOON - 8 * DAY),
            rejected(mismatch, "E", "h9", "192.0.2.9", NOON - 8 * DAY),
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
        return [Entry(NOON - ago * DAY, kind, card_id=card * 32) for ago in days_ago]

    journal.append([*unbound("A", 1, 2, 8), *unbound("B", 1, 3, 2), *unbound("C", 1), *unbound("D", 8, 8)])
    journal.append(unbound("E", 1, 2, kind=EventKind.UNBOUND))
    expected = [("B" * 32, 3, NOON - 3 * DAY, NOON - DAY), ("A" * 32, 2, NOON - 2 * DAY, NOON - DAY)]
    found = abuse_report.group("unbindings", SINCE)
    assert [(row["card_id"], row["unbindings"], row["first_at"], row["last_at"]) for row in found] == expected


def go_through(card: str, *environments: tuple[str, str], at: datetime = NOON) -> None:
    for before, after in pairwise(environments):
        change(card * 32, Environment(*before), Environment(*after), at)


def seats(first: int, last: int) -> list[tuple[str, str]]:
    return [(f"{ODD} {number}", "198.51.100.1") for number in range(first, last + 1)]


def changing() -> dict[str, ChangingCard]:
    return {
        card.card_id: card for card in abuse_report.changing_cards(SINCE, LATELY, SINCE.astimezone(SHANGHAI).date())
    }


def test_the_spread_of_each_card_in_the_period_and_in_its_last_part(database: Database) -> None:
    earlier, midnight = NOON - 2 * DAY, datetime(2026, 3, 9, tzinfo=SHANGHAI)  # 44 hours ago
    both_sides = [("pc", "198.51.100.1"), ("pc", "198.51.200.1"), ("laptop", "198.51.200.1")]
    go_through("A", *both_sides, at=earlier)
    go_through("A", both_sides[-1], ("laptop", "203.0.113.9"), at=NOON - HOUR)
    ipv6 = ("2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:2::1", "2001:db9:2::1", "32.1.13.184")
    go_through("B", *(("pc", ip) for ip in ipv6))
    home, hers, work = ("pc", "198.51.100.1"), ("her pc", "198.51.100.2"), ("pc", "203.0.113.1")
    go_through("C", home, ("pc", "198.51.100.2"), hers, home, work, at=earlier)
    go_through("C", work, home)
    go_through("D", *seats(0, 1))  # what is refused does not count
    journal.append_rejection(rejected(Code.CLIENT_MISMATCH, "D", "other", "203.0.113.1"), NOON.date())
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
        "A": (Spread(1, 2, 2, 1, 2), Spread(2, 3, 2, 3, 4), NOON - HOUR),
        "B": (Spread(1, 4, 3, 4, 4), Spread(1, 4, 3, 4, 4), NOON),
        "C": (Spread(1, 2, 2, 1, 2), Spread(2, 2, 2, 5, 3), NOON),
        "D": (Spread(2, 1, 1, 1, 2), Spread(2, 1, 1, 1, 2), NOON),
        "F": (none, Spread(3, 1, 1, 2, 3), LATELY - MOMENT),
        "G": (Spread(2, 1, 1, 1, 2), Spread(4, 1, 1, 3, 4), LATELY),
        "H": (none, Spread(51, 1, 1, 60, 51), midnight),
        "I": (Spread(0, 0, 0, 20, 0), Spread(51, 1, 1, 70, 51), midnight + 21 * HOUR),
    }
    assert changing() == {card * 32: ChangingCard(card * 32, *found) for card, found in expected.items()}


def test_cards_with_most_changes_or_entries_are_looked_at(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
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
        (NOON,),
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
    hour_ago, days_ago = NOON - HOUR, NOON - 2 * DAY
    for card, count, at in (
        ("A", 4, hour_ago), ("B", 5, hour_ago), ("C", 7, days_ago), ("D", 9, days_ago), ("E", 10, hour_ago),
        ("F", 5, hour_ago),
    ):  # fmt: skip
        go_through(card, *seats(1, count), at=at)
    go_through("F", *[*seats(5, 5), (f"{ODD} 5", "198.51.100.2")] * 4)  # more changes than E
    accepted = collect(NOON, SHANGHAI)["accepted"]
    assert [row["card_id"][0] for row in accepted["first"]] == ["E", "D", "F", "B"]
    assert accepted["count"] == 4
    assert accepted["first"][1] == {
        "card_id": "D" * 32,
        "last_24_hours": {"machines": 0, "networks": 0, "blocks": 0, "changes": 0, "places": 0},
        "period": {"machines": 9, "networks": 1, "blocks": 1, "changes": 8, "places": 9},
        "last_at": "2026-03-08T20:00:00+08:00",
    }
    go_through("C", *seats(7, 8), at=NOON - 9 * DAY)
    assert collect(NOON, SHANGHAI)["accepted"]["count"] == 4
    assert collect(NOON, SHANGHAI, 10 * DAY)["accepted"]["count"] == 5
    for number in range(MAX_ROWS):
        go_through(chr(ord("一") + number), *seats(1, 5))
    accepted = collect(NOON, SHANGHAI)["accepted"]
    assert (accepted["count"], len(accepted["first"])) == (MAX_ROWS + 4, MAX_ROWS)


def test_the_command_prints_the_report_as_json_and_as_tables(offline: Service) -> None:
    now = datetime.now(UTC)
    for number, hours_ago in enumerate((192, 4, 3, 2, 1)):  # the first eight days ago
        go_through("S", *seats(number, number + 1), at=now - timedelta(hours=hours_ago))
    journal.append([rejected(Code.CLIENT_MISMATCH, card, ODD, "192.0.2.1", now) for card in "DE"])
    journal.append([Entry(now, EventKind.SELF_UNBOUND, card_id="F" * 32)] * 2)
    report = offline.cardctl_json("report", "abuse")
    assert set(report) == {"at", "since", "limits", "accepted", *GROUPS}
    at, since = datetime.fromisoformat(report["at"]), datetime.fromisoformat(report["since"])
    assert (at - since, at.utcoffset()) == (timedelta(days=7), timedelta(hours=8))
    expected = {"machines": 5, "networks": 15, "blocks": 10, "places": 35, "changes": 101}
    assert report["limits"]["last_24_hours"] == expected
    (row,) = report["accepted"]["first"]
    assert (row["card_id"], row["last_24_hours"]["machines"], row["period"]["machines"]) == ("S" * 32, 5, 5)
    named = [row.get("card_id") or row.get("hardware") or row["network"] for group in GROUPS for row in report[group]]
    assert named == ["D" * 32, "E" * 32, ODD, "192.0.2.1", "F" * 32]
    (line,) = [line for line in offline.cardctl("report", "abuse").stdout.splitlines() if "S" * 32 in line]
    assert line.split()[1:4] == ["5", "|", "5"]
    (row,) = offline.cardctl_json("report", "abuse", "--since", "30d")["accepted"]["first"]
    assert (row["last_24_hours"]["changes"], row["period"]["changes"]) == (4, 5)
