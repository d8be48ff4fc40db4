"""The floor: no key before the latest that the program saw is believed, from 15 minutes after."""
# Owns keys-floor.

from pathlib import Path

from kadun.keys import Floor, TrustedKeys, floor_in
from kadun.learned import take_up
from kadun.store import State

from tests.support.client.customer_machine import MINUTE, OTHER_CARD, REPLACED, UNKNOWN, Rotations, at
from tests.support.client.fake_server import ISSUER, NOW, REPORT, SigningKey, pinned
from tests.support.tables import for_each


def test_a_key_stolen_after_rotations_that_the_program_saw_is_not_believed(rotations: Rotations) -> None:
    client, thiefs_own = rotations.run(), SigningKey()
    for _ in range(3):
        rotations.rotate()
        client.open()
        rotations.now += 20 * MINUTE
    for stolen in rotations.keys[:3]:
        for card in (client, rotations.run(), rotations.run(card_id=OTHER_CARD)):
            for successor in (None, thiefs_own):
                rotations.refuses_thief(stolen, successor, card, f"{REPLACED}|{UNKNOWN}")
            rotations.publish(rotations.keys[-2])
            assert rotations.accepts(card)
    rotations.rotate(2)
    assert rotations.accepts()


def test_a_key_stolen_while_the_program_slept_is_not_believed(rotations: Rotations) -> None:
    rotations.rotate(3)
    rotations.run().open()
    rotations.refuses_thief(rotations.keys[0], SigningKey())  # another successor: from the first minute
    rotations.now += 20 * MINUTE
    rotations.refuses(REPLACED)
    rotations.refuses_thief(rotations.keys[0])


def test_earlier_keys_count_for_15_minutes_that_no_start_counts_anew(rotations: Rotations) -> None:
    """Answers of workers that have not taken up the rotation yet."""
    client = rotations.run()
    rotations.rotate()
    for minutes in (0, 1, 13):
        rotations.now += minutes * MINUTE
        for key in (rotations.keys[1], rotations.keys[0]):
            rotations.publish(key)
            assert rotations.accepts(client)
            assert rotations.accepts()
    rotations.now += MINUTE
    rotations.refuses(REPLACED, client)
    rotations.refuses(REPLACED)
    rotations.publish(rotations.keys[1])
    assert rotations.accepts()


def test_a_clock_that_was_changed_ends_the_15_minutes_for_good(rotations: Rotations) -> None:
    for back in (1, 5 * MINUTE, 86_400, NOW, -15 * MINUTE, float("nan"), float("inf"), float("-inf")):
        rotations.rotate()
        rotations.run().open()
        rotations.now += 5 * MINUTE
        rotations.publish(rotations.keys[-3])
        assert rotations.accepts()
        right = rotations.now
        for rotations.now in (right - back, right):
            rotations.refuses(REPLACED)


def test_the_pinned_next_key_ends_the_current_one(rotations: Rotations) -> None:
    """The order of the pinned keys is that of the chain, also where no endorsement was ever fetched."""
    rotations.run().open()
    assert not rotations.folder.exists()  # the first pinned key needs no file
    rotations.sees(1)
    assert "/.well-known/jwks.json" not in rotations.server.paths
    rotations.refuses_thief(rotations.keys[0])


def test_a_program_rolled_back_to_older_pins_keeps_the_floor(rotations: Rotations) -> None:
    rotations.rotate(3)
    rotations.run().open()
    newer = rotations.run(public_keys=rotations.release)
    newer.open()
    rotations.rotate()
    newer.open()
    rotations.now += 20 * MINUTE
    assert rotations.stored_floor.kid == rotations.keys[-2].kid
    for successor in (None, SigningKey()):
        rotations.refuses_thief(rotations.keys[0], successor)
    rotations.publish(rotations.keys[-2])
    assert rotations.accepts()


def test_the_chain_that_leads_to_a_stored_floor_is_enough_to_take_it_up(rotations: Rotations) -> None:
    rotations.rotate(3)
    rotations.run(public_keys=pinned(SigningKey(), rotations.keys[-2])).open()
    rotations.now += 20 * MINUTE
    rotations.server.key = SigningKey()
    rotations.server.endorsements.append(rotations.keys[0].endorse(rotations.server.key.jwk, iss=ISSUER))
    rotations.refuses(REPLACED)  # the thief's key set contains the genuine chain, too


