"""What is touched is a refresh by the rules; what is not touched is left alone, in whatever company it comes."""
# Owns verdict-refresh.

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from functools import partial

import gevent
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.licence.policy import Facts, VerificationRequest, decide
from app.storage import bindings
from app.storage.database import Database
from app.storage.models import Client, Usage
from app.storage.touches import MAX_CARDS, Touches
from tests.conftest import START
from tests.support.held_statements import HeldStatements, begin, results
from tests.support.licence import bound_cards
from tests.support.licence.bound_cards import TRICKY, WIDTH, CardState, asking, counts, numbered_id, rows, write_bound

AT = START
DAY, YESTERDAY = date(2026, 3, 1), date(2026, 2, 28)
MACHINES = ["h1", "h2", "h3", "h4"]
ADDRESSES = ["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"]
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=WIDTH)
functions = st.sampled_from(TRICKY[:4]) | st.sampled_from(TRICKY) | texts
moment = timedelta(microseconds=1)
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


FITTING = CardState(
    hardware="h1", is_activated=True, expires_in=moment, is_frozen=False, address=ADDRESSES[0], functions=((DAY, "f"),)
)
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


def facts_of(database: Database, request: VerificationRequest) -> Facts:
    return bindings.read_facts(database, request.card_id, request.hardware_sha256)


@given(situation=situations())
@example(situation=([FITTING], [REQUEST]))
@example(situation=([replace(FITTING, is_frozen=True)], [REQUEST]))
@example(situation=([replace(FITTING, is_activated=False)], [REQUEST]))
@example(situation=([replace(FITTING, expires_in=timedelta(0))], [REQUEST]))
@example(situation=([replace(FITTING, functions=((DAY, "\\"),))], [REQUEST._replace(function="\\")]))
def test_what_is_touched_is_a_refresh(
    database: Database, touches: Touches, situation: tuple[list[CardState], list[VerificationRequest]]
) -> None:
    states, requests = situation
    with database.atomic() as transaction:
        bound_cards.write(states, AT)
        for request in dict.fromkeys(requests):
            before, facts = rows(), facts_of(database, request)
            found = touches.touch(request, AT, DAY)
            if found is None:
                assert rows() == before
                continue
            assert found == facts
            assert decide(facts, request, AT).is_refresh
            assert rows() == recorded(before, [request])
        transaction.rollback()


@given(situation=situations())
def test_requests_that_come_together_are_recorded_as_one_by_one(
    database: Database,
    touches: Touches,
    batched: Touches,
    situation: tuple[list[CardState], list[VerificationRequest]],
) -> None:
    states, requests = situation
    bound_cards.clear()
    bound_cards.write(states, AT)
    before = rows()
    with database.atomic() as transaction:
        alone = [touches.touch(request, AT, DAY) for request in requests]
        transaction.rollback()
    assert results(begin(*(partial(batched.touch, request, AT, DAY) for request in requests))) == alone
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
        client | {"requested_at": AT, "function": last[client["card"]]} if client["card"] in last else client
        for client in clients
    ]
    assert times.keys() <= {(row["card"], row["function"]) for row in usage if row["day"] == DAY}
    usage = [
        row | {"count": row["count"] + times[row["card"], row["function"]], "last_at": AT}
        if row["day"] == DAY and (row["card"], row["function"]) in times
        else row
        for row in usage
    ]
    return [cards, clients, usage]


DAY, NEXT_DAY = date(2026, 3, 1), date(2026, 3, 2)
SECOND = timedelta(seconds=1)


def client(facts: Facts | None) -> str:
    """The card of the client that was found."""
    assert facts is not None
    assert facts.client is not None
    return facts.client.card_id


def test_equal_requests_are_summed_and_their_latest_time_recorded(batched: Touches, held: HeldStatements) -> None:
    first, card_id = write_bound(2, START, (DAY, "f"))
    times = [START + seconds * SECOND for seconds in (0, 1, 5, 2)]
    asked = begin(partial(batched.touch, asking(first), START, DAY))
    asked += begin(*(partial(batched.touch, asking(card_id), at, DAY) for at in times))
    held.release()
    assert [*map(client, results(asked))] == [first] + [card_id] * 4
    assert (held.cards(), held.times()) == ([[first], [card_id]], [[1], [4]])
    assert counts(DAY) == {(first, "f"): 2, (card_id, "f"): 5}
    assert Client.get(Client.card == card_id).requested_at == max(times)
    assert Usage.get(Usage.card == card_id).last_at == max(times)


def test_requests_of_two_days_do_not_mix(batched: Touches, held: HeldStatements) -> None:
    midnight = START.replace(hour=16, minute=0, second=0, microsecond=0)
    first, card_id, other = write_bound(3, START, (DAY, "f"), (NEXT_DAY, "f"))
    before, after = (midnight - SECOND, DAY), (midnight, NEXT_DAY)
    asked = begin(partial(batched.touch, asking(first), *before))
    for card, moment in ((card_id, after), (card_id, before), (other, before), (card_id, before), (other, after)):
        asked += begin(partial(batched.touch, asking(card), *moment))
    held.release()
    assert all(results(asked))
    assert [(arguments[5], arguments[6]) for arguments in held.ran] == [before[::-1], after[::-1], before[::-1]]
    assert counts(DAY) == {(first, "f"): 2, (card_id, "f"): 3, (other, "f"): 2}
    assert counts(NEXT_DAY) == {(first, "f"): 1, (card_id, "f"): 2, (other, "f"): 2}


def test_a_statement_has_a_limited_number_of_cards(batched: Touches, held: HeldStatements) -> None:
    first, *others = write_bound(2 * MAX_CARDS + 11, START, (DAY, "f"))
    works = [partial(batched.touch, asking(card_id), START, DAY) for card_id in (first, *others, *others[:50])]
    asked = begin(works[0]) + begin(*works[1:])
    held.release()
    assert all(results(asked))
    assert held.cards() == [[first], others[:MAX_CARDS], others[MAX_CARDS : 2 * MAX_CARDS], others[2 * MAX_CARDS :]]
    assert [sum(times) for times in held.times()] == [1, MAX_CARDS + 50, MAX_CARDS, 10]
    assert sum(counts(DAY).values()) == len(works) + 2 * MAX_CARDS + 11


def test_a_waiter_that_is_killed_harms_nobody(batched: Touches, held: HeldStatements) -> None:
    first, *others = write_bound(11, START, (DAY, "f"))
    doomed = begin(partial(batched.touch, asking(first), START, DAY))
    doomed += begin(partial(batched.touch, asking(others[0]), START, DAY))
    works = [partial(batched.touch, asking(card_id), START, DAY) for card_id in others[::-1]]
    asked = begin(*works)
    gevent.killall(doomed)
    asked += begin(*works)
    held.release()
    assert [*map(client, results(asked))] == others[::-1] * 2
    assert held.cards() == [[first], others], "sorted, so that all processes lock in one order"
    assert sum(counts(DAY).values()) == 11 + 22
