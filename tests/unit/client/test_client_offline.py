"""Offline starts: when the last accepted verdict is used, what ends that, and what a wrong clock costs."""

from __future__ import annotations

import io
import traceback
from typing import TYPE_CHECKING, Any

import pyrage
import pytest
from kadun import CardRejected, FunctionFailed, RequestRefused, ServerUnreachable, UnsealFailed, UntrustedAnswer
from kadun.clocks import LATEST_TIME, synchronized
from kadun.responses import Response

from tests.support.client.customer_machine import CORE, DAY, GRACE, YEAR_1970, YEAR_2100, at, no_network, unplug
from tests.support.client.fake_server import (
    CARD,
    NOW,
    SigningKey,
    claims_for,
    pinned,
    problem,
    reject,
    setting,
    verdict_response,
)
from tests.support.tables import for_each

if TYPE_CHECKING:
    from tests.support.client.customer_machine import Machine


IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


def test_the_last_accepted_verdict_is_used_while_the_server_cannot_be_reached(machine: Machine) -> None:
    machine.server.data_key = "\n".join(map(str, IDENTITIES))
    machine.server.tweak = setting(offline_until=NOW + GRACE, activated=True)
    online = machine.open()
    assert (online.offline, online.activated) == (False, True)
    unplug(machine.server)
    client = machine.run()
    verdict = client.open()
    assert (verdict.offline, verdict.accepted, verdict.reference) == (True, True, online.reference)
    assert verdict.card_expires_at == online.card_expires_at
    assert not verdict.activated  # an activation is reported once
    for identity in IDENTITIES:  # any of several
        sealed = pyrage.encrypt(CORE, [identity.to_public()])
        assert client.unseal(io.BytesIO(sealed)) == CORE


@for_each(
    "answer",
    [
        no_network,
        Response(503, b'{"code": "UNAVAILABLE"}', "60"),
        Response(429, b'{"code": "TOO_MANY_REQUESTS"}', "60"),
        Response(502, b"<html>"),
        Response(200, b"<html>please sign in</html>"),  # a captive portal
        Response(302, b""),  # a redirect to one
        lambda request: verdict_response(SigningKey().token(claims_for(request))),  # another server
        lambda request: verdict_response(SigningKey().token({**claims_for(request), "code": "CARD_FROZEN"})),
    ],
)
def test_it_is_used_for_every_answer_that_is_not_genuine(answer: Any, machine: Machine) -> None:
    assert not machine.open().offline
    assert machine.starts_offline(answer=answer)


def test_a_replayed_rejection_erases_nothing(machine: Machine) -> None:
    """A signed no to somebody else's question is none to ours."""
    machine.rejects(machine.run(card_id="F" * 32))
    other = machine.server.genuine(machine.server.requests[-1])
    machine.server.tweak = at(NOW)
    machine.open()
    assert machine.starts_offline(answer=other)


def test_a_report_needs_the_server(machine: Machine) -> None:
    machine.open()
    unplug(machine.server)
    client = machine.run()
    client.open()
    with pytest.raises(ServerUnreachable):
        client.report("导出报表")


@pytest.mark.parametrize("permitted_openings_before", [0, 1])
def test_without_the_vendors_permission_nothing_is_stored(permitted_openings_before: int, machine: Machine) -> None:
    for _ in range(permitted_openings_before):
        machine.open()
    machine.server.tweak = setting()
    machine.open()
    assert machine.files == []
    assert machine.fails_offline().detail == "no route"


@for_each("code", ["CARD_NOT_FOUND", "CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CARD_ON_HOLIDAY"])
@for_each("question", ["open", "report"])
def test_a_signed_rejection_is_final(question: str, code: str, machine: Machine) -> None:
    machine.server.tweak = at(NOW)
    client = machine.run()
    client.open()
    path, accepted = machine.file, machine.file.read_bytes()
    machine.server.tweak = reject(code)
    with pytest.raises(CardRejected):
        client.open() if question == "open" else client.report("导出报表")
    assert not machine.starts_offline()
    path.write_bytes(accepted)  # as it was, if the file could not be erased: the running program knows better
    assert not machine.starts_offline(client)
    with pytest.raises(UnsealFailed, match=r"call open\(\) first"):
        client.unseal(io.BytesIO(b""))


