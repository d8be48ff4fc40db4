"""Offline starts: when the last yes stands in for the server, for how long, and what ends it."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyrage
import pytest
from kadun import (
    CardRejected,
    Client,
    FunctionFailed,
    KadunError,
    RequestRefused,
    ServerUnreachable,
    UnsealFailed,
    UntrustedAnswer,
)
from kadun.clocks import LATEST_TIME, synchronized
from kadun.responses import Response
from kadun.store import StateStore

from tests.support.client.fake_server import (
    CARD,
    HARDWARE,
    NOW,
    OPEN,
    FakeServer,
    SigningKey,
    Tweak,
    claims_for,
    pinned,
    problem,
    reject,
    setting,
    verdict_response,
)

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400
GRACE = 7 * DAY
YEAR_1970, YEAR_2100 = 0.0, 4_102_444_800.0
CORE = "汇率表".encode()
MakeClient = Callable[..., Client]


class Clock:
    """This machine's clock, as the customer sets it."""

    def __init__(self) -> None:
        self.now: float = NOW

    def __call__(self) -> float:
        return self.now


def at(now: int) -> Tweak:
    """What the real server says at this time: its card lasts a month, and openings may be repeated for a week."""

    def tweak(claims: dict[str, Any]) -> None:
        claims.update(iat=now, exp=now + 300, card_expires_at=NOW + 30 * DAY)
        if claims["function"] == OPEN:
            claims["offline_until"] = now + GRACE

    return tweak


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def identities() -> list[pyrage.x25519.Identity]:
    return [pyrage.x25519.Identity.generate() for _ in range(2)]


@pytest.fixture
def start(
    make_client: MakeClient, server: FakeServer, clock: Clock, identities: list[pyrage.x25519.Identity]
) -> MakeClient:
    """Make a client, as each new start of the program does."""
    server.data_key = "\n".join(map(str, identities))
    server.tweak = at(NOW)
    return lambda **changes: make_client(clock=clock, **changes)


def no_network(_request: dict[str, Any]) -> ServerUnreachable:
    return ServerUnreachable("no route")


def unplug(server: FakeServer, answer: Any = no_network) -> None:
    """From here on nothing but this comes back, neither to questions nor for the key set."""
    server.script = [answer] * 10_000
    server.key_set = answer if isinstance(answer, Response) else None


def plug_in(server: FakeServer) -> None:
    server.script = []
    server.key_set = None


def refused(client: Client, error: type[KadunError] = ServerUnreachable) -> KadunError:
    with pytest.raises(error) as caught:
        client.open()
    return caught.value


# When it stands in


@pytest.mark.parametrize("place", [0, 1])
def test_the_last_yes_stands_in_while_the_server_cannot_be_reached(
    place: int, start: MakeClient, server: FakeServer, identities: list[pyrage.x25519.Identity]
) -> None:
    online = start().open()
    assert not online.offline
    unplug(server)
    client = start()
    verdict = client.open()
    assert (verdict.offline, verdict.accepted, verdict.reference) == (True, True, online.reference)
    assert verdict.card_expires_at == online.card_expires_at
    sealed = pyrage.encrypt(CORE, [identities[place].to_public()])  # any of several identities
    assert client.unseal(io.BytesIO(sealed)) == CORE


def test_an_activation_is_told_once(start: MakeClient, server: FakeServer) -> None:
    server.tweak = setting(offline_until=NOW + GRACE, activated=True)
    assert start().open().activated
    unplug(server)
    assert not start().open().activated


def signed_by_nobody(request: dict[str, Any]) -> Response:
    return verdict_response(SigningKey().token(claims_for(request)))


NOT_THE_SERVER: dict[str, Any] = {
    "no network": no_network,
    "a busy server": Response(503, b'{"code": "UNAVAILABLE"}', "60"),
    "too many requests": Response(429, b'{"code": "TOO_MANY_REQUESTS"}', "60"),
    "a broken gateway": Response(502, b"<html>"),
    "a captive portal": Response(200, b"<html>please sign in</html>"),
    "a redirect to one": Response(302, b""),
    "another server": signed_by_nobody,
    "a false no": lambda request: verdict_response(SigningKey().token({**claims_for(request), "code": "CARD_FROZEN"})),
}


@pytest.mark.parametrize("what", NOT_THE_SERVER)
def test_it_stands_in_for_whatever_is_not_the_genuine_servers_answer(
    what: str, start: MakeClient, server: FakeServer
) -> None:
    start().open()
    unplug(server, NOT_THE_SERVER[what])
    assert start().open().offline
    plug_in(server)
    assert not start().open().offline


