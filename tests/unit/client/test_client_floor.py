"""The floor, and the learned keys in the file: no earlier key is believed, and no thief can fill the file."""
# Owns keys-floor.

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from kadun import CardRejected
from kadun.keys import Floor, TrustedKeys, floor_in
from kadun.learned import lineage, take_up
from kadun.store import State

from tests.support.client.customer_machine import MINUTE, OTHER_CARD, REPLACED, UNKNOWN, Rotations, at
from tests.support.client.fake_server import HARDWARE, ISSUER, NOW, REPORT, SigningKey, pinned, reject
from tests.support.tables import for_each

Flood = Callable[[SigningKey, list[SigningKey]], list[str]]


def test_a_key_stolen_after_rotations_that_the_program_saw_is_not_believed(rotations: Rotations) -> None:
    client, thiefs_own = rotations.run(), SigningKey()
    for _ in range(3):
        rotations.rotate()
        client.open()
        rotations.now += 20 * MINUTE
    for stolen in rotations.keys[:3]:
        for card in (client, rotations.run(), rotations.run(card_id=OTHER_CARD)):
            for successor in (None, thiefs_own):
                rotations.forge(stolen, successor=successor)
                rotations.refuses(f"{REPLACED}|{UNKNOWN}", card)
            rotations.publish(rotations.keys[-2])
            assert rotations.accepts(card)
    rotations.rotate(2)
    assert rotations.accepts()


def test_a_key_stolen_while_the_program_slept_is_not_believed(rotations: Rotations) -> None:
    rotations.rotate(3)
    rotations.run().open()
    rotations.forge(rotations.keys[0], successor=SigningKey())
    rotations.refuses(REPLACED)  # another successor of an earlier key: from the first minute
    rotations.now += 20 * MINUTE
    rotations.refuses(REPLACED)
    rotations.forge(rotations.keys[0])
    rotations.refuses(REPLACED)


def test_a_client_that_never_saw_the_later_keys_believes_the_thief_and_nobody_else(rotations: Rotations) -> None:
    """What the floor cannot help: the remedy is a release with new pins, which drops that floor."""
    rotations.rotate(3)
    rotations.forge(rotations.keys[0], successor=SigningKey())
    assert rotations.accepts()
    rotations.now += 20 * MINUTE
    rotations.publish(rotations.keys[-2])
    rotations.refuses(REPLACED)
    assert rotations.accepts(rotations.run(public_keys=rotations.release))


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
    rotations.rotate()
    rotations.run().open()
    assert "/.well-known/jwks.json" not in rotations.server.paths
    rotations.now += 20 * MINUTE
    rotations.forge(rotations.keys[0])
    rotations.refuses(REPLACED)


def test_pinned_keys_in_the_wrong_order_count_in_that_of_their_endorsements(rotations: Rotations) -> None:
    reversed_pins = pinned(*reversed(rotations.keys))
    for _ in range(3):
        assert rotations.accepts(rotations.run(public_keys=reversed_pins))
        rotations.now += 20 * MINUTE
        rotations.rotate()
    rotations.publish(rotations.keys[0])
    rotations.refuses(REPLACED, rotations.run(public_keys=reversed_pins))


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
        rotations.forge(rotations.keys[0], successor=successor)
        rotations.refuses(REPLACED)
    rotations.publish(rotations.keys[-2])
    assert rotations.accepts()


def test_a_program_rolled_back_learns_the_chain_to_a_floor_of_pinned_keys_only(rotations: Rotations) -> None:
    """The newer release stored no endorsements, so the older one cannot connect its floor until it sees the chain."""
    rotations.rotate(3)
    newer = rotations.release
    for _ in newer["keys"]:
        rotations.run(public_keys=newer).open()
        rotations.rotate()
    rotations.publish(rotations.keys[4])
    rotations.now += 20 * MINUTE
    assert rotations.accepts()
    rotations.forge(rotations.keys[0])
    rotations.refuses(REPLACED)