def test_a_floor_of_another_chain_is_dropped(rotations: Rotations) -> None:
    """The vendor lost all keys, and ships a release with those of a new ring."""
    rotations.sees(3)
    rotations.keys = [SigningKey(), SigningKey()]
    rotations.publish(rotations.keys[0])
    assert rotations.accepts(rotations.run(public_keys=rotations.release))
    assert rotations.stored == State(floor=Floor(rotations.keys[0].kid, 900.0, rotations.now))


def test_a_stored_verdict_by_an_earlier_key_ends_too(rotations: Rotations) -> None:
    rotations.server.tweak = at(NOW)
    rotations.run().open()
    rotations.rotate(2)
    rotations.server.tweak = lambda _claims: None
    rotations.run().report(REPORT)
    assert rotations.starts_offline()
    rotations.now += 20 * MINUTE
    assert not rotations.starts_offline()


def test_two_programs_at_once_keep_the_later_floor(rotations: Rotations) -> None:
    rotations.rotate()
    early, late = rotations.run(), rotations.run()
    early.open()
    rotations.rotate(2)
    late.open()
    rotations.now += 20 * MINUTE
    rotations.publish(rotations.keys[1])
    rotations.refuses(REPLACED, early)
    assert rotations.stored_floor.kid == rotations.keys[3].kid


def test_without_a_file_the_running_program_keeps_the_floor(rotations: Rotations, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    clients = [rotations.run(state_dir=unwritable) for unwritable in (None, tmp_path / "file" / "below")]
    rotations.rotate(3)
    assert all(rotations.accepts(client) for client in clients)
    rotations.now += 20 * MINUTE
    for client in clients:
        rotations.refuses_thief(rotations.keys[0], client=client)


def test_a_rejection_raises_the_floor_too(rotations: Rotations) -> None:
    rotations.rotate(2)
    for code, files in (("CARD_NOT_FOUND", 1), ("CARD_FROZEN", 2)):  # none of a mistyped card
        rotations.rejects(code=code)
        assert rotations.stored_floor.kid == rotations.keys[-2].kid
        assert len(rotations.files) == files
        rotations.rotate()


def test_a_forged_verdict_neither_raises_the_floor_nor_stores_keys(rotations: Rotations) -> None:
    genuine = rotations.server.tweak
    for _ in range(2):
        before = rotations.stored
        rotations.rotate(2)
        rotations.server.tweak = lambda claims: claims.update(nonce="another-nonce-of-theirs")
        rotations.refuses("claim nonce")
        assert rotations.stored == before
        rotations.server.tweak = genuine
        assert rotations.accepts()


def test_a_floor_at_a_key_is_taken_up_only_forwards() -> None:
    keys = [SigningKey() for _ in range(3)]
    trusted, (first, second, third) = TrustedKeys(pinned(*keys)), [key.kid for key in keys]
    trusted.take_up(Floor("unknown", 900.0, 0.0), 0.0)
    assert trusted.floor is None
    trusted.saw(second, 0.0)
    trusted.take_up(Floor(first, 900.0, 0.0), 0.0)
    trusted.saw(first, 0.0)
    assert trusted.floor == Floor(second, 900.0, 0.0)
    for stored, clock, counted in (
        (Floor(second, 60.0, 0.0), 30.0, Floor(second, 30.0, 30.0)),
        (Floor(third, 60.0, 30.0), 89.0, Floor(third, 1.0, 89.0)),
        (None, 90.0, Floor(third, 0.0, 0.0)),
    ):
        trusted.take_up(stored, clock)
        assert trusted.floor == counted


def test_reading_stores_no_floor_without_the_keys_that_lead_to_it() -> None:
    earlier, later = SigningKey(), SigningKey()
    keys, stored = TrustedKeys(pinned(earlier, later)), State(floor=Floor(earlier.kid, 900.0, NOW))
    keys.saw(later.kid, NOW)  # as where the file could not be written then
    assert take_up(stored, keys, NOW) == stored


@for_each(
    ("members", "expected"),
    [
        *((odd, None) for odd in (None, {}, [], ["kid", 1.0], [1, 1.0, 1.0])),
        *((["kid", left, clock], Floor("kid", 1.0, clock)) for left, clock in ((1, 2.0), (True, 2), (1, 1e12))),
        (["kid", 901, 2], Floor("kid", 900.0, 2.0)),  # it cannot lengthen the 15 minutes
        *((["kid", *odd], Floor("kid", 0.0, 0.0)) for odd in (("1", 2), (1, None), (1, float("inf")), (10**400, 2))),
    ],
)
def test_a_floor_in_a_file_has_15_minutes_at_most(members: object, expected: Floor | None) -> None:
    assert floor_in(members) == expected