def test_a_replayed_no_erases_nothing(start: MakeClient, server: FakeServer) -> None:
    """A signed no to somebody else's question is none to ours."""
    server.tweak = reject("CARD_FROZEN")
    refused(start(card_id="F" * 32), CardRejected)
    other = server.genuine(server.requests[-1])
    server.tweak = at(NOW)
    start().open()
    unplug(server, other)
    assert start().open().offline


def test_a_report_needs_the_server(start: MakeClient, server: FakeServer) -> None:
    start().open()
    unplug(server)
    client = start()
    client.open()
    with pytest.raises(ServerUnreachable):
        client.report("导出报表")


# When it does not


def test_without_the_vendors_leave_there_is_none_and_nothing_is_kept(
    start: MakeClient, server: FakeServer, state_home: Path
) -> None:
    server.tweak = setting()
    start().open()
    assert [path for path in state_home.rglob("*") if path.is_file()] == []
    unplug(server)
    assert refused(start()).detail == "no route"


def test_leave_that_the_vendor_took_back_is_gone_with_the_next_opening(start: MakeClient, server: FakeServer) -> None:
    start().open()
    server.tweak = setting()
    start().open()
    unplug(server)
    refused(start())


@pytest.mark.parametrize(
    "code", ["CARD_NOT_FOUND", "CARD_FROZEN", "CARD_EXPIRED", "CLIENT_MISMATCH", "CARD_ON_HOLIDAY"]
)
@pytest.mark.parametrize("question", ["open", "report"])
def test_a_signed_no_is_final(question: str, code: str, start: MakeClient, server: FakeServer) -> None:
    start().open()
    server.tweak = reject(code)
    client = start()
    with pytest.raises(CardRejected):
        client.open() if question == "open" else client.report("导出报表")
    unplug(server)
    refused(start())
    refused(client)
    with pytest.raises(UnsealFailed):
        client.unseal(io.BytesIO(b""))


def test_a_function_of_the_server_that_failed_is_no_no_to_the_card(start: MakeClient, server: FakeServer) -> None:
    start().open()
    server.tweak = reject("FUNCTION_FAILED")
    with pytest.raises(FunctionFailed):
        start().execute("汇率换算", {})
    unplug(server)
    assert start().open().offline


def test_a_request_that_was_refused_is_not_made_good(start: MakeClient, server: FakeServer) -> None:
    start().open()
    unplug(server, problem(400, "INVALID_REQUEST", "nonce"))
    refused(start(), RequestRefused)
    unplug(server)
    assert start().open().offline


@pytest.mark.parametrize(
    "change",
    [{"hardware": "machine-2"}, {"card_id": "F" * 32}, {"program": "another"}, {"state_dir": None}],
    ids=lambda change: next(iter(change)),
)
def test_it_stands_in_for_this_card_and_program_on_this_machine_only(
    change: dict[str, Any], start: MakeClient, server: FakeServer
) -> None:
    start().open()
    unplug(server)
    refused(start(**change))
    assert start().open().offline


def test_a_program_that_pins_other_keys_does_not_believe_it(
    start: MakeClient, server: FakeServer, signing_key: SigningKey
) -> None:
    start().open()
    unplug(server)
    refused(start(public_keys=pinned(SigningKey())))
    assert start(public_keys=pinned(SigningKey(), signing_key)).open().offline


