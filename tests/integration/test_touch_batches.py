"""On a hub, requests that come while a statement is under way are recorded by the next."""

from datetime import date, timedelta
from functools import partial

import gevent

from app.domain.policy import Facts
from app.storage.models import Client, Usage
from app.storage.touches import MAX_CARDS, Touches
from tests.conftest import START
from tests.support.bound_cards import asking, counts, write_bound
from tests.support.held_statements import HeldStatements
from tests.support.hub_thread import HubThread

DAY, NEXT_DAY = date(2026, 3, 1), date(2026, 3, 2)
SECOND = timedelta(seconds=1)


def test_requests_during_a_statement_are_recorded_by_the_next(
    touches: Touches, held: HeldStatements, hub_thread: HubThread
) -> None:
    first, *others = write_bound(51, START, (DAY, "f"))
    asked = [
        hub_thread.begin(partial(touches.touch, asking(card_id), START, DAY)) for card_id in (first, *others[::-1])
    ]
    held.release()
    assert [client(one.result(20)) for one in asked] == [first, *others[::-1]]
    assert held.cards() == [[first], others], "sorted, so that all processes lock in one order"
    assert set(counts(DAY).values()) == {2}


def client(facts: Facts | None) -> str:
    """The card of the client that was found."""
    assert facts is not None
    assert facts.client is not None
    return facts.client.card_id


def test_equal_requests_are_summed_and_their_latest_time_recorded(
    touches: Touches, held: HeldStatements, hub_thread: HubThread
) -> None:
    first, card_id = write_bound(2, START, (DAY, "f"))
    times = [START + seconds * SECOND for seconds in (0, 1, 5, 2)]
    asked = [hub_thread.begin(partial(touches.touch, asking(first), START, DAY))]
    asked += [hub_thread.begin(partial(touches.touch, asking(card_id), at, DAY)) for at in times]
    held.release()
    assert [client(one.result(20)) for one in asked] == [first] + [card_id] * 4
    assert (held.cards(), held.times()) == ([[first], [card_id]], [[1], [4]])
    assert counts(DAY) == {(first, "f"): 2, (card_id, "f"): 5}
    assert Client.get(Client.card == card_id).requested_at == max(times)
    assert Usage.get(Usage.card == card_id).last_at == max(times)


def test_requests_of_two_days_do_not_mix(touches: Touches, held: HeldStatements, hub_thread: HubThread) -> None:
    midnight = START.replace(hour=16, minute=0, second=0, microsecond=0)
    first, card_id, other = write_bound(3, START, (DAY, "f"), (NEXT_DAY, "f"))
    before, after = (midnight - SECOND, DAY), (midnight, NEXT_DAY)
    asked = [hub_thread.begin(partial(touches.touch, asking(first), *before))]
    for card, moment in ((card_id, after), (card_id, before), (other, before), (card_id, before), (other, after)):
        asked.append(hub_thread.begin(partial(touches.touch, asking(card), *moment)))
    held.release()
    assert all(one.result(20) for one in asked)
    assert [(arguments[5], arguments[6]) for arguments in held.ran] == [before[::-1], after[::-1], before[::-1]]
    assert counts(DAY) == {(first, "f"): 2, (card_id, "f"): 3, (other, "f"): 2}
    assert counts(NEXT_DAY) == {(first, "f"): 1, (card_id, "f"): 2, (other, "f"): 2}


def test_a_statement_has_a_limited_number_of_cards(
    touches: Touches, held: HeldStatements, hub_thread: HubThread
) -> None:
    first, *others = write_bound(2 * MAX_CARDS + 11, START, (DAY, "f"))
    works = [partial(touches.touch, asking(card_id), START, DAY) for card_id in (first, *others, *others[:50])]
    asked = [hub_thread.begin(works[0]), *hub_thread.begin_all(works[1:])]
    held.release()
    assert all(one.result(20) for one in asked)
    assert held.cards() == [[first], others[:MAX_CARDS], others[MAX_CARDS : 2 * MAX_CARDS], others[2 * MAX_CARDS :]]
    assert [sum(times) for times in held.times()] == [1, MAX_CARDS + 50, MAX_CARDS, 10]
    assert sum(counts(DAY).values()) == len(works) + 2 * MAX_CARDS + 11


def test_a_waiter_that_is_killed_harms_nobody(touches: Touches, held: HeldStatements, hub_thread: HubThread) -> None:
    first, *others = write_bound(11, START, (DAY, "f"))
    doomed = [hub_thread.spawn(partial(touches.touch, asking(card_id), START, DAY)) for card_id in (first, others[0])]
    asked = [hub_thread.begin(partial(touches.touch, asking(card_id), START, DAY)) for card_id in others]
    hub_thread.call(partial(gevent.killall, doomed))
    asked += [hub_thread.begin(partial(touches.touch, asking(card_id), START, DAY)) for card_id in others]
    held.release()
    assert [client(one.result(20)) for one in asked] == others * 2
    assert held.cards() == [[first], others]
    assert sum(counts(DAY).values()) == 11 + 22