def test_the_chain_that_leads_to_a_stored_floor_is_enough_to_take_it_up(rotations: Rotations) -> None:
    rotations.rotate(3)
    rotations.run(public_keys=pinned(SigningKey(), rotations.keys[-2])).open()
    rotations.now += 20 * MINUTE
    rotations.server.key = SigningKey()
    rotations.server.endorsements.append(rotations.keys[0].endorse(rotations.server.key.jwk, iss=ISSUER))
    rotations.refuses(REPLACED)  # the thief's key set contains the genuine chain, too


def test_a_floor_of_another_chain_is_dropped(rotations: Rotations) -> None:
    """The vendor lost all keys, and ships a release with those of a new ring."""
    rotations.rotate(3)
    rotations.run().open()
    rotations.now += 20 * MINUTE
    rotations.keys = [SigningKey(), SigningKey()]
    rotations.publish(rotations.keys[0])
    assert rotations.accepts(rotations.run(public_keys=rotations.release))
    assert rotations.stored == State(floor=Floor(rotations.keys[0].kid, 900.0, rotations.now))


def test_a_stored_verdict_by_an_earlier_key_ends_too(rotations: Rotations) -> None:
    rotations.server.tweak = at(NOW)
    rotations.run().open()
    rotations.rotate(2)
    rotations.server.tweak = lambda _claims: None
    rotations.run().report("导出报表")
    assert rotations.starts_offline()
    rotations.now += 20 * MINUTE
    assert not rotations.starts_offline()


def test_a_stored_verdict_by_another_successor_of_an_earlier_key_is_not_used(rotations: Rotations) -> None:
    rotations.server.tweak = at(NOW)
    rotations.forge(rotations.keys[0], successor=SigningKey())
    rotations.run().open()
    assert rotations.starts_offline()
    endorsements = rotations.stored.endorsements
    rotations.rotate(2)
    genuine = rotations.server.endorsements
    rotations.stored = State((*endorsements, *genuine), floor=Floor(rotations.keys[2].kid, 900.0, NOW))
    assert rotations.cached
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
    rotations.forge(rotations.keys[0])
    for client in clients:
        rotations.refuses(REPLACED, client)


@pytest.mark.parametrize(("code", "files"), [("CARD_FROZEN", 2), ("CARD_NOT_FOUND", 1)])  # none of a mistyped card
def test_a_rejection_raises_the_floor_too(code: str, files: int, rotations: Rotations) -> None:
    rotations.rotate(2)
    rotations.server.tweak = reject(code)
    with pytest.raises(CardRejected):
        rotations.run().open()
    assert rotations.stored_floor.kid == rotations.keys[2].kid
    assert len(rotations.files) == files


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


def test_the_overlap_is_counted_down() -> None:
    floor = Floor("kid", 900.0, 1000.0)
    assert floor.at(1000.0) == floor
    assert floor.at(1899.0) == Floor("kid", 1.0, 1899.0)
    assert floor.at(1899.0).at(1900.0) == floor.at(1900.0) == floor.at(999.0) == Floor("kid", 0.0, 0.0)
    assert floor.at(1900.0).at(1000.0) == Floor("kid", -1.0, 1000.0).at(1000.0) == Floor("kid", 0.0, 0.0)


def test_reading_stores_no_floor_without_the_keys_that_lead_to_it() -> None:
    earlier, later = SigningKey(), SigningKey()
    keys, stored = TrustedKeys(pinned(earlier, later)), State(floor=Floor(earlier.kid, 900.0, NOW))
    keys.saw(later.kid, NOW)  # as where the file could not be written then
    assert take_up(stored, keys, NOW) == stored


def test_keys_are_learned_once_whatever_the_server_says_of_the_card(rotations: Rotations) -> None:
    paths = rotations.server.paths
    for asleep_through in (2, 3, 40):
        rotations.rotate(asleep_through)
        paths.clear()
        for _ in range(2):
            rotations.run().open()
            rotations.run().report(REPORT)
        assert paths.count("/.well-known/jwks.json") == 1
    rotations.server.tweak = reject("CARD_FROZEN")
    for _ in range(2):
        with pytest.raises(CardRejected):
            rotations.run().open()
    assert paths.count("/.well-known/jwks.json") == 1


