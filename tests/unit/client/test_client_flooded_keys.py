"""A thief of a retired key serves endorsements without end: they neither fill the file nor replace the floor."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from kadun.floor import Floor
from kadun.keys import TrustedKeys
from kadun.learned import lineage
from kadun.store import State, StateStore

from tests.support.client.chain import REPLACED, UNKNOWN, Chain, refused
from tests.support.client.fake_server import HARDWARE, ISSUER, NOW, SigningKey, pinned
from tests.support.client.stored_state import state_files
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.client.offline import Clock, MakeClient

MINUTE = 60
MIB = 1024 * 1024


def padded(thief: SigningKey, chain: Chain) -> list[str]:
    """Another endorsement of the genuine successor, with a claim that fills the answer."""
    return [thief.endorse(chain.keys[1].jwk, iss=ISSUER, jti=SigningKey().kid, junk="A" * 740_000)]


def repeated(thief: SigningKey, chain: Chain) -> list[str]:
    return [thief.endorse(chain.keys[1].jwk, iss=ISSUER, jti=SigningKey().kid) for _ in range(50)]


def through_their_own_keys(thief: SigningKey, chain: Chain) -> list[str]:
    """Keys that lead from the stolen key to each genuine one."""
    own = [SigningKey() for _ in range(20)]
    leading = [thief.endorse(key.jwk, iss=ISSUER) for key in own]
    return leading + [key.endorse(genuine.jwk, iss=ISSUER) for key in own for genuine in chain.keys[1:]]


def a_long_way_round(thief: SigningKey, chain: Chain) -> list[str]:
    own = [thief, *(SigningKey() for _ in range(50)), chain.keys[2]]
    return [before.endorse(after.jwk, iss=ISSUER) for before, after in pairwise(own)]


FLOODS = [padded, repeated, through_their_own_keys, a_long_way_round]


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_endorsements_does_not_remove_the_floor(
    flood: Callable[[SigningKey, Chain], list[str]],
    run: MakeClient,
    chain: Chain,
    clock: Clock,
    keys_file: StateStore,
    folder: Path,
) -> None:
    chain.rotate(3)
    run().open()
    genuine = keys_file.load(HARDWARE).endorsements
    clock.now += 20 * MINUTE
    for _ in range(6):
        client = run()
        chain.server.key = SigningKey()
        chain.server.endorsements = flood(chain.keys[0], chain)
        refused(client, UNKNOWN)
        assert keys_file.load(HARDWARE).endorsements == genuine
        chain.publish(chain.keys[-2])
        client.open()  # the same program, with the flood in memory, stores what it has learned
        assert keys_file.load(HARDWARE).endorsements == genuine
    chain.rotate(2)
    client.open()
    assert set(keys_file.load(HARDWARE).endorsements) == {*chain.server.endorsements}
    assert sum(path.stat().st_size for path in state_files(folder)) < 10_000
    clock.now += 20 * MINUTE
    chain.forge(chain.keys[0])
    refused(run(), REPLACED)


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_beside_a_genuine_verdict_stores_one_path(
    flood: Callable[[SigningKey, Chain], list[str]], run: MakeClient, chain: Chain, keys_file: StateStore
) -> None:
    chain.rotate(2)
    chain.server.endorsements = flood(chain.keys[0], chain) + chain.server.endorsements
    assert run().open().accepted
    stored = keys_file.load(HARDWARE)
    assert stored.floor is not None
    assert stored.floor.kid == chain.keys[2].kid
    assert len(stored.endorsements) <= 4


def test_a_file_that_an_earlier_release_let_a_thief_fill_keeps_its_floor(
    run: MakeClient, chain: Chain, clock: Clock, keys_file: StateStore
) -> None:
    chain.rotate(3)
    run().open()
    before = keys_file.load(HARDWARE)
    clock.now += 20 * MINUTE
    filled = (*padded(chain.keys[0], chain), *before.endorsements, *repeated(chain.keys[0], chain))
    keys_file.save(State(filled, floor=before.floor), HARDWARE)
    chain.forge(chain.keys[0])
    refused(run(), REPLACED)
    chain.publish(chain.keys[-2])
    assert run().open().accepted
    assert len(keys_file.load(HARDWARE).endorsements) == len(before.endorsements)


def test_keys_learned_for_a_forged_verdict_are_not_stored(run: MakeClient, chain: Chain, keys_file: StateStore) -> None:
    chain.rotate(2)
    run().open()
    before = keys_file.load(HARDWARE)
    chain.rotate(2)
    chain.server.tweak = lambda claims: claims.update(nonce="another-nonce-of-theirs")
    refused(run(), "claim nonce")
    assert keys_file.load(HARDWARE) == before


def test_a_state_that_could_not_be_read_back_is_not_written(keys_file: StateStore) -> None:
    before = State(("x",), floor=Floor.seen("kid", NOW))
    keys_file.save(before, HARDWARE)
    with pytest.raises(OSError, match="more than 4194304 bytes"):
        keys_file.save(State(("x" * 4 * MIB,), floor=before.floor), HARDWARE)
    assert keys_file.load(HARDWARE) == before


def test_the_largest_state_that_is_written_can_be_read(keys_file: StateStore, folder: Path) -> None:
    keys_file.save(State(("x",)), HARDWARE)
    (file,) = state_files(folder)
    largest = State(("x" * (4 * MIB - file.stat().st_size + 1),))
    keys_file.save(largest, HARDWARE)
    assert file.stat().st_size == 4 * MIB
    assert keys_file.load(HARDWARE) == largest


def test_endorsements_of_more_than_2048_characters_are_ignored(signing_key: SigningKey) -> None:
    keys, large, small = TrustedKeys(pinned(signing_key)), SigningKey(), SigningKey()
    bare = len(signing_key.endorse(small.jwk, junk=""))
    longest = signing_key.endorse(small.jwk, junk="A" * ((2048 - bare) * 3 // 4))
    longer = signing_key.endorse(large.jwk, junk="A" * ((2048 - bare) * 3 // 4 + 3))
    assert 2044 <= len(longest) <= 2048 < len(longer)
    keys.add_endorsed([longer, longest])
    assert keys.endorsements == (longest,)
    assert large.kid not in keys


def test_the_first_endorsement_of_a_key_by_another_is_kept(signing_key: SigningKey) -> None:
    keys, new = TrustedKeys(pinned(signing_key)), SigningKey()
    first, second = (signing_key.endorse(new.jwk, iat=time) for time in (1, 2))
    keys.add_endorsed([first])
    keys.add_endorsed([second])
    assert keys.endorsements == (first,)


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
