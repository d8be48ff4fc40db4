"""Trusted keys: the pinned ones, those that endorsements connect to them, and the floor, before which none counts."""
# Owns keys-chain, keys-floor.

import json
import random
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kadun import Client, ServerUnreachable, UntrustedAnswer
from kadun.keys import LONGEST_ENDORSEMENT, Floor, TrustedKeys, floor_in
from kadun.learned import lineage, take_up
from kadun.responses import Response
from kadun.store import State
from kadun_conformance.crypto import ABSENT, changed

from tests.support.client import fakes
from tests.support.client.fakes import ISSUER, MINUTE, NOW, REPLACED, REPORT, UNKNOWN, Rotations, SigningKey, pinned
from tests.support.client.local_http import SOON_SECONDS
from tests.support.tables import for_each

Flood = Callable[[SigningKey, list[SigningKey]], list[str]]
KEY_SET = "/.well-known/jwks.json"


@pytest.fixture
def keys(signing_key: SigningKey) -> TrustedKeys:
    return TrustedKeys(pinned(signing_key))


def test_a_shuffled_chain_is_followed_and_one_with_a_gap_is_not(client: Client, server: fakes.FakeServer) -> None:
    server.rotate(5)
    chain = list(server.endorsements)
    for missing in range(5):
        server.endorsements = [*chain[:missing], *chain[missing + 1 :]]
        with pytest.raises(UntrustedAnswer, match=UNKNOWN):
            client.open()
    server.endorsements = random.Random(5).sample(chain, 5)  # noqa: S311 - a fixed order, not a secret
    assert client.open().accepted


def test_a_pinned_key_leads_to_later_keys_and_to_no_older_ones(
    make_client: fakes.MakeClient, server: fakes.FakeServer
) -> None:
    first = server.key
    server.rotate(2)
    client = make_client(public_keys=json.dumps(pinned(SigningKey(), server.key)))  # text will do, and any of them
    server.rotate(2)
    assert client.open().accepted
    server.key = first
    with pytest.raises(UntrustedAnswer, match=UNKNOWN):
        client.open()


def test_an_endorsement_may_omit_the_issuer_and_be_repeated(keys: TrustedKeys, signing_key: SigningKey) -> None:
    new, bare = SigningKey(), SigningKey()
    endorsements = [signing_key.endorse(new.jwk, **claims) for claims in ({}, {"iss": ISSUER}, {"iat": 1})]
    keys.add_endorsed(endorsements[:2])
    keys.add_endorsed(endorsements[2:])
    assert [*keys.steps.values()] == endorsements[:1]
    keys.add_endorsed([signing_key.endorse(changed(bare.jwk, {"use": ABSENT, "alg": ABSENT}))])
    assert bare.kid in keys
    with pytest.raises(UntrustedAnswer, match="claim aud"):
        keys.add_endorsed([new.endorse(SigningKey().jwk, aud="kadun-archive")])


def test_endorsements_of_another_issuer_do_not_count(rotations: Rotations) -> None:
    """A server whose KADUN_ISSUER was changed keeps the endorsements of its former name."""
    rotations.rotate(3)
    former = [key.endorse(SigningKey().jwk, iss=iss) for key in rotations.keys for iss in ("former", "", None, 1)]
    rotations.server.endorsements = [*former, *rotations.server.endorsements]
    assert rotations.accepts()
    rotations.server.key = SigningKey()
    rotations.server.endorsements = [rotations.keys[-2].endorse(rotations.server.key.jwk, iss="former")]
    rotations.refuses(UNKNOWN)


def test_an_endorsement_has_2048_characters_at_most(keys: TrustedKeys, signing_key: SigningKey) -> None:
    new, sizes = SigningKey(), [(more, size) for more in (0, 1) for size in range(1000, 1200)]
    made = [signing_key.endorse(new.jwk, header={"pad": "x" * more}, pad="x" * size) for more, size in sizes]
    endorsements = {len(endorsement): endorsement for endorsement in made}
    for length, counts in ((LONGEST_ENDORSEMENT + 1, False), (LONGEST_ENDORSEMENT, True)):
        keys.add_endorsed([endorsements[length]])
        assert (new.kid in keys) is counts, length