def test_stored_endorsements_are_kept_and_learned_anew_if_spoilt(rotations: Rotations) -> None:
    rotations.rotate(3)
    rotations.run().open()
    kept = rotations.stored
    assert set(kept.endorsements) == {*rotations.server.endorsements}
    rotations.publish(rotations.keys[0])  # in the minutes of a rotation
    rotations.run().open()
    assert rotations.stored == kept
    rotations.publish(rotations.keys[-2])
    spoilt = kept.endorsements[1][:-4] + "AAAA"
    rotations.stored = replace(kept, endorsements=(kept.endorsements[0], spoilt))
    assert rotations.accepts()
    assert set(rotations.stored.endorsements) - {spoilt} == set(kept.endorsements)
    key = rotations.keys[2]
    odd = ("no token", key.endorse("no key"), key.endorse({"kid": 1}), "a.b.c")
    rotations.stored = replace(kept, endorsements=(*odd, *kept.endorsements))
    assert rotations.accepts()
    assert rotations.stored.endorsements == kept.endorsements


def test_a_key_written_into_the_file_is_not_trusted(rotations: Rotations) -> None:
    mine, claimed = SigningKey(), {"typ": "key+jwt", "kid": rotations.keys[0].kid}
    rotations.server.key = mine
    for forged in (
        mine.endorse(mine.jwk),
        mine.token({"aud": "kadun-client", "jwk": mine.jwk}, header=claimed),
        "no token",
    ):
        rotations.stored = State((forged,), floor=Floor(mine.kid, 900.0, NOW))
        rotations.refuses(UNKNOWN)


def test_a_stored_verdict_of_the_first_release_finds_its_keys_in_its_own_file(rotations: Rotations) -> None:
    rotations.rotate(2)
    rotations.server.tweak = at(NOW)
    rotations.run().open()
    assert rotations.starts_offline()
    cached = rotations.cached
    rotations.keys_file.save(State(), HARDWARE)
    for endorsements, starts in ((tuple(rotations.server.endorsements), True), (("no token",), False)):
        rotations.store.save(State(endorsements, cached), HARDWARE)
        assert rotations.starts_offline() is starts


@for_each(
    ("members", "expected"),
    [
        *((odd, None) for odd in (None, {}, [], ["kid", 1.0], [1, 1.0, 1.0])),
        (["kid", 1, 2], Floor("kid", 1.0, 2.0)),
        (["kid", True, 2], Floor("kid", 1.0, 2.0)),
        (["kid", 1, 1e12], Floor("kid", 1.0, 1e12)),
        (["kid", 901, 2], Floor("kid", 900.0, 2.0)),  # it cannot lengthen the 15 minutes
        *((["kid", *odd], Floor("kid", 0.0, 0.0)) for odd in (("1", 2), (1, None), (1, float("inf")), (10**400, 2))),
    ],
)
def test_a_floor_in_a_file_has_15_minutes_at_most(members: object, expected: Floor | None) -> None:
    assert floor_in(members) == expected


def padded(thief: SigningKey, keys: list[SigningKey]) -> list[str]:
    """Another endorsement of the genuine successor, with a claim that fills the answer."""
    return [thief.endorse(keys[1].jwk, iss=ISSUER, jti=SigningKey().kid, junk="A" * 740_000)]


def repeated(thief: SigningKey, keys: list[SigningKey]) -> list[str]:
    return [thief.endorse(keys[1].jwk, iss=ISSUER, jti=SigningKey().kid) for _ in range(50)]


def aside(thief: SigningKey, _keys: list[SigningKey]) -> list[str]:
    return [thief.endorse(SigningKey().jwk, iss=ISSUER) for _ in range(50)]


def through_their_own_keys(thief: SigningKey, keys: list[SigningKey]) -> list[str]:
    """Keys that lead from the stolen key to each genuine one."""
    own = [SigningKey() for _ in range(20)]
    leading = [thief.endorse(key.jwk, iss=ISSUER) for key in own]
    return leading + [key.endorse(genuine.jwk, iss=ISSUER) for key in own for genuine in keys[1:]]


def a_long_way_round(thief: SigningKey, keys: list[SigningKey]) -> list[str]:
    own = [thief, *(SigningKey() for _ in range(50)), keys[2]]
    return [before.endorse(after.jwk, iss=ISSUER) for before, after in pairwise(own)]


