"""The floor: a client that has seen a later signing key believes neither an earlier one nor what that one endorses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from kadun.floor import Floor
from kadun.keys import TrustedKeys
from kadun.store import State, StateStore

from tests.support.client.chain import OTHER_CARD, REPLACED, UNKNOWN, Chain, refused
from tests.support.client.fake_server import HARDWARE, ISSUER, NOW, SigningKey, pinned
from tests.support.client.stored_state import ALLOWED, offline

if TYPE_CHECKING:
    from tests.support.client.offline import Clock, MakeClient

MINUTE = 60


@pytest.mark.parametrize("stolen", [0, 1, 2])
def test_a_key_stolen_after_three_rotations_is_not_believed(
    stolen: int, run: MakeClient, chain: Chain, clock: Clock
) -> None:
    client, thiefs_own = run(), SigningKey()
    for _ in range(3):
        chain.rotate()
        client.open()
        clock.now += 20 * MINUTE
    for card in (client, run(), run(card_id=OTHER_CARD)):
        chain.forge(chain.keys[stolen])
        refused(card, REPLACED if stolen < 2 else f"{REPLACED}|{UNKNOWN}")
        chain.forge(chain.keys[stolen], successor=thiefs_own)
        refused(card, f"{REPLACED}|{UNKNOWN}")
        chain.publish(chain.keys[-2])
        assert card.open().accepted
    chain.rotate(2)
    assert run().open().accepted


def test_a_key_stolen_while_the_program_slept_is_not_believed(run: MakeClient, chain: Chain, clock: Clock) -> None:
    chain.rotate(3)
    run().open()
    clock.now += 20 * MINUTE
    chain.forge(chain.keys[0], successor=SigningKey())
    refused(run(), REPLACED)
    chain.forge(chain.keys[0])
    refused(run(), REPLACED)


def test_another_successor_of_an_earlier_key_is_refused_from_the_first_minute(run: MakeClient, chain: Chain) -> None:
    chain.rotate(3)
    run().open()
    chain.forge(chain.keys[0], successor=SigningKey())
    refused(run(), REPLACED)


def test_a_client_that_has_never_seen_the_later_keys_believes_the_thief_and_then_nobody_else(
    run: MakeClient, start: MakeClient, chain: Chain, clock: Clock
) -> None:
    """What the floor cannot help: the remedy is a release with new pins, which drops that floor."""
    chain.rotate(3)
    chain.forge(chain.keys[0], successor=SigningKey())
    assert run().open().accepted
    clock.now += 20 * MINUTE
    chain.publish(chain.keys[-2])
    refused(run(), REPLACED)
    assert start(public_keys=chain.release).open().accepted


@pytest.mark.parametrize("minutes", [0, 1, 14])
def test_earlier_keys_count_for_15_minutes(minutes: int, run: MakeClient, chain: Chain, clock: Clock) -> None:
    """Answers of workers that have not taken up the rotation yet."""
    client = run()
    chain.rotate()
    client.open()
    clock.now += minutes * MINUTE
    chain.publish(chain.keys[0])
    assert client.open().accepted
    assert run().open().accepted
    clock.now += (15 - minutes) * MINUTE
    refused(client, REPLACED)
    refused(run(), REPLACED)
    chain.publish(chain.keys[1])
    assert run().open().accepted


def test_the_15_minutes_are_not_counted_anew_at_each_start(run: MakeClient, chain: Chain, clock: Clock) -> None:
    chain.rotate()
    for _ in range(15):
        chain.publish(chain.keys[1])
        assert run().open().accepted
        chain.publish(chain.keys[0])
        assert run().open().accepted
        clock.now += MINUTE
    refused(run(), REPLACED)


@pytest.mark.parametrize("back", [1, 5 * MINUTE, 86_400, NOW])
def test_a_clock_set_back_ends_the_15_minutes(back: int, run: MakeClient, chain: Chain, clock: Clock) -> None:
    chain.rotate()
    run().open()
    clock.now += 5 * MINUTE
    chain.publish(chain.keys[0])
    assert run().open().accepted
    clock.now -= back
    refused(run(), REPLACED)
    clock.now += back  # and they do not come back
    refused(run(), REPLACED)


def test_a_clock_set_back_after_the_15_minutes_does_not_bring_them_back(
    run: MakeClient, chain: Chain, clock: Clock
) -> None:
    chain.rotate()
    run().open()
    clock.now += 20 * MINUTE
    chain.publish(chain.keys[0])
    refused(run(), REPLACED)
    clock.now -= 15 * MINUTE
    refused(run(), REPLACED)


@pytest.mark.parametrize("time", [float("nan"), float("inf"), float("-inf")])
def test_a_clock_without_a_time_ends_the_15_minutes(time: float, run: MakeClient, chain: Chain, clock: Clock) -> None:
    chain.rotate()
    run().open()
    clock.now = time
    chain.publish(chain.keys[0])
    refused(run(), REPLACED)


def test_the_pinned_next_key_ends_the_current_one(run: MakeClient, chain: Chain, clock: Clock) -> None:
    """The order of the pinned keys is that of the chain, also where no endorsement was ever fetched."""
    chain.rotate()
    run().open()
    assert "/.well-known/jwks.json" not in chain.server.paths
    clock.now += 20 * MINUTE
    chain.forge(chain.keys[0])
    refused(run(), REPLACED)


def test_pinned_keys_in_the_wrong_order_count_in_that_of_their_endorsements(
    run: MakeClient, chain: Chain, clock: Clock
) -> None:
    reversed_pins = pinned(*reversed(chain.keys))
    for _ in range(3):
        assert run(public_keys=reversed_pins).open().accepted
        clock.now += 20 * MINUTE
        chain.rotate()
    chain.publish(chain.keys[0])
    refused(run(public_keys=reversed_pins), REPLACED)


def test_a_program_rolled_back_to_older_pins_keeps_the_floor(
    run: MakeClient, chain: Chain, clock: Clock, keys_file: StateStore
) -> None:
    chain.rotate(3)
    run().open()
    newer = run(public_keys=chain.release)
    newer.open()
    chain.rotate(1)
    newer.open()
    clock.now += 20 * MINUTE
    floor = keys_file.load(HARDWARE).floor
    assert floor is not None
    assert floor.kid == chain.keys[-2].kid
    for forged in (None, SigningKey()):
        chain.forge(chain.keys[0], successor=forged)
        refused(run(), REPLACED)
    chain.publish(chain.keys[-2])
    assert run().open().accepted


def test_a_program_rolled_back_learns_the_chain_to_a_floor_of_pinned_keys_only(
    run: MakeClient, chain: Chain, clock: Clock
) -> None:
    """The newer release stored no endorsements, so the older one cannot connect its floor until it sees the chain."""
    chain.rotate(3)
    newer = chain.release
    for _ in newer["keys"]:
        run(public_keys=newer).open()
        chain.rotate()
    chain.publish(chain.keys[4])
    clock.now += 20 * MINUTE
    assert run().open().accepted
    chain.forge(chain.keys[0])
    refused(run(), REPLACED)


def test_the_chain_that_leads_to_a_stored_floor_is_enough_to_take_it_up(
    run: MakeClient, chain: Chain, clock: Clock
) -> None:
    chain.rotate(3)
    newest = chain.keys[-2]
    newer = pinned(SigningKey(), newest)
    run(public_keys=newer).open()
    clock.now += 20 * MINUTE
    chain.server.key = SigningKey()
    chain.server.endorsements.append(chain.keys[0].endorse(chain.server.key.jwk, iss=ISSUER))
    refused(run(), REPLACED)  # the thief's key set contains the genuine chain, too


def test_a_floor_of_another_chain_is_dropped(
    run: MakeClient, chain: Chain, clock: Clock, keys_file: StateStore
) -> None:
    """The vendor lost all keys, and ships a release with those of a new ring."""
    chain.rotate(3)
    run().open()
    clock.now += 20 * MINUTE
    anew = Chain(chain.server, SigningKey())
    assert run(public_keys=anew.release).open().accepted
    state = keys_file.load(HARDWARE)
    assert state == State(floor=Floor.seen(anew.keys[0].kid, clock.now))


def test_a_stored_verdict_by_an_earlier_key_ends_too(run: MakeClient, chain: Chain, clock: Clock) -> None:
    chain.server.tweak = ALLOWED
    run().open()
    chain.rotate(2)
    chain.server.tweak = lambda _claims: None
    run().report("导出报表")
    assert offline(run(), chain.server)
    clock.now += 20 * MINUTE
    assert not offline(run(), chain.server)


def test_a_stored_verdict_by_another_successor_of_an_earlier_key_is_not_used(
    run: MakeClient, chain: Chain, store: StateStore, keys_file: StateStore
) -> None:
    thiefs_own = SigningKey()
    chain.server.tweak = ALLOWED
    chain.forge(chain.keys[0], successor=thiefs_own)
    run().open()
    assert offline(run(), chain.server)
    endorsements = keys_file.load(HARDWARE).endorsements
    chain.rotate(2)
    genuine = tuple(chain.server.endorsements)
    keys_file.save(State((*endorsements, *genuine), floor=Floor.seen(chain.keys[2].kid, NOW)), HARDWARE)
    assert store.load(HARDWARE).cached is not None
    assert not offline(run(), chain.server)


def test_endorsements_of_another_issuer_are_ignored(run: MakeClient, chain: Chain) -> None:
    """A server whose KADUN_ISSUER was changed keeps the endorsements of its former name."""
    chain.rotate(3)
    former = [key.endorse(SigningKey().jwk, iss=iss) for key in chain.keys for iss in ("former", "", None, 1)]
    chain.server.endorsements = [*former, *chain.server.endorsements]
    assert run().open().accepted


def test_a_key_endorsed_for_another_issuer_is_not_believed(run: MakeClient, chain: Chain) -> None:
    chain.server.key = SigningKey()
    chain.server.endorsements = [chain.keys[0].endorse(chain.server.key.jwk, iss="former")]
    refused(run(), UNKNOWN)


def test_the_overlap_is_counted_down() -> None:
    floor = Floor.seen("kid", 1000.0)
    assert floor.at(1000.0) == floor
    assert floor.at(1899.0) == Floor("kid", 1.0, 1899.0)
    assert floor.at(1899.0).at(1900.0) == floor.at(1900.0) == floor.at(999.0) == Floor("kid", 0.0, 0.0)
    assert floor.at(1900.0).at(1000.0) == Floor("kid", 0.0, 0.0)


def test_a_floor_at_a_key_is_taken_up_only_forwards() -> None:
    keys = [SigningKey() for _ in range(3)]
    trusted = TrustedKeys(pinned(*keys))
    assert not trusted.excludes_keys
    trusted.take_up(Floor("unknown", 900.0, 0.0), 0.0)
    assert trusted.floor is None
    trusted.saw(keys[1].kid, 0.0)
    assert trusted.excludes_keys
    trusted.take_up(Floor(keys[0].kid, 900.0, 0.0), 0.0)
    trusted.saw(keys[0].kid, 0.0)
    assert trusted.floor == Floor(keys[1].kid, 900.0, 0.0)
    trusted.take_up(Floor(keys[1].kid, 60.0, 0.0), 30.0)
    assert trusted.floor == Floor(keys[1].kid, 30.0, 30.0)
    trusted.take_up(Floor(keys[2].kid, 60.0, 30.0), 30.0)
    assert trusted.floor == Floor(keys[2].kid, 60.0, 30.0)
    assert keys[0].kid in trusted
    trusted.take_up(Floor(keys[2].kid, 0.5, 30.0), 30.0)
    assert keys[0].kid in trusted
    trusted.take_up(None, 100.0)
    assert [key.kid in trusted for key in keys] == [False, False, True]