def test_neither_a_failed_function_nor_a_refused_request_rejects_the_card(machine: Machine) -> None:
    machine.open()
    machine.server.tweak = reject("FUNCTION_FAILED")
    with pytest.raises(FunctionFailed):
        machine.run().execute("汇率换算", {})
    machine.fails_offline(RequestRefused, problem(400, "INVALID_REQUEST", "nonce"))  # but does not start offline
    assert machine.starts_offline()


def test_it_is_used_for_this_card_program_machine_and_keys_only(machine: Machine, signing_key: SigningKey) -> None:
    machine.open()
    for change in (
        {"hardware": "machine-2"},
        {"card_id": "F" * 32},
        {"program": "another"},
        {"state_dir": None},
        {"public_keys": pinned(SigningKey())},
    ):
        machine.fails_offline(**change)
    assert machine.starts_offline(public_keys=pinned(SigningKey(), signing_key))


@for_each(("card_ends", "last"), [(NOW + DAY, NOW + DAY - 1), (None, NOW + GRACE - 1)])
def test_it_ends_with_the_card_or_by_the_vendors_limit(card_ends: int | None, last: int, machine: Machine) -> None:
    machine.server.tweak = setting(offline_until=NOW + GRACE, card_expires_at=card_ends)
    machine.now = NOW
    machine.open()
    for machine.now, starts in ((last, True), (last + 1, False)):
        assert machine.starts_offline() is starts


def test_no_secret_is_on_disk_in_clear_or_shown_by_a_failed_offline_start(machine: Machine) -> None:
    machine.server.data_key = "\n".join(map(str, IDENTITIES))
    machine.open()
    content = machine.file.read_bytes() + machine.file.name.encode()
    header = machine.cached.token.partition(".")[0]
    for clear in (*map(str, IDENTITIES), CARD, "envelope", "KERNAL", header):
        assert clear.encode() not in content
    unplug(machine.server)
    client = machine.run()
    verdict = client.open()
    machine.now = YEAR_2100
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    text += f"{verdict!r} {vars(client)!r} {machine.cached!r}"
    assert "self = <kadun.client.Client object" in text
    for secret in (*map(str, IDENTITIES), machine.cached.key_pair.reveal()):
        assert secret not in text


HOUR = 3600
OFFSETS = [-8.0 * HOUR, 8.0 * DAY, YEAR_1970 - NOW, YEAR_2100 - NOW]


def test_it_ends_when_its_time_is_over(machine: Machine) -> None:
    machine.open()
    machine.now = NOW + GRACE - 1
    assert machine.starts_offline()
    machine.now = NOW + GRACE
    error = machine.fails_offline()
    assert "ended at 2025-10-16 08:53:20 UTC" in error.detail
    assert "离线使用期限也已到" in error.message
    assert machine.fails_offline(language="en").message.isascii()
    assert "离线使用期限也已到" in machine.fails_offline(UntrustedAnswer, Response(200, b"<html>")).message


@for_each("time", [YEAR_1970, -1.0, NOW - DAY, NOW + GRACE, YEAR_2100, 1e300])
def test_an_online_start_works_whatever_the_clock_says(time: float, machine: Machine) -> None:
    machine.now = time
    assert machine.open().accepted
    assert machine.run().report("导出报表").accepted


@for_each(
    ("opened", "starts", "refusals"),
    [
        # always wrong by the same: as good as a right one
        *((NOW + by, [NOW + by + s for s in (0, 1000, 2 * DAY, GRACE - 1)], [NOW + by + GRACE]) for by in OFFSETS),
        # turned back after the end: gains nothing
        (NOW, [], [NOW + GRACE, NOW, NOW + GRACE - 1, YEAR_1970]),
        # slow, and then set right: costs what it was slow by
        (NOW - 8 * HOUR, [NOW + GRACE - 8 * HOUR - 1], [NOW + GRACE - 8 * HOUR]),
        # fast, and then set right: costs a 24th, once
        *(
            (NOW + by, [NOW + 1, NOW + 2 * DAY, NOW + GRACE * 23 / 24], [NOW + GRACE * 23 / 24 + 2])
            for by in (1 * HOUR, 8 * DAY, YEAR_2100 - NOW)
        ),
        # set right by minutes: costs nothing
        (NOW + 300, [NOW + 1, NOW + DAY, NOW + GRACE + 299], [NOW + GRACE + 300]),
        # ten starts at once, now and then: lose nothing
        (NOW, [*[NOW + 1] * 10, *[NOW + DAY] * 10, *[NOW + 5 * DAY] * 10, NOW + GRACE - 1], [NOW + GRACE]),
    ],
)
def test_a_wrong_clock_costs_what_it_could_gain(
    opened: float, starts: list[float], refusals: list[float], machine: Machine
) -> None:
    machine.now = opened
    machine.open()
    for machine.now in starts:
        assert machine.starts_offline()
    for machine.now in refusals:
        assert not machine.starts_offline()