def test_it_ends_with_the_card_even_if_the_server_promised_longer(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    server.tweak = setting(offline_until=NOW + GRACE, card_expires_at=NOW + DAY)
    start().open()
    unplug(server)
    clock.now = NOW + DAY - 1
    assert start().open().offline
    clock.now = NOW + DAY
    refused(start())


def test_a_permanent_card_has_the_vendors_limit_alone(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    server.tweak = setting(offline_until=NOW + GRACE, card_expires_at=None)
    start().open()
    unplug(server)
    clock.now = NOW + GRACE - 1
    assert start().open().offline


# Clocks


def test_it_ends_when_its_time_is_over(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    start().open()
    unplug(server)
    clock.now = NOW + GRACE - 1
    assert start().open().offline
    clock.now = NOW + GRACE
    error = refused(start())
    assert "ended at 2025-10-16 08:53:20 UTC" in error.detail
    assert "离线使用期限也已到" in error.message
    assert refused(start(language="en")).message.isascii()
    unplug(server, Response(200, b"<html>"))
    assert "离线使用期限也已到" in refused(start(), UntrustedAnswer).message


@pytest.mark.parametrize("time", [YEAR_1970, -1.0, NOW - DAY, NOW + GRACE, YEAR_2100, 1e300])
def test_an_online_start_works_whatever_the_clock_says(time: float, start: MakeClient, clock: Clock) -> None:
    clock.now = time
    assert start().open().accepted
    assert start().report("导出报表").accepted


def test_a_clock_that_was_turned_back_after_the_end_gains_nothing(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    unplug(server)
    clock.now = NOW + GRACE
    refused(start())
    for clock.now in (NOW, NOW + GRACE - 1, YEAR_1970):
        refused(start())


def starts_until_refused(start: MakeClient, clock: Clock, seconds_between: float, most: int) -> int:
    for count in range(most):
        try:
            assert start().open().offline
        except ServerUnreachable:
            return count
        clock.now += seconds_between
    raise AssertionError(f"still allowed after {most} starts")


OFFSETS = {"8 hours slow": -8 * 3600.0, "8 days fast": 8.0 * DAY, "1970": YEAR_1970 - NOW, "2100": YEAR_2100 - NOW}


@pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS)
def test_a_clock_that_is_always_wrong_by_the_same_is_as_good_as_a_right_one(
    offset: float, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    clock.now = NOW + offset
    start().open()
    unplug(server)
    for second in (0, 1000, 2 * DAY, GRACE - 1):
        clock.now = NOW + offset + second
        assert start().open().offline
    clock.now = NOW + offset + GRACE
    refused(start())


@pytest.mark.parametrize("offset", OFFSETS.values(), ids=OFFSETS)
def test_a_report_tells_how_wrong_the_clock_is_as_well(
    offset: float, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    clock.now = NOW + offset + DAY  # wrong from here on, and the server has said what is right
    server.tweak = at(NOW + DAY)
    start().report("导出报表")
    unplug(server)
    clock.now = NOW + offset + GRACE - 1
    assert start().open().offline
    clock.now = NOW + offset + GRACE
    refused(start())


def test_a_slow_clock_that_was_set_right_in_between_costs_what_it_was_slow_by(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    clock.now = NOW - 8 * 3600
    start().open()
    unplug(server)
    clock.now = NOW + GRACE - 8 * 3600 - 1  # right: 8 hours are left
    assert start().open().offline
    clock.now += 1
    refused(start())
    plug_in(server)
    server.tweak = at(int(clock.now))
    start().open()
    unplug(server)
    clock.now += GRACE - 1
    assert start().open().offline


@pytest.mark.parametrize("fast_by", [3600, 8 * DAY, YEAR_2100 - NOW])
def test_a_fast_clock_that_was_set_right_in_between_costs_a_24th_once(
    fast_by: float, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    clock.now = NOW + fast_by
    start().open()
    unplug(server)
    for clock.now in (NOW + 1, NOW + 2 * DAY, NOW + 1 + GRACE * 23 / 24 - 1):
        assert start().open().offline
    clock.now += 2
    refused(start())


def test_a_clock_set_right_by_minutes_costs_nothing(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    clock.now = NOW + 300
    start().open()
    unplug(server)
    for clock.now in (NOW + 1, NOW + DAY, NOW + GRACE + 299):
        assert start().open().offline
    clock.now += 1
    refused(start())


def test_a_clock_set_back_before_each_start_is_worth_a_24th_each(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    unplug(server)
    assert starts_until_refused(start, clock, -301, most=50) == 24  # the first was not set back


@pytest.mark.parametrize("step", [0, 1, 100, -1, -299])
def test_a_clock_that_stands_still_or_creeps_is_worth_a_thousand_starts(step: float) -> None:
    times, clock, count = synchronized(NOW, NOW), float(NOW), 0
    while times.spent < NOW + GRACE:
        clock += step
        times = times.started(clock, GRACE)
        count += 1
    assert count == pytest.approx(1000, abs=1) if step >= 0 else 23 < count < 1000


def test_a_stopped_clock_ends_too(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    server.tweak = setting(offline_until=NOW + 3600, card_expires_at=None)
    start().open()
    unplug(server)
    assert starts_until_refused(start, clock, 0, most=100) == 59  # a minute each


def test_who_starts_less_often_than_once_a_step_loses_nothing(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    unplug(server)
    for clock.now in (NOW + 1, NOW + DAY, NOW + 5 * DAY):
        for _ in range(10):  # ten at once, now and then
            assert start().open().offline
    clock.now = NOW + GRACE - 1
    assert start().open().offline


def test_a_clock_turned_back_again_and_again_does_not_go_on_for_ever(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    unplug(server)
    for day in range(100):
        clock.now = NOW + day % 3 * DAY  # every third day, back by two days
        try:
            start().open()
        except ServerUnreachable:
            break
    assert 7 <= day <= 24


def test_a_right_clock_loses_nothing_to_many_starts(start: MakeClient, server: FakeServer, clock: Clock) -> None:
    start().open()
    unplug(server)
    for _ in range(50):
        clock.now += 1
        start().open()
    clock.now = NOW + GRACE - 1
    assert start().open().offline


@pytest.mark.parametrize("way", ["open", "report"])
def test_the_next_online_verdict_sets_right_what_a_clock_in_2100_did(
    way: str, start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    unplug(server)
    clock.now = YEAR_2100
    refused(start())
    clock.now = NOW + DAY
    refused(start())  # 2100 was seen: until the server is heard again, that is what counts
    plug_in(server)
    server.tweak = at(NOW + DAY)
    start().open() if way == "open" else start().report("导出报表")
    unplug(server)
    assert start().open().offline


def test_the_servers_time_counts_from_the_first_offline_start_on(
    start: MakeClient, server: FakeServer, clock: Clock
) -> None:
    start().open()
    server.tweak = at(NOW + 6 * DAY)
    start().report("导出报表")  # the server has said how late it is
    unplug(server)
    clock.now = NOW - DAY  # and the local clock was turned back: a day is left of seven
    assert starts_until_refused(start, clock, -DAY, most=50) == 3


@pytest.mark.parametrize(
    ("clock", "spent", "reached"),
    [
        (1100.0, 1100.0, 1100.0),  # goes on
        (1000.0, 1086.4, 1000.0),  # stands still
        (1001.0, 1086.4, 1001.0),  # creeps
        (700.0, 1086.4, 1000.0),  # was set right by a little
        (699.0, 4600.0, 4600.0),  # was set back
        (0.0, 4600.0, 4600.0),
        (-5.0, 4600.0, 4600.0),
        (float("-inf"), 4600.0, 4600.0),
        (float("nan"), 4600.0, 4600.0),
        (1e12, LATEST_TIME, LATEST_TIME),
        (float("inf"), LATEST_TIME, LATEST_TIME),
    ],
)
def test_what_time_an_offline_start_counts_as(clock: float, spent: float, reached: float) -> None:
    assert synchronized(1000.0, 1000.0).started(clock, allowed_seconds=DAY)[:2] == (spent, reached)


@pytest.mark.parametrize("strange", [float("nan"), float("inf"), float("-inf"), 1e300])
def test_a_clock_that_was_no_clock_when_the_server_was_heard_leaves_some_starts(strange: float) -> None:
    times = synchronized(1000.0, strange)
    assert times.started(strange, DAY).spent == 1086.4
    assert times.started(5000.0, DAY).spent >= 1086.4


# What must not show


def test_neither_the_key_nor_what_unseals_it_is_on_disk_in_clear(
    start: MakeClient, server: FakeServer, state_home: Path, identities: list[pyrage.x25519.Identity]
) -> None:
    start().open()
    files = list(state_home.rglob("*.state"))
    assert len(files) == 1
    content = files[0].read_bytes() + files[0].name.encode()
    for clear in (*map(str, identities), CARD, "envelope", "KERNAL", "eyJ"):
        assert clear.encode() not in content


def test_neither_shows_in_an_offline_start_that_fails(
    start: MakeClient,
    server: FakeServer,
    clock: Clock,
    state_home: Path,
    identities: list[pyrage.x25519.Identity],
) -> None:
    start().open()
    unplug(server)
    client = start()
    verdict = client.open()
    clock.now = YEAR_2100
    with pytest.raises(ServerUnreachable) as caught:
        client.open()
    kept = StateStore(state_home / "kadun", "kadun", "kadun", CARD).load(HARDWARE).cached
    assert kept is not None
    text = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    text += f"{verdict!r} {vars(client)!r} {kept!r}"
    assert "self = <kadun.client.Client object" in text
    for secret in (*map(str, identities), kept.key_pair.reveal()):
        assert secret not in text
