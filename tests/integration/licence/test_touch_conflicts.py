"""Touches beside other transactions, and statements that fail: nobody waits for long, and nothing is counted twice."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial

import psycopg2
import pytest
from psycopg2 import extensions

from app.domain.licence.policy import Facts
from app.runtime import greenlets
from app.services.licence.verification import Verification
from app.storage import database as database_module
from app.storage import touches
from app.storage.database import Database
from app.storage.models import Client, Usage
from app.storage.statements import PREPARED
from app.storage.touches import Touches
from tests.conftest import START, Clock
from tests.support.concurrency import wait_behind
from tests.support.held_statements import HeldStatements, begin, results
from tests.support.licence.bound_cards import (
    CardState,
    asking,
    counts,
    hardware_of,
    numbered_id,
    rows,
    write,
    write_bound,
)
from tests.support.services.service import Response, Service, question, wait_for_lock
from tests.support.services.tcp_proxy import SilentHost, Wire

DAY = date(2026, 3, 1)
MINE = asking(numbered_id(0))


def test_a_card_that_is_locked_holds_up_no_other(one_worker: Service, elsewhere: Database) -> None:
    locked, *free = one_worker.issue(5)

    def verify(card_id: str) -> Response:
        return one_worker.verify(question(card_id, f"machine of {card_id}"), address="192.0.2.1")

    with ThreadPoolExecutor(5) as pool:
        assert {answer.status for answer in pool.map(verify, [locked, *free])} == {200}
        elsewhere.execute_sql("SELECT FROM client WHERE card_id = %s FOR UPDATE", (locked,))
        waiting = pool.submit(verify, locked)
        wait_for_lock(elsewhere)
        assert {answer.status for answer in pool.map(verify, free)} == {200}
        assert not waiting.done()
        elsewhere.execute_sql("COMMIT")
        assert waiting.result(20).status == 200
    assert {row["count"] for row in rows()[2]} == {2}


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
    batched: Touches, held: HeldStatements, verification: Verification, clock: Clock
) -> None:
    good, bad, also_good = write_bound(3, clock.now, (DAY, "f"))
    Usage.update(count=2**63 - 1).where(Usage.card == bad).execute()
    asked = begin(*(partial(batched.touch, asking(card_id), clock.now, DAY) for card_id in (good, bad, also_good)))
    held.release()
    assert results(asked) == [None] * 3, "each goes the careful way"
    assert [verification.verify(asking(card_id)).code for card_id in (good, also_good)] == ["OK"] * 2
    with pytest.raises(psycopg2.DataError, match="out of range"):
        verification.verify(asking(bad))
    assert [counts(DAY)[card_id, "f"] for card_id in (good, also_good)] == [2, 2]


@pytest.fixture
def wire(database: Database, database_url: str) -> Iterator[Wire]:
    with Wire(database_url, b"EXECUTE touch", b"SELECT 1") as wire:
        yield wire


@pytest.fixture
def as_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Database], Touches]]:
    """Returns what records touches in a greenlet's way of waiting."""
    extensions.set_wait_callback(greenlets.wait)
    monkeypatch.setattr(touches.monkey, "is_module_patched", lambda _name: True)
    yield Touches
    extensions.set_wait_callback(None)


def test_an_answer_that_is_lost_is_asked_for_again(
    wire: Wire, as_in_a_worker: Callable[[Database], Touches], clock: Clock
) -> None:
    """Nobody knows that it was committed."""
    (card_id,) = write_bound(1, clock.now, (DAY, "f"))
    touch = partial(as_in_a_worker(Database(wire.url, prepared=PREPARED)).touch, asking(card_id), clock.now, DAY)
    wire.armed = False
    with ThreadPoolExecutor(1) as pool:  # one thread, hence one hub
        assert pool.submit(touch).result(20) is not None
        wire.armed = True
        asked = pool.submit(touch)
        assert wire.held.wait(60)
        assert counts(DAY) == {(card_id, "f"): 3}
        wire.cut()
        assert asked.result(20) is not None
    assert counts(DAY) == {(card_id, "f"): 4}


def test_a_server_that_does_not_answer_is_given_up_for_a_while(
    as_in_a_worker: Callable[[Database], Touches], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_SECONDS_BETWEEN_ATTEMPTS", 3_600)
    monkeypatch.setattr(greenlets, "CONNECT_SECONDS", 1)
    with contextlib.closing(SilentHost()) as server:
        silent = Database(f"postgresql://nobody@127.0.0.1:{server.port}/kadun", prepared=PREPARED)
        touch = partial(as_in_a_worker(silent).touch, asking("A" * 32), clock.now, DAY)
        assert [touch() for _ in range(3)] == [None] * 3
        assert server.accepted == 1


@pytest.mark.parametrize("is_first", [True, False])
def test_a_server_that_stops_answering_is_given_up(
    wire: Wire,
    as_in_a_worker: Callable[[Database], Touches],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_first: bool,
) -> None:
    (card_id,) = write_bound(1, clock.now, (DAY, "f"))
    touch = partial(as_in_a_worker(Database(wire.url, prepared=PREPARED)).touch, asking(card_id), clock.now, DAY)
    with ThreadPoolExecutor(1) as pool:
        if not is_first:
            wire.armed = False
            assert pool.submit(touch).result(20) is not None
            wire.armed = True
        monkeypatch.setattr(touches, "ANSWER_SECONDS", 2)
        asked = pool.submit(touch)
        assert wire.held.wait(60)
        monkeypatch.setattr(touches, "ANSWER_SECONDS", 15)  # what is asked next has its usual time
        assert (asked.result(60) is None) == is_first
