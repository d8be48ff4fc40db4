"""The abuse report's cards whose accepted requests look shared: their numbers, their order, its bounds."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from app.domain.codes import Code, EventKind
from app.domain.sharing import Spread
from app.services import abuse_report
from app.services.abuse_report import MAX_ROWS, ChangingCard, collect
from app.services.issuing import Issuing
from app.services.verification import Verification
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from tests.conftest import START, Clock
from tests.support.asking import ask
from tests.support.changes import Environment, change
from tests.support.query_plans import plan, statements

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SINCE, LATELY = NOW - 7 * DAY, NOW - DAY
SHANGHAI = ZoneInfo("Asia/Shanghai")
CARD = "A" * 32


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


def test_changes_beyond_a_days_entries_are_counted(database: Database) -> None:
    seats = [(f"seat {number}", "198.51.100.1") for number in range(71)]
    for number, (before, after) in enumerate(pairwise(seats)):
        change(CARD, Environment(*before), Environment(*after), NOW - 2 * DAY + number * timedelta(minutes=1))
    assert only().whole == Spread(51, 1, 1, 70, 51)
    assert only().lately.changes == 0
    assert only().last_at == NOW - 2 * DAY + timedelta(minutes=69)
    change(CARD, Environment(*seats[-1]), Environment(*seats[0]), NOW)
    assert only().whole == Spread(52, 1, 1, 71, 52)
    assert only().lately.changes == 1


def test_changes_beyond_count_at_the_time_of_the_last_one(database: Database) -> None:
    seats = [(f"seat {number}", "198.51.100.1") for number in range(71)]
    midnight = datetime(2026, 3, 9, tzinfo=SHANGHAI)  # 44 hours ago
    go_through(*seats[:61], at=midnight)
    assert only().lately.changes == 0
    go_through(*seats[60:], at=midnight + 21 * HOUR)  # within 24 hours
    assert only().lately == Spread(0, 0, 0, 20, 0)
    assert only().whole == Spread(51, 1, 1, 70, 51)


@pytest.mark.parametrize(
    ("shown_first", "hidden"),
    [
        ([("pc", f"198.51.100.{n % 2}") for n in range(54)], [("pc", f"10.{n}.0.1") for n in range(45)]),
        ([("pc", f"198.51.100.{n % 2}") for n in range(54)], [(f"seat {n}", "10.1.1.1") for n in range(45)]),
        (
            [(f"pc {n // 14}", f"198.51.{n % 7}.{n // 7 % 2}") for n in range(56)],
            [("pc 3", f"{n}.0.0.1") for n in range(10, 30)],
        ),
        ([("pc", f"198.51.{n % 34}.{n // 34}") for n in range(68)], [("pc", f"{n}.0.0.1") for n in range(10, 30)]),
    ],
    ids=["networks after to and fro", "machines after to and fro", "after 4 machines in 7 networks", "after a carrier"],
)
def test_who_uses_up_the_entries_of_each_day_is_listed(
    database: Database, shown_first: list[tuple[str, str]], hidden: list[tuple[str, str]]
) -> None:
    for days in range(2):
        midnight = datetime(2026, 3, 10 - days, tzinfo=SHANGHAI)
        go_through(*shown_first, at=midnight)
        go_through(shown_first[-1], *hidden, at=midnight + HOUR)
    assert collect(database, NOW, SHANGHAI)["accepted"]["count"] == 1


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


def test_sharing_that_the_rules_accept_is_shown_and_a_customer_on_mobile_data_is_not(
    database: Database, verification: Verification, issuing: Issuing, clock: Clock
) -> None:
    patched, cafe, handed_on, mobile = (issuing.issue(1, None).cards[0].id for _ in range(4))

    def start(card_id: str, machine: str, address: str) -> None:
        clock.advance(timedelta(minutes=2))
        assert ask(verification, card_id, f"{machine} {card_id}", address).code == "OK"

    for number in range(40):
        start(patched, "constant", f"10.{number}.7.9")
        start(cafe, f"seat {number}", "192.0.2.1")
        start(mobile, "phone", f"172.16.{number % 20}.{number + 1}")
    for number in range(20):
        start(handed_on, f"computer {number}", f"172.20.{max(0, number - 1)}.1")
        start(handed_on, f"computer {number}", f"172.20.{number}.1")
    report = collect(database, clock.now, SHANGHAI)
    assert {row["card_id"] for row in report["accepted"]["first"]} == {patched, cafe, handed_on}
    assert report["cards"] == []
    assert clock.now - START < DAY
