"""The file of the learned keys and the floor: who writes it, when, and what is believed of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from kadun import CardRejected
from kadun.clocks import Times
from kadun.floor import Floor, floor_in
from kadun.secret import Secret
from kadun.store import CachedVerdict, State, StateStore

from tests.support.client.chain import OTHER_CARD, REPLACED, Chain, refused
from tests.support.client.fake_server import HARDWARE, ISSUER, SigningKey, reject
from tests.support.client.stored_state import ALLOWED, full_disk, offline, state_files
from tests.support.tables import for_each

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.client.offline import Clock, MakeClient

MINUTE = 60


def test_two_programs_at_once_keep_the_later_floor(
    run: MakeClient, chain: Chain, clock: Clock, keys_file: StateStore
) -> None:
    chain.rotate()
    early, late = run(), run()
    early.open()
    chain.rotate(2)
    late.open()
    clock.now += 20 * MINUTE
    chain.publish(chain.keys[1])
    refused(early, REPLACED)
    floor = keys_file.load(HARDWARE).floor
    assert floor is not None
    assert floor.kid == chain.keys[3].kid


@pytest.mark.parametrize("state_dir", [None, "unwritable"])
def test_without_a_file_the_running_program_keeps_the_floor(
    state_dir: str | None, run: MakeClient, chain: Chain, clock: Clock, folder: Path
) -> None:
    folder.mkdir(parents=True)
    (folder / "file").touch()
    client = run(state_dir=state_dir and folder / "file" / "below")
    chain.rotate(3)
    client.open()
    clock.now += 20 * MINUTE
    chain.forge(chain.keys[0])
    refused(client, REPLACED)


def test_a_full_disk_prevents_no_online_start_and_leaves_the_old_floor(
    run: MakeClient, chain: Chain, keys_file: StateStore
) -> None:
    chain.rotate()
    run().open()
    before = keys_file.load(HARDWARE)
    chain.rotate()
    with full_disk():
        assert run().open().accepted
    assert keys_file.load(HARDWARE) == before


@pytest.mark.parametrize("code", ["CARD_FROZEN", "CARD_NOT_FOUND"])
def test_a_rejection_raises_the_floor_too(
    code: str, run: MakeClient, chain: Chain, keys_file: StateStore, folder: Path
) -> None:
    chain.rotate(2)
    chain.server.tweak = reject(code)
    with pytest.raises(CardRejected):
        run().open()
    floor = keys_file.load(HARDWARE).floor
    assert floor is not None
    assert floor.kid == chain.keys[2].kid
    assert len(state_files(folder)) == (1 if code == "CARD_NOT_FOUND" else 2)  # a mistyped card leaves no file


def test_a_forged_verdict_does_not_raise_the_floor(run: MakeClient, chain: Chain, keys_file: StateStore) -> None:
    chain.rotate(2)
    chain.server.tweak = lambda claims: claims.update(nonce="another-nonce-of-theirs")
    refused(run(), "claim nonce")
    assert keys_file.load(HARDWARE) == State()


def test_the_first_pinned_key_needs_no_file(run: MakeClient, folder: Path) -> None:
    run().open()
    assert not folder.exists()


def test_a_stored_verdict_of_the_first_release_finds_its_keys_in_its_own_file(
    run: MakeClient, chain: Chain, store: StateStore, keys_file: StateStore
) -> None:
    chain.rotate(2)
    chain.server.tweak = ALLOWED
    run().open()
    cached = store.load(HARDWARE).cached
    keys_file.erase()
    store.save(State(tuple(chain.server.endorsements), cached), HARDWARE)
    assert offline(run(), chain.server)
    store.save(State(("no token",), cached), HARDWARE)
    assert not offline(run(), chain.server)


def test_what_a_thief_endorses_does_not_fill_the_file(
    run: MakeClient, chain: Chain, clock: Clock, keys_file: StateStore
) -> None:
    chain.rotate(2)
    run().open()
    genuine = keys_file.load(HARDWARE).endorsements
    assert set(genuine) == {*chain.server.endorsements}
    clock.now += 20 * MINUTE
    client = run()
    client.open()
    chain.server.key = chain.keys[0]
    chain.server.endorsements = [*genuine, *(chain.keys[0].endorse(SigningKey().jwk) for _ in range(50))]
    refused(client, REPLACED)
    chain.rotate(2)
    client.open()
    assert set(keys_file.load(HARDWARE).endorsements) == {*chain.server.endorsements}


def changed(state: State, **floor: Any) -> State:
    assert state.floor is not None
    return State(state.endorsements, floor=state.floor._replace(**floor))


@pytest.mark.parametrize("left", [1e9, 10**400, True, "900", None, -1])
def test_a_file_cannot_lengthen_the_15_minutes(
    left: Any, run: MakeClient, chain: Chain, clock: Clock, keys_file: StateStore
) -> None:
    chain.rotate()
    run().open()
    keys_file.save(changed(keys_file.load(HARDWARE), left=left), HARDWARE)
    clock.now += 15 * MINUTE
    chain.publish(chain.keys[0])
    refused(run(), REPLACED)


@for_each(
    ("members", "expected"),
    [
        (None, None),
        ({}, None),
        ([], None),
        (["kid", 1.0], None),
        ([1, 1.0, 1.0], None),
        (["kid", 1, 2], Floor("kid", 1.0, 2.0)),
        (["kid", 901, 2], Floor("kid", 900.0, 2.0)),
        (["kid", "1", 2], Floor("kid", 0.0, 0.0)),
        (["kid", 1, None], Floor("kid", 0.0, 0.0)),
        (["kid", 1, float("inf")], Floor("kid", 0.0, 0.0)),
        (["kid", 10**400, 2], Floor("kid", 0.0, 0.0)),
    ],
)
def test_a_floor_is_read_from_a_file(members: object, expected: Floor | None) -> None:
    assert floor_in(members) == expected


def test_what_is_no_endorsement_in_the_file_is_dropped(run: MakeClient, chain: Chain, keys_file: StateStore) -> None:
    chain.rotate(2)
    run().open()
    state, key = keys_file.load(HARDWARE), chain.keys[2]
    odd = ("no token", key.endorse("no key"), key.endorse({"kid": 1}), "a.b.c")
    keys_file.save(State((*odd, *state.endorsements), floor=state.floor), HARDWARE)
    assert run().open().accepted
    assert keys_file.load(HARDWARE).endorsements == state.endorsements


def test_another_cards_file_is_not_the_keys_file(folder: Path, keys_file: StateStore) -> None:
    kept = CachedVerdict("t", "c", "n", Secret("e"), Times(1.0, 1.0, 0.0))
    keys_file.save(State(("x",), floor=Floor.seen("kid", 1.0)), HARDWARE)
    for card in ("", "-", OTHER_CARD):
        StateStore(folder, ISSUER, ISSUER, card).save(State(cached=kept), HARDWARE)
    assert keys_file.load(HARDWARE) == State(("x",), floor=Floor.seen("kid", 1.0))
