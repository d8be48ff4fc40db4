"""Touches beside other transactions, and statements that fail: nobody waits for long, and nothing is counted twice."""

import contextlib
from collections.abc import Iterator
from datetime import date
from functools import partial
from typing import Any

import psycopg2
import pytest

from app.domain.policy import Facts
from app.services.verification import Verification
from app.storage import database as database_module
from app.storage import hub_connection, touches
from app.storage.database import Database
from app.storage.models import Client, Usage
from app.storage.statements import PREPARED
from app.storage.touches import Touches
from tests.conftest import START, Clock
from tests.support.bound_cards import CardState, asking, counts, hardware_of, numbered_id, rows, write, write_bound
from tests.support.concurrency import wait_behind
from tests.support.held_statements import HeldStatements
from tests.support.hub_thread import HubThread
from tests.support.service import wait_for_lock
from tests.support.tcp_proxy import SilentHost, Wire

DAY = date(2026, 3, 1)
MINE = asking(numbered_id(0))


def begin(hub_thread: HubThread, verification: Verification, ids: list[str]) -> list[Any]:
    return hub_thread.begin_all([partial(verification.verify, asking(card_id)) for card_id in ids])


def test_a_card_that_is_locked_holds_up_no_other(
    verification: Verification, elsewhere: Database, hub_thread: HubThread, clock: Clock
) -> None:
    locked, *free = write_bound(5, clock.now, (DAY, "f"))
    elsewhere.execute_sql("SELECT FROM client WHERE card_id = %s FOR UPDATE", (locked,))
    waiting, *asked = begin(hub_thread, verification, [locked, *free])
    assert [one.result(20).code for one in asked] == ["OK"] * 4
    assert not waiting.done()
    elsewhere.execute_sql("COMMIT")
    assert waiting.result(20).code == "OK"
    assert {row["count"] for row in rows()[2]} == {2}