def test_no_thread_sees_a_chain_that_another_has_learned_by_half(
    server: fakes.FakeServer, keys: TrustedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rotate(2)
    kid, last, genuine = server.key.kid, server.endorsements[-1], TrustedKeys._endorsed  # noqa: SLF001 - the middle
    halfway, released = threading.Event(), threading.Event()

    def pause(self: TrustedKeys, endorsement: str, endorser: Any) -> Mapping[str, Any] | None:
        if endorsement == last:
            halfway.set()
            released.wait(SOON_SECONDS)
        return genuine(self, endorsement, endorser)

    def learn() -> None:
        keys.add_endorsed(server.endorsements)

    monkeypatch.setattr(TrustedKeys, "_endorsed", pause)
    uses = [learn, lambda: kid in keys, lambda: keys[kid], lambda: keys.steps, lambda: keys.saw(kid, 0)]
    learner, *others = [threading.Thread(target=use) for use in (learn, *uses, lambda: keys.take_up(None, 0))]
    learner.start()
    assert halfway.wait(SOON_SECONDS)
    for thread in others:
        thread.start()
    others[0].join(0.1)
    assert all(thread.is_alive() for thread in others)
    released.set()
    for thread in (learner, *others):
        thread.join()
    assert kid in keys


@for_each("status, error, waits", [(302, UntrustedAnswer, 0), (404, UntrustedAnswer, 0), (503, ServerUnreachable, 2)])
def test_a_response_that_is_not_a_key_set_is_untrusted_and_a_busy_server_is_asked_again(
    status: int, error: type[Exception], waits: int, client: Client, server: fakes.FakeServer, pauses: list[float]
) -> None:
    pauses.clear()
    server.key, server.key_set = (
        SigningKey(),
        Response(status, b"<html>" if status == 302 else b'{"code": "NOT_FOUND"}'),
    )
    with pytest.raises(error):
        client.open()
    assert len(pauses) == waits


KEY = SigningKey().jwk
INVALID_PINS = {
    "public_keys is not a JSON object": ["no JSON", "\ud800", "[]"],
    'public_keys must be {"iss": …, "keys": […]}, as `cardctl key export` prints it': [
        {"keys": [KEY]},
        *({"iss": iss, "keys": keys} for iss, keys in (("", [KEY]), ("kadun", []), ("kadun", {}))),
    ],
    "public_keys: a key is not an Ed25519 key": ["key", {"kty": "EC"}, {"crv": "Ed448"}, {"x": 1}, {"x": "AAAA"}],
    "public_keys: a key is not canonical base64url": [{"x": "="}],
    "public_keys: the kid of a key is not its thumbprint": [{"kid": "mine"}],
    "public_keys: a key is not for EdDSA signatures": [{"alg": "ES256"}, {"use": "enc"}],
    "public_keys contains a PRIVATE key; never ship that: use `cardctl key export`": [{"d": "A" * 43}],
}


@for_each("problem, odd", [(problem, odd) for problem, invalid in INVALID_PINS.items() for odd in invalid])
def test_invalid_pinned_keys_are_a_value_error(problem: str, odd: Any) -> None:
    """Those of `public_keys:` have one odd key, or a good key with other members."""
    if not problem.startswith(("public_keys is", "public_keys must")):
        odd = {"iss": "kadun", "keys": [KEY, {**KEY, **odd} if isinstance(odd, dict) else odd]}
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        TrustedKeys(odd)


def test_keys_are_learned_once_whatever_the_server_says_of_the_card(rotations: Rotations) -> None:
    paths = rotations.server.paths
    for asleep_through in (2, 3, 40):
        rotations.rotate(asleep_through)
        paths.clear()
        for _ in range(2):
            rotations.run().open()
            rotations.run().report(REPORT)
        assert paths.count(KEY_SET) == 1
    for _ in range(2):
        rotations.rejects()
    assert paths.count(KEY_SET) == 1


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
    by_mine = mine.token({"aud": "kadun-client", "jwk": mine.jwk}, header=claimed)
    for forged in (mine.endorse(mine.jwk), by_mine, "no token"):
        rotations.stored = State((forged,), floor=Floor(mine.kid, 900.0, NOW))
        rotations.refuses(UNKNOWN)


def test_a_stored_verdict_of_the_first_release_finds_its_keys_in_its_own_file(rotations: Rotations) -> None:
    rotations.rotate(2)
    rotations.server.tweak = fakes.at(NOW)
    rotations.run().open()
    assert rotations.starts_offline()
    cached, rotations.stored = rotations.cached, State()
    for endorsements, starts in ((tuple(rotations.server.endorsements), True), (("no token",), False)):
        rotations.store.save(State(endorsements, cached), fakes.HARDWARE)
        assert rotations.starts_offline() is starts


def padded(thief: SigningKey, keys: list[SigningKey]) -> list[str]:
    """Another endorsement of the genuine successor, with a claim that fills the answer."""
    return [thief.endorse(keys[1].jwk, iss=ISSUER, jti=SigningKey().kid, junk="A" * 740_000)]


def through_their_own_keys(thief: SigningKey, keys: list[SigningKey]) -> list[str]:
    """Keys that lead from the stolen key to each genuine one."""
    own = [SigningKey() for _ in range(20)]
    leading = [thief.endorse(key.jwk, iss=ISSUER) for key in own]
    return leading + [key.endorse(genuine.jwk, iss=ISSUER) for key in own for genuine in keys[1:]]


def a_long_way_round(thief: SigningKey, keys: list[SigningKey]) -> list[str]:
    own = [thief, *(SigningKey() for _ in range(50)), keys[2]]
    return [before.endorse(after.jwk, iss=ISSUER) for before, after in pairwise(own)]


FLOODS = [padded, through_their_own_keys, a_long_way_round]


@pytest.mark.parametrize("flood", FLOODS)
def test_a_thiefs_flood_neither_fills_the_file_nor_removes_the_floor(flood: Flood, rotations: Rotations) -> None:
    rotations.sees(3)
    genuine, stolen = rotations.stored.endorsements, rotations.keys[0]
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
    rotations.refuses_thief(stolen)


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_beside_a_genuine_verdict_stores_one_path(flood: Flood, rotations: Rotations) -> None:
    rotations.rotate(2)
    rotations.server.endorsements = flood(rotations.keys[0], rotations.keys) + rotations.server.endorsements
    assert rotations.accepts()
    assert rotations.stored_floor.kid == rotations.keys[2].kid
    assert len(rotations.stored.endorsements) <= 4


@for_each(
    ("stored", "learned", "sources", "kept"),
    [
        ("", "AB BC AD", "CA", "AB BC"),  # D is aside
        ("", "AB BC CD DE", "CA", "AB BC CD DE"),  # and on from it
        ("AB BC", "AC AT TC", "CA", "AB BC"),  # what is stored stays
        ("AB", "BC AT TC", "BA", "AB BC"),  # the floor rises from B
        ("XA AB", "BC", "B", "XA AB BC"),  # X is pinned in an earlier release
        ("AB XY", "", "B", ""),  # of another chain
        ("", "AT TC AB BC", "CA", "AT TC"),  # one path, if it is the thief's
        ("AB BA", "BC", "BA", "AB BC"),  # a circle
    ],
)
def test_the_lineage_of_a_key_is_one_path_from_each_source(stored: str, learned: str, sources: str, kept: str) -> None:
    before, new = ({(step[0], step[1]): step for step in steps.split()} for steps in (stored, learned))
    assert " ".join(lineage(before, new, sources, "C").values()) == kept


def test_the_lineage_of_a_key_is_bounded() -> None:
    stored = {(f"old {number}", "C"): "" for number in range(2000)}
    later = {("C", f"new {number}"): "" for number in range(2000)}
    far = {(f"far {number}", f"far {number + 1}"): "" for number in range(1000)} | {("far 1000", "C"): ""}
    assert len(lineage(stored, later, ["C"], "C")) == 1016
    assert lineage({}, far, ["far 0"], "C") == {}
    assert len(lineage({}, far, ["far 1"], "C")) == 1000


def test_a_key_stolen_after_rotations_that_the_program_saw_is_not_believed(rotations: Rotations) -> None:
    client, thiefs_own = rotations.run(), SigningKey()
    for _ in range(3):
        rotations.rotate()
        client.open()
        rotations.now += 20 * MINUTE
    for stolen in rotations.keys[:3]:
        for card in (client, rotations.run(), rotations.run(card_id=fakes.OTHER_CARD)):
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
    rotations.server.tweak = fakes.at(NOW)
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
