"""`Batcher`, which records unchanged requests: alone, in batches, beside transactions, and when the server fails."""
# Owns verdict-refresh.

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from typing import Any

import gevent
import psycopg2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg2 import extensions

from app.domain.licence.policy import Facts, VerificationRequest, decide
from app.runtime import greenlets
from app.services.licence.licence import Verification
from app.storage import batcher as batcher_module
from app.storage import bindings, schema
from app.storage import database as database_module
from app.storage.batcher import MAX_CARDS, SESSION, Batcher
from app.storage.database import Database
from app.storage.models import Client, Usage
from app.storage.statements import PREPARED
from tests.conftest import START, Clock
from tests.support.concurrency import HeldStatements, begin, results, wait_behind
from tests.support.licence import bound_cards
from tests.support.licence.bound_cards import (
    TRICKY,
    WIDTH,
    CardState,
    asking,
    counts,
    hardware_of,
    numbered_id,
    rows,
    write_bound,
)
from tests.support.services.relays import SilentHost, Wire
from tests.support.services.service import Response, Service, question, wait_for_lock

YESTERDAY, DAY, NEXT_DAY = date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2)
SECOND, moment = timedelta(seconds=1), timedelta(microseconds=1)
MINE = asking(numbered_id(0))
MACHINES = ["h1", "h2", "h3", "h4"]
ADDRESSES = ["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=WIDTH)
functions = st.sampled_from(TRICKY[:4]) | st.sampled_from(TRICKY) | texts
expiries = st.sampled_from([None, timedelta(days=1), moment, timedelta(0), -moment, -timedelta(days=1)])
usage = st.lists(st.tuples(st.sampled_from([DAY, DAY, DAY, YESTERDAY]), functions), unique=True, min_size=1, max_size=4)
card_states = st.builds(
    CardState,
    is_activated=st.sampled_from([True, True, True, False]),
    expires_in=expiries,
    is_frozen=st.sampled_from([False, False, False, True]),
    address=st.sampled_from(ADDRESSES),
    functions=usage.map(tuple),
)
Touching = Callable[[str], Callable[[], Facts | None]]
"""Makes, by a URL, what touches the first card."""
FITTING = CardState(hardware="h1", expires_in=moment, address=ADDRESSES[0], functions=((DAY, "f"),))
REQUEST = VerificationRequest.from_fields(numbered_id(0), "h1", "f", "n" * 22, ADDRESSES[0])


@st.composite
def situations(draw: st.DrawFn) -> tuple[list[CardState], list[VerificationRequest]]:
    """Cards in random states, and requests of which many nearly fit them, or come twice."""
    machines = draw(st.permutations([*MACHINES, None]))
    states = [replace(draw(card_states), hardware=hardware) for hardware in machines[:4]]
    requests: list[VerificationRequest] = []
    for _ in range(draw(st.integers(1, 12))):
        if requests and draw(st.booleans()):
            requests.append(draw(st.sampled_from(requests)))
            continue
        number = draw(st.integers(0, 4))  # one more than there are cards
        state = states[number] if number < len(states) else draw(card_states)
        known = [function for _day, function in state.functions]
        requests.append(
            VerificationRequest.from_fields(
                draw(st.sampled_from([numbered_id(number)] * 8 + [numbered_id(number) + "}"])),
                draw(st.sampled_from([state.hardware or "h1"] * 6 + MACHINES)),
                draw(st.sampled_from(known * 4 + TRICKY[:1])),
                "n" * 22,
                draw(st.sampled_from([state.address] * 8 + ADDRESSES)),
            )
        )
    return states, requests


@given(situation=situations())
@example(situation=([FITTING], [REQUEST]))
@example(situation=([replace(FITTING, is_frozen=True)], [REQUEST]))
@example(situation=([replace(FITTING, is_activated=False)], [REQUEST]))
@example(situation=([replace(FITTING, expires_in=timedelta(0))], [REQUEST]))
@example(situation=([replace(FITTING, functions=((DAY, "\\"),))], [REQUEST._replace(function="\\")]))
def test_what_is_touched_is_a_refresh(
    database: Database, touches: Batcher, situation: tuple[list[CardState], list[VerificationRequest]]
) -> None:
    states, requests = situation
    with database.atomic() as transaction:
        bound_cards.write(states, START)
        for request in dict.fromkeys(requests):
            before, facts = rows(), bindings.read_facts(database, request.card_id, request.hardware_sha256)
            found = touches.touch(request, START, DAY)
            if found is None:
                assert rows() == before
                continue
            assert found == facts
            assert decide(facts, request, START).is_refresh
            assert rows() == recorded(before, [request])
        transaction.rollback()


@given(situation=situations())
def test_requests_that_come_together_are_recorded_as_one_by_one(
    database: Database, touches: Batcher, batched: Batcher, situation: tuple[list[CardState], list[VerificationRequest]]
) -> None:
    states, requests = situation
    bound_cards.clear()
    bound_cards.write(states, START)
    before = rows()
    with database.atomic() as transaction:
        alone = [touches.touch(request, START, DAY) for request in requests]
        transaction.rollback()
    assert results(begin(*(partial(batched.touch, request, START, DAY) for request in requests))) == alone
    touched = [request for request, facts in zip(requests, alone, strict=True) if facts is not None]
    cards, clients, usage = rows()
    expected = recorded(before, touched)
    for client, other in zip(clients, expected[1], strict=True):
        # Of requests with different functions each makes a statement of its own, and any of them may be the last.
        assert client["function"] in {r.function for r in touched if r.card_id == client["card"]} | {other["function"]}
        other["function"] = client["function"]
    assert [cards, clients, usage] == expected


def recorded(before: bound_cards.Rows, requests: list[VerificationRequest]) -> bound_cards.Rows:
    """The rows with these requests recorded."""
    times = Counter((request.card_id, request.function) for request in requests)
    last = {request.card_id: request.function for request in requests}
    cards, clients, usage = before
    clients = [
        client | {"requested_at": START, "function": last[client["card"]]} if client["card"] in last else client
        for client in clients
    ]
    assert times.keys() <= {(row["card"], row["function"]) for row in usage if row["day"] == DAY}
    usage = [
        row | {"count": row["count"] + times[row["card"], row["function"]], "last_at": START}
        if row["day"] == DAY and (row["card"], row["function"]) in times
        else row
        for row in usage
    ]
    return [cards, clients, usage]


def found(asked: list[Any]) -> list[str]:
    """The cards of the clients that these touches have found."""
    return [facts.client.card_id for facts in results(asked)]


def test_equal_requests_are_summed_and_their_latest_time_recorded(batched: Batcher, held: HeldStatements) -> None:
    first, card_id = write_bound(2, START, (DAY, "f"))
    times = [START + seconds * SECOND for seconds in (0, 1, 5, 2)]
    asked = begin(partial(batched.touch, asking(first), START, DAY))
    asked += begin(*(partial(batched.touch, asking(card_id), at, DAY) for at in times))
    held.release()
    assert found(asked) == [first] + [card_id] * 4
    assert (held.cards(), held.times()) == ([[first], [card_id]], [[1], [4]])
    assert counts(DAY) == {(first, "f"): 2, (card_id, "f"): 5}
    assert Client.get(Client.card == card_id).requested_at == max(times)
    assert Usage.get(Usage.card == card_id).last_at == max(times)


def test_requests_of_two_days_do_not_mix(batched: Batcher, held: HeldStatements) -> None:
    midnight = START.replace(hour=16, minute=0, second=0, microsecond=0)
    first, card_id, other = write_bound(3, START, (DAY, "f"), (NEXT_DAY, "f"))
    before, after = (midnight - SECOND, DAY), (midnight, NEXT_DAY)
    asked = begin(partial(batched.touch, asking(first), *before))
    for card, moment in ((card_id, after), (card_id, before), (other, before), (card_id, before), (other, after)):
        asked += begin(partial(batched.touch, asking(card), *moment))
    held.release()
    assert all(results(asked))
    assert [(arguments[6], arguments[7]) for arguments in held.ran] == [before[::-1], after[::-1], before[::-1]]
    assert counts(DAY) == {(first, "f"): 2, (card_id, "f"): 3, (other, "f"): 2}
    assert counts(NEXT_DAY) == {(first, "f"): 1, (card_id, "f"): 2, (other, "f"): 2}


def test_a_statement_has_a_limited_number_of_cards(batched: Batcher, held: HeldStatements) -> None:
    first, *others = write_bound(2 * MAX_CARDS + 11, START, (DAY, "f"))
    works = [partial(batched.touch, asking(card_id), START, DAY) for card_id in (first, *others, *others[:50])]
    asked = begin(works[0]) + begin(*works[1:])
    held.release()
    assert all(results(asked))
    assert held.cards() == [[first], others[:MAX_CARDS], others[MAX_CARDS : 2 * MAX_CARDS], others[2 * MAX_CARDS :]]
    assert [sum(times) for times in held.times()] == [1, MAX_CARDS + 50, MAX_CARDS, 10]
    assert sum(counts(DAY).values()) == len(works) + 2 * MAX_CARDS + 11


def test_a_waiter_that_is_killed_harms_nobody(batched: Batcher, held: HeldStatements) -> None:
    first, *others = write_bound(11, START, (DAY, "f"))
    doomed = begin(partial(batched.touch, asking(first), START, DAY))
    doomed += begin(partial(batched.touch, asking(others[0]), START, DAY))
    works = [partial(batched.touch, asking(card_id), START, DAY) for card_id in others[::-1]]
    asked = begin(*works)
    gevent.killall(doomed)
    asked += begin(*works)
    held.release()
    assert found(asked) == others[::-1] * 2
    assert held.cards() == [[first], others], "sorted, so that all processes lock in one order"
    assert sum(counts(DAY).values()) == 11 + 22


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
    "unbound": ("DELETE FROM client WHERE card_id = %s", (MINE.card_id,)),
    "moved to another card": ("UPDATE client SET card_id = %s", (numbered_id(1),)),
    "bound to another machine": ("UPDATE client SET hardware = 'h', hardware_sha256 = encode(sha256('h'), 'hex')", ()),
    "at another address": ("UPDATE client SET ip = '198.51.100.9'", ()),
    "bound anew": (
        "DELETE FROM client; INSERT INTO client VALUES (%s, %s, %s, %s, %s, now(), 'before')",
        (numbered_id(9), MINE.card_id, MINE.hardware, MINE.hardware_sha256, MINE.address),
    ),
}