FLOODS = [padded, repeated, aside, through_their_own_keys, a_long_way_round]


@pytest.mark.parametrize("flood", FLOODS)
def test_a_thiefs_flood_neither_fills_the_file_nor_removes_the_floor(flood: Flood, rotations: Rotations) -> None:
    rotations.rotate(3)
    rotations.run().open()
    genuine = rotations.stored.endorsements
    rotations.now += 20 * MINUTE
    stolen = rotations.keys[0]
    for thiefs_key in (*(SigningKey() for _ in range(6)), stolen):
        client = rotations.run()
        rotations.server.key = thiefs_key
        rotations.server.endorsements = flood(stolen, rotations.keys)
        rotations.refuses(REPLACED if thiefs_key is stolen else UNKNOWN, client)
        assert rotations.stored.endorsements == genuine
        rotations.publish(rotations.keys[-2])
        client.open()  # the same program, with the flood in memory, stores what it has learned
        assert rotations.stored.endorsements == genuine
    rotations.rotate(2)
    client.open()
    assert set(rotations.stored.endorsements) == {*rotations.server.endorsements}
    assert sum(path.stat().st_size for path in rotations.files) < 10_000
    rotations.now += 20 * MINUTE
    rotations.forge(stolen)
    rotations.refuses(REPLACED)


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_beside_a_genuine_verdict_stores_one_path(flood: Flood, rotations: Rotations) -> None:
    rotations.rotate(2)
    rotations.server.endorsements = flood(rotations.keys[0], rotations.keys) + rotations.server.endorsements
    assert rotations.accepts()
    assert rotations.stored_floor.kid == rotations.keys[2].kid
    assert len(rotations.stored.endorsements) <= 4


def test_a_file_that_an_earlier_release_let_a_thief_fill_keeps_its_floor(rotations: Rotations) -> None:
    rotations.rotate(3)
    rotations.run().open()
    before, keys = rotations.stored, rotations.keys
    rotations.now += 20 * MINUTE
    filled = (*padded(keys[0], keys), *before.endorsements, *repeated(keys[0], keys))
    rotations.stored = replace(before, endorsements=filled)
    rotations.forge(keys[0])
    rotations.refuses(REPLACED)
    rotations.publish(keys[-2])
    assert rotations.accepts()
    assert len(rotations.stored.endorsements) == len(before.endorsements)


def steps(*texts: str) -> dict[tuple[str, str], str]:
    return {(text[0], text[1]): text for text in texts}


@for_each(
    ("stored", "learned", "sources", "kept"),
    [
        ([], ["AB", "BC", "AD"], "CA", ["AB", "BC"]),  # D is aside
        ([], ["AB", "BC", "CD", "DE"], "CA", ["AB", "BC", "CD", "DE"]),  # and on from it
        (["AB", "BC"], ["AC", "AT", "TC"], "CA", ["AB", "BC"]),  # what is stored stays
        (["AB"], ["BC", "AT", "TC"], "BA", ["AB", "BC"]),  # the floor rises from B
        (["XA", "AB"], ["BC"], "B", ["XA", "AB", "BC"]),  # X is pinned in an earlier release
        (["AB", "XY"], [], "B", []),  # of another chain
        ([], ["AT", "TC", "AB", "BC"], "CA", ["AT", "TC"]),  # one path, if it is the thief's
        (["AB", "BA"], ["BC"], "BA", ["AB", "BC"]),  # a circle
    ],
)
def test_the_lineage_of_a_key_is_one_path_from_each_source(
    stored: list[str], learned: list[str], sources: str, kept: list[str]
) -> None:
    assert list(lineage(steps(*stored), steps(*learned), sources, "C").values()) == kept


def test_the_lineage_of_a_key_is_bounded() -> None:
    stored = {(f"old {number}", "C"): "" for number in range(2000)}
    later = {("C", f"new {number}"): "" for number in range(2000)}
    far = {(f"far {number}", f"far {number + 1}"): "" for number in range(1000)} | {("far 1000", "C"): ""}
    assert len(lineage(stored, later, ["C"], "C")) == 1016
    assert lineage({}, far, ["far 0"], "C") == {}
    assert len(lineage({}, far, ["far 1"], "C")) == 1000