@for_each("wrong_by", OFFSETS)
def test_a_report_tells_how_wrong_the_clock_is_as_well(wrong_by: float, machine: Machine) -> None:
    machine.now, machine.server.tweak = NOW, at(NOW)
    machine.open()
    machine.now = NOW + wrong_by + DAY  # wrong from here on, and the server has said what is right
    machine.server.tweak = at(NOW + DAY)
    machine.run().report("导出报表")
    for machine.now, starts in ((NOW + wrong_by + GRACE - 1, True), (NOW + wrong_by + GRACE, False)):
        assert machine.starts_offline() is starts


def starts_until_refused(machine: Machine, seconds_between: float) -> int:
    for count in range(100):
        if not machine.starts_offline():
            return count
        machine.now += seconds_between
    raise AssertionError("still allowed after 100 starts")


def test_a_clock_set_back_before_each_start_is_worth_a_24th_each(machine: Machine) -> None:
    machine.open()
    assert starts_until_refused(machine, -301) == 24  # the first was not set back


def test_a_stopped_clock_ends_too(machine: Machine) -> None:
    machine.server.tweak = setting(offline_until=NOW + HOUR, card_expires_at=None)
    machine.open()
    assert starts_until_refused(machine, 0) == 59  # a minute each


def test_a_clock_set_back_repeatedly_ends_offline_starts(machine: Machine) -> None:
    machine.open()
    for day in range(100):
        machine.now = NOW + day % 3 * DAY  # every third day, back by two days
        if not machine.starts_offline():
            break
    assert 7 <= day <= 24


@pytest.mark.parametrize("way", ["open", "report"])
def test_the_next_online_verdict_sets_right_what_a_clock_in_2100_did(way: str, machine: Machine) -> None:
    machine.open()
    for machine.now in (YEAR_2100, NOW + DAY):
        assert not machine.starts_offline()  # 2100 was seen: until the server is heard again, that is what counts
    machine.server.tweak = at(NOW + DAY)
    machine.open() if way == "open" else machine.run().report("导出报表")
    assert machine.starts_offline()


def test_the_servers_time_counts_from_the_first_offline_start_on(machine: Machine) -> None:
    machine.open()
    machine.server.tweak = at(NOW + 6 * DAY)
    machine.run().report("导出报表")  # the server has said how late it is
    machine.now = NOW - DAY  # and the local clock was turned back: a day is left of seven
    assert starts_until_refused(machine, -DAY) == 3


@for_each("step", [0, 1, 100, -1, -299])
def test_a_clock_that_stands_still_or_creeps_is_worth_a_thousand_starts(step: float) -> None:
    times, clock, count = synchronized(NOW, NOW), float(NOW), 0
    while times.spent < NOW + GRACE:
        clock += step
        times = times.started(clock, GRACE)
        count += 1
    assert count == pytest.approx(1000, abs=1) if step >= 0 else 23 < count < 1000


@for_each(
    ("clock", "spent", "reached"),
    [
        (1100.0, 1100.0, 1100.0),  # goes on
        (1000.0, 1086.4, 1000.0),  # stands still
        (1001.0, 1086.4, 1001.0),  # creeps
        (700.0, 1086.4, 1000.0),  # was set right by a little
        *((clock, 4600.0, 4600.0) for clock in (699.0, 0.0, -5.0, float("-inf"), float("nan"))),  # was set back
        *((clock, LATEST_TIME, LATEST_TIME) for clock in (1e12, float("inf"))),
    ],
)
def test_the_time_of_an_offline_start(clock: float, spent: float, reached: float) -> None:
    assert synchronized(1000.0, 1000.0).started(clock, allowed_seconds=DAY)[:2] == (spent, reached)


@for_each("strange", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_a_clock_that_was_no_clock_when_the_server_was_heard_leaves_some_starts(strange: float) -> None:
    times = synchronized(1000.0, strange)
    assert times.started(strange, DAY).spent == 1086.4
    assert times.started(5000.0, DAY).spent >= 1086.4