def test_a_touch_that_waited_checks_its_client_again(database: Database, touches: Batcher, elsewhere: Database) -> None:
    touch = partial(touches.touch, MINE, START, DAY)  # off a hub, where locks are waited for
    for change, statement in CHANGES.items():
        bound_cards.clear()
        bound_cards.write([replace(FITTING, hardware=hardware_of(MINE.card_id)), CardState()], START)
        elsewhere.execute_sql(*statement)
        assert wait_behind(elsewhere, database, touch) is None, change
        _cards, clients, usage = rows()
        assert (usage[0]["count"], {client["function"] for client in clients} - {"before"}) == (1, set()), change
        elsewhere.execute_sql("BEGIN")
    bound_cards.clear()
    write_bound(1, START, (DAY, "f"))
    elsewhere.execute_sql("UPDATE client SET requested_at = now(); UPDATE usage SET count = count + 10")
    assert wait_behind(elsewhere, database, touch) is not None
    assert (counts(DAY), Client.get().function) == ({(MINE.card_id, "f"): 12}, "f")


def test_a_card_that_makes_a_statement_fail_harms_no_other(
    batched: Batcher, held: HeldStatements, verification: Verification, clock: Clock
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
def touching_by(monkeypatch: pytest.MonkeyPatch) -> Iterator[Touching]:
    """Waits in a greenlet's way."""
    extensions.set_wait_callback(greenlets.wait)
    monkeypatch.setattr(batcher_module.monkey, "is_module_patched", lambda _name: True)
    yield lambda url: partial(Batcher(Database(url, prepared=PREPARED)).touch, MINE, START, DAY)
    extensions.set_wait_callback(None)


def test_an_answer_that_is_lost_is_asked_for_again(wire: Wire, touching_by: Touching) -> None:
    """Nobody knows that it was committed."""
    write_bound(1, START, (DAY, "f"))
    touch = touching_by(wire.url)
    wire.armed = False
    with ThreadPoolExecutor(1) as pool:  # one thread, hence one hub
        assert pool.submit(touch).result(20) is not None
        wire.armed = True
        asked = pool.submit(touch)
        assert wire.held.wait(60)
        assert counts(DAY) == {(MINE.card_id, "f"): 3}
        wire.cut()
        assert asked.result(20) is not None
    assert counts(DAY) == {(MINE.card_id, "f"): 4}


@pytest.mark.parametrize("is_first", [True, False])
def test_a_server_that_stops_answering_is_given_up(
    wire: Wire, touching_by: Touching, monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    write_bound(1, START, (DAY, "f"))
    touch = touching_by(wire.url)
    with ThreadPoolExecutor(1) as pool:
        if not is_first:
            wire.armed = False
            assert pool.submit(touch).result(20) is not None
            wire.armed = True
        monkeypatch.setattr(batcher_module, "ANSWER_SECONDS", 2)
        asked = pool.submit(touch)
        assert wire.held.wait(60)
        monkeypatch.setattr(batcher_module, "ANSWER_SECONDS", 15)  # what is asked next has its usual time
        assert (asked.result(60) is None) == is_first


def test_a_silent_server_is_given_up_for_a_while(touching_by: Touching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "_SECONDS_BETWEEN_ATTEMPTS", 3_600)
    monkeypatch.setattr(greenlets, "CONNECT_SECONDS", 1)
    with contextlib.closing(SilentHost()) as server:
        touch = touching_by(f"postgresql://nobody@127.0.0.1:{server.port}/kadun")
        assert [touch() for _ in range(3)] == [None] * 3
        assert server.accepted == 1


@pytest.fixture
def probed(database_url: str) -> Database:
    """The database, with statements that look at a connection and lock a card."""
    probes = {
        "setting": "SELECT current_setting($1::text)",
        "pid": "SELECT pg_backend_pid() + $1::int",  # EXECUTE takes at least one argument
    }
    return Database(database_url, prepared=PREPARED | probes, on_connect=schema.check_version)


@pytest.fixture
def run(probed: Database) -> Callable[..., Any]:
    """Runs a prepared statement on the connection of `Batcher`, and returns what it selects."""
    run_prepared = Batcher(probed)._run  # noqa: SLF001  # it has no other use
    return lambda *arguments: run_prepared(*arguments)[0][0]


def test_this_connection_alone_has_settings_for_commits_and_planner(probed: Database, run: Callable[..., Any]) -> None:
    names = (*SESSION, "statement_timeout", "TimeZone", "client_encoding")
    own = {name: run("setting", name) for name in names}
    with probed.connection_context():
        usual = {name: probed.run_prepared("setting", name)[0][0] for name in names}
    assert {name for name in names if own[name] != usual[name]} == SESSION.keys()
    limits = (own["lock_timeout"], run("setting", "deadlock_timeout"))
    assert limits == ("100ms", "1s"), "it gives way before PostgreSQL looks for deadlocks"
    assert own["synchronous_commit"] == "off"


def test_the_connection_outlives_errors_and_is_replaced_once_ended(database: Database, run: Callable[..., Any]) -> None:
    (pid,) = {run("pid", 0) for _ in range(5)}
    with pytest.raises(psycopg2.ProgrammingError, match="unrecognized configuration parameter"):
        run("setting", "nonsense")
    assert run("pid", 0) == pid
    database.execute_sql("SELECT pg_terminate_backend(%s, 20000)", (pid,))
    assert run("pid", 0) != pid


def test_of_several_addresses_it_takes_the_first_that_answers(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(greenlets, "CONNECT_SECONDS", 0.2)
    port = int(extensions.parse_dsn(database_url)["port"])
    addresses = [(None, None, None, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(database_module.socket, "getaddrinfo", lambda *_arguments, **_options: addresses)
    extensions.set_wait_callback(greenlets.wait)
    try:
        with socket.create_server(("127.0.0.2", port)):
            assert Database(database_url).execute_sql("SELECT 1").fetchone() == (1,)
    finally:
        extensions.set_wait_callback(None)