def test_an_operator_who_locks_in_another_order_is_let_through(
    verification: Verification,
    elsewhere: Database,
    hub_thread: HubThread,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Longer than in the service, so that a busy machine reaches the second lock meanwhile; still less than the
    # database's deadlock_timeout of a second.
    monkeypatch.setitem(touches.SESSION, "lock_timeout", "800ms")
    first, second, other = write_bound(3, clock.now, (DAY, "f"))
    unbind = "DELETE FROM client WHERE card_id = %s"
    # Operators lock the cards first; otherwise a card's careful way could read its client just before the commit.
    lock = "SELECT FROM card WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
    elsewhere.execute_sql(lock, ([first, second],))
    elsewhere.execute_sql(unbind, (second,))
    asked = begin(hub_thread, verification, [first, second, other])
    wait_for_lock(elsewhere)
    elsewhere.execute_sql(unbind, (first,))
    elsewhere.execute_sql("COMMIT")
    assert [one.result(20).code for one in asked] == ["OK"] * 3
    assert Client.select().count() == 3


CHANGES: dict[str, tuple[str, tuple[object, ...]]] = {
    "unbound": ("DELETE FROM client WHERE card_id = %s", (numbered_id(0),)),
    "moved to another card": ("UPDATE client SET card_id = %s", (numbered_id(1),)),
    "bound to another machine": (
        "UPDATE client SET hardware = 'h', hardware_sha256 = encode(sha256('h'), 'hex') WHERE card_id = %s",
        (numbered_id(0),),
    ),
    "at another address": ("UPDATE client SET ip = '198.51.100.9' WHERE card_id = %s", (numbered_id(0),)),
    "bound anew": (
        "DELETE FROM client WHERE card_id = %s; INSERT INTO client VALUES (%s, %s, %s, %s, %s, now(), 'before')",
        (numbered_id(0), numbered_id(9), numbered_id(0), MINE.hardware, MINE.hardware_sha256, MINE.address),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_touch_that_waited_for_a_client_checks_it_again(database: Database, elsewhere: Database, change: str) -> None:
    write([CardState(hardware=hardware_of(numbered_id(0)), functions=((DAY, "f"),)), CardState()], START)
    elsewhere.execute_sql(*CHANGES[change])
    found = touch_until_committed(database, elsewhere)
    assert found is None
    after = rows()
    assert after[2][0]["count"] == 1
    assert all(client["function"] == "before" for client in after[1])


def test_a_touch_that_waited_for_another_counts_as_well(database: Database, elsewhere: Database) -> None:
    write_bound(1, START, (DAY, "f"))
    elsewhere.execute_sql("UPDATE client SET requested_at = now()")
    elsewhere.execute_sql("UPDATE usage SET count = count + 10")
    assert touch_until_committed(database, elsewhere) is not None
    assert rows()[2][0]["count"] == 12
    assert Client.get().function == "f"


def touch_until_committed(database: Database, elsewhere: Database) -> Facts | None:
    """Touch the first card off a hub, where locks are waited for, and commit the other transaction meanwhile."""
    return wait_behind(elsewhere, database, partial(Touches(database).touch, MINE, START, DAY))


def test_a_card_that_makes_a_statement_fail_harms_no_other(
    verification: Verification, held: HeldStatements, hub_thread: HubThread, clock: Clock
) -> None:
    good, bad, also_good = write_bound(3, clock.now, (DAY, "f"), (DAY, "g"))
    Usage.update(count=2**63 - 1).where((Usage.card == bad) & (Usage.function == "f")).execute()
    requests = [asking(good), asking(bad), asking(also_good), asking(good), asking(good, "g"), asking(bad, "g")]
    asked = hub_thread.begin_all([partial(verification.verify, request) for request in requests])
    held.release()
    assert [one.result(20).code for one in asked if one is not asked[1]] == ["OK"] * 5
    with pytest.raises(psycopg2.DataError, match="out of range"):
        asked[1].result(20)
    assert held.cards() == [[good, bad, also_good], [good, bad]]
    assert [counts(DAY)[key] for key in ((good, "f"), (also_good, "f"), (good, "g"), (bad, "g"))] == [3, 2, 2, 2]


def test_a_connection_that_is_lost_in_a_statement_counts_nothing_twice(
    verification: Verification,
    elsewhere: Database,
    hub_thread: HubThread,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(touches.SESSION, "lock_timeout", "60s")
    locked, *free = write_bound(5, clock.now, (DAY, "f"))
    elsewhere.execute_sql("SELECT FROM client WHERE card_id = %s FOR UPDATE", (locked,))
    asked = begin(hub_thread, verification, [*free, locked])
    wait_for_lock(elsewhere)
    end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    elsewhere.execute_sql(end)
    elsewhere.execute_sql("COMMIT")
    assert [one.result(20).code for one in asked] == ["OK"] * 5
    assert set(counts(DAY).values()) == {2}


@pytest.fixture
def wire(database: Database, database_url: str) -> Iterator[Wire]:
    with Wire(database_url, b"EXECUTE touch", b"SELECT 1") as wire:
        yield wire


def test_an_answer_that_is_lost_after_the_commit_is_counted_again(
    wire: Wire, hub_thread: HubThread, clock: Clock
) -> None:
    (card_id,) = write_bound(1, clock.now, (DAY, "f"))
    touch = partial(Touches(Database(wire.url, prepared=PREPARED)).touch, asking(card_id), clock.now, DAY)
    wire.armed = False
    assert hub_thread.call(touch) is not None
    wire.armed = True
    asked = hub_thread.begin(touch)
    assert wire.held.wait(60)
    assert counts(DAY) == {(card_id, "f"): 3}
    wire.cut()
    assert asked.result(20) is not None
    assert counts(DAY) == {(card_id, "f"): 4}, "nobody knows that it was committed"


def test_a_server_that_does_not_answer_is_given_up_for_a_while(
    hub_thread: HubThread, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_SECONDS_BETWEEN_ATTEMPTS", 3_600)
    with contextlib.closing(SilentHost()) as server:
        silent = Database(f"postgresql://nobody@127.0.0.1:{server.port}/kadun", prepared=PREPARED)
        silent.connect_params["connect_timeout"] = 1  # libpq has no fractions
        touch = partial(Touches(silent).touch, asking("A" * 32), clock.now, DAY)
        assert [hub_thread.begin(touch).result(20) for _ in range(3)] == [None] * 3
        assert server.accepted == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_a_server_that_stops_answering_is_given_up(
    wire: Wire, hub_thread: HubThread, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    (card_id,) = write_bound(1, clock.now, (DAY, "f"))
    touch = partial(Touches(Database(wire.url, prepared=PREPARED)).touch, asking(card_id), clock.now, DAY)
    if not is_first:
        wire.armed = False
        assert hub_thread.call(touch) is not None
        wire.armed = True
    monkeypatch.setattr(hub_connection, "ANSWER_SECONDS", 2)
    asked = hub_thread.begin(touch)
    assert wire.held.wait(60)
    monkeypatch.undo()  # what is asked next has its usual time
    assert (asked.result(60) is None) == is_first
