"""Offline starts: when the last accepted verdict is used, what ends that, and what a wrong clock costs."""
# Owns client-offline.

import io
from typing import Any

import pyrage
import pytest
from kadun import CardRejected, FunctionFailed, RequestRefused, ServerUnreachable, UnsealFailed, UntrustedAnswer
from kadun.clocks import LATEST_TIME, synchronized
from kadun.responses import Response

from tests.support.client import fakes
from tests.support.client.fakes import CORE, DAY, GRACE, HOUR, NOW, REPORT, YEAR_2100, Machine, at, reject, setting
from tests.support.tables import for_each

IDENTITIES = [pyrage.x25519.Identity.generate() for _ in range(2)]


def test_the_last_accepted_verdict_is_used_while_the_server_cannot_be_reached(machine: Machine) -> None:
    machine.server.data_key = "\n".join(map(str, IDENTITIES))
    machine.server.tweak = setting(offline_until=NOW + GRACE, activated=True)
    online = machine.open()
    assert (online.offline, online.activated) == (False, True)
    fakes.unplug(machine.server)
    client = machine.run()
    verdict = client.open()
    assert (verdict.offline, verdict.accepted, verdict.reference) == (True, True, online.reference)
    assert verdict.card_expires_at == online.card_expires_at
    assert not verdict.activated  # an activation is reported once
    for identity in IDENTITIES:  # any of several
        assert client.unseal(io.BytesIO(pyrage.encrypt(CORE, [identity.to_public()]))) == CORE
    with pytest.raises(ServerUnreachable):
        client.report(REPORT)


@for_each(
    "answer",
    [
        *(fakes.no_network, Response(503, b'{"code": "UNAVAILABLE"}', "60"), Response(502, b"<html>")),
        *(Response(200, b"<html>please sign in</html>"), Response(302, b"")),  # a captive portal, a redirect to one
        lambda request: fakes.verdict_response(fakes.SigningKey().token(fakes.claims_for(request))),  # another server
        lambda request: fakes.verdict_response(
            fakes.SigningKey().token({**fakes.claims_for(request), "code": "CARD_FROZEN"})
        ),
    ],
)
def test_it_is_used_for_every_answer_that_is_not_genuine(answer: Any, machine: Machine) -> None:
    assert not machine.open().offline
    assert machine.starts_offline(answer=answer)


def test_without_the_vendors_permission_nothing_is_stored(machine: Machine) -> None:
    allowing = machine.server.tweak
    for machine.server.tweak in (setting(), allowing, setting()):
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
        client.open() if question == "open" else client.report(REPORT)
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
    machine.fails_offline(RequestRefused, fakes.problem(400, "INVALID_REQUEST", "nonce"))  # but does not start offline
    assert machine.starts_offline()


def test_no_secret_is_on_disk_in_clear_or_shown(machine: Machine) -> None:
    machine.server.data_key = "\n".join(map(str, IDENTITIES))
    machine.open()
    content = machine.file.read_bytes() + machine.file.name.encode()
    header = machine.cached.token.partition(".")[0]
    for clear in (*map(str, IDENTITIES), fakes.CARD, "envelope", "KERNAL", header):
        assert clear.encode() not in content
    fakes.unplug(machine.server)
    client = machine.run()
    text = f"{client.open()!r} {vars(client)!r} {machine.cached!r}"
    for secret in (*map(str, IDENTITIES), machine.cached.key_pair.reveal()):
        assert secret not in text


YEAR_1970 = 0.0
OFFSETS = [-8.0 * HOUR, 8.0 * DAY, YEAR_1970 - NOW, YEAR_2100 - NOW]


def test_it_ends_by_the_vendors_limit_or_with_the_card(machine: Machine) -> None:
    machine.open()
    machine.now = NOW + GRACE - 1
    assert machine.starts_offline()
    machine.now = NOW + GRACE
    error = machine.fails_offline()
    assert "ended at 2025-10-16 08:53:20 UTC" in error.detail
    assert "离线使用期限也已到" in error.message
    assert machine.fails_offline(language="en").message.isascii()
    assert "离线使用期限也已到" in machine.fails_offline(UntrustedAnswer, Response(200, b"<html>")).message
    machine.now, machine.server.tweak = NOW, setting(offline_until=NOW + GRACE, card_expires_at=NOW + DAY)
    machine.open()
    for machine.now, starts in ((NOW + DAY - 1, True), (NOW + DAY, False)):
        assert machine.starts_offline() is starts


@for_each(
    "opened, starts, refusals",
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
def test_a_report_sets_a_wrong_clock_right_too(wrong_by: float, machine: Machine) -> None:
    machine.now, machine.server.tweak = NOW, at(NOW)
    machine.open()
    machine.now = NOW + wrong_by + DAY  # wrong from here on, and the server has said what is right
    machine.server.tweak = at(NOW + DAY)
    machine.run().report(REPORT)
    for machine.now, starts in ((NOW + wrong_by + GRACE - 1, True), (NOW + wrong_by + GRACE, False)):
        assert machine.starts_offline() is starts


# A 24th each, but for the first, which was not set back; a minute each.
@for_each("seconds_between, allowed, starts", [(-301, GRACE, 24), (0, HOUR, 59)])
def test_a_clock_that_is_set_back_or_stopped_ends_too(
    seconds_between: float, allowed: int, starts: int, machine: Machine
) -> None:
    machine.now, machine.server.tweak = NOW, setting(offline_until=NOW + allowed, card_expires_at=None)
    machine.open()
    for _ in range(starts):
        assert machine.starts_offline()
        machine.now += seconds_between
    assert not machine.starts_offline()


@for_each(
    "clock, spent, reached",
    [
        (1100.0, 1100.0, 1100.0),  # goes on
        *((clock, 1086.4, clock) for clock in (1000.0, 1001.0)),  # stands still, creeps
        (700.0, 1086.4, 1000.0),  # was set right by a little
        *((clock, 4600.0, 4600.0) for clock in (699.0, 0.0, -5.0, float("-inf"), float("nan"))),  # was set back
        *((clock, LATEST_TIME, LATEST_TIME) for clock in (1e12, float("inf"))),
    ],
)
def test_the_time_of_an_offline_start(clock: float, spent: float, reached: float) -> None:
    assert synchronized(1000.0, 1000.0).started(clock, allowed_seconds=DAY)[:2] == (spent, reached)
    for strange in (float("nan"), float("inf"), float("-inf"), 1e300):  # when the server was heard
        times = synchronized(1000.0, strange)
        assert times.started(strange, DAY).spent == 1086.4
        assert times.started(5000.0, DAY).spent >= 1086.4
