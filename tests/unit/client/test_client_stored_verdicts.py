"""Stored keys and verdicts are verified each time they are read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kadun import CardRejected, Secret, UntrustedAnswer
from kadun.cards import normalized_card_id
from kadun.clocks import Times
from kadun.floor import Floor
from kadun.sealing import KeyPair
from kadun.store import State, StateStore

from app.domain.cards import parse_card_id
from tests.support.client.fake_server import CARD, HARDWARE, NOW, FakeServer, SigningKey, claims_for, reject
from tests.support.client.stored_state import ALLOWED, offline

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.client.offline import MakeClient


def test_learned_keys_are_kept_through_any_number_of_rotations(start: MakeClient, server: FakeServer) -> None:
    for asleep_through in (1, 3, 40):
        server.rotate(asleep_through)
        server.paths.clear()
        start().open()
        start().open()
        start().report("导出报表")
        assert server.paths.count("/.well-known/jwks.json") == 1


def test_a_pinned_key_needs_no_file(start: MakeClient, folder: Path) -> None:
    start().open()
    assert not folder.exists()


def test_a_rejection_keeps_the_learned_keys(start: MakeClient, server: FakeServer) -> None:
    server.rotate()
    start().open()
    server.tweak = reject("CARD_FROZEN")
    server.paths.clear()
    for _ in range(2):
        with pytest.raises(CardRejected):
            start().open()
    assert server.paths == ["/v1/verify"] * 2


def test_a_verdict_by_a_learned_key_allows_offline_starts(start: MakeClient, server: FakeServer) -> None:
    server.rotate(3)
    server.tweak = ALLOWED
    start().open()
    assert offline(start(), server)


def forged_endorsements(pinned_key: SigningKey, mine: SigningKey) -> list[str]:
    return [
        mine.endorse(mine.jwk),
        mine.token({"aud": "kadun-client", "jwk": mine.jwk}, header={"typ": "key+jwt", "kid": pinned_key.kid}),
        "no token",
    ]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_key_written_into_the_file_is_not_trusted(
    which: int, start: MakeClient, keys_file: StateStore, server: FakeServer, signing_key: SigningKey
) -> None:
    mine = SigningKey()
    forged = (forged_endorsements(signing_key, mine)[which],)
    keys_file.save(State(forged, floor=Floor.seen(mine.kid, NOW)), HARDWARE)
    server.key = mine
    with pytest.raises(UntrustedAnswer, match="neither pinned nor endorsed"):
        start().open()


def test_spoiled_endorsements_in_the_file_are_learned_anew(
    start: MakeClient, keys_file: StateStore, server: FakeServer
) -> None:
    server.rotate(2)
    start().open()
    kept = keys_file.load(HARDWARE)
    assert list(kept.endorsements) == server.endorsements
    spoiled = kept.endorsements[1][:-4] + "AAAA"
    keys_file.save(replace(kept, endorsements=(kept.endorsements[0], spoiled)), HARDWARE)
    assert start().open().accepted
    assert set(keys_file.load(HARDWARE).endorsements) - {spoiled} == set(kept.endorsements)


def test_endorsements_outlive_openings_that_did_not_need_them(
    start: MakeClient, keys_file: StateStore, server: FakeServer
) -> None:
    """In the minutes of a rotation some answers still come with the key before."""
    old = server.key
    server.rotate()
    start().open()
    server.key, server.tweak = old, ALLOWED
    start().open()
    assert len(keys_file.load(HARDWARE).endorsements) == 1


def put(store: StateStore, **changes: Any) -> None:
    state = store.load(HARDWARE)
    assert state.cached is not None
    store.save(replace(state, cached=replace(state.cached, **changes)), HARDWARE)


def verdict_with(key: SigningKey, store: StateStore, **changes: Any) -> str:
    """What a customer who knows all of this writes: everything is right but the signature, or one claim."""
    kept = store.load(HARDWARE).cached
    assert kept is not None
    envelope = KeyPair.from_secret(kept.key_pair)
    assert envelope is not None
    request = {"card_id": CARD, "hardware": HARDWARE, "function": "打开程序", "nonce": kept.nonce}
    claims = claims_for({**request, "client_public_key": envelope.public_key})
    return key.token({**claims, "request_sha256": kept.body_sha256, "offline_until": NOW + 86_400, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "another-nonce-of-theirs"},
        {"body_sha256": "0" * 64},
        {"body_sha256": 1},
        {"key_pair": Secret("{}")},
        {"key_pair": Secret("no JSON")},
        {"key_pair": Secret('{"x": "AA", "d": "AA"}')},
        {"key_pair": KeyPair().secret()},
        {"token": "no.token.here"},
        {"card_id": "F" * 32},
        {"card_id": CARD.lower()},  # the same card, but not what the server signed
        {"card_id": "\udcff"},
        {"times": Times(-1.0, 0.0, 0.0)},
        {"times": Times(float("inf"), 0.0, 0.0)},
        {"times": Times(float("nan"), 0.0, 0.0)},
        {"times": Times(1e300, 0.0, 0.0)},
        {"times": Times(NOW, 1e300, 0.0)},
        {"times": Times(NOW, NOW, float("-inf"))},
        {"times": Times(NOW, NOW, float("nan"))},
        {"times": (NOW, NOW)},
        {"times": ("1", "2", "3")},
    ],
    ids=str,
)
def test_a_changed_stored_verdict_counts_as_absent(
    changes: dict[str, Any], start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    server.tweak = ALLOWED
    start().open()
    put(store, **changes)
    assert not offline(start(), server)
    assert start().open().accepted


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "F" * 32},
        {"hardware_sha256": "0" * 64},
        {"request_sha256": "0" * 64},
        {"function": "导出报表"},
        {"aud": "kadun-files"},
        {"iss": "other"},
        {"exp": NOW + 301},
        {"code": "CARD_FROZEN", "accepted": False},
        {"KERNAL_DATA_KEY": "in clear"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_check_of_an_online_verdict_is_made_again(
    changes: dict[str, Any], start: MakeClient, store: StateStore, server: FakeServer, signing_key: SigningKey
) -> None:
    server.tweak = ALLOWED
    start().open()
    put(store, token=verdict_with(signing_key, store))
    assert offline(start(), server)  # the pinned key's own: all is right
    put(store, token=verdict_with(signing_key, store, **changes))
    assert not offline(start(), server)


def test_a_verdict_stored_without_its_requests_digest_is_used_without_that_check(
    start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    """As a release stored it that knew no digests."""
    server.tweak = ALLOWED
    start().open()
    put(store, body_sha256=None)
    assert offline(start(), server)
    start().open()
    kept = store.load(HARDWARE).cached
    assert kept is not None
    assert kept.body_sha256 == hashlib.sha256(server.bodies[kept.nonce]).hexdigest()


def test_a_verdict_signed_by_the_customer_is_not_used(
    start: MakeClient, store: StateStore, server: FakeServer, signing_key: SigningKey
) -> None:
    server.tweak = ALLOWED
    start().open()
    forger = SigningKey()
    forger.kid = signing_key.kid
    put(store, token=verdict_with(forger, store))
    assert not offline(start(), server)


def test_a_verdict_of_another_card_is_not_used(
    start: MakeClient, store: StateStore, server: FakeServer, folder: Path
) -> None:
    server.tweak = ALLOWED
    other = "F" * 32
    start(card_id=other).open()
    theirs = StateStore(folder, "kadun", "kadun", other).load(HARDWARE)
    assert theirs.cached is not None
    store.save(theirs, HARDWARE)
    assert not offline(start(), server)


def test_the_time_seen_cannot_be_put_before_the_verdict(
    start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    server.tweak = ALLOWED
    start().open()
    put(store, times=Times(0.0, 0.0, 0.0))
    assert offline(start(clock=lambda: 0.0), server)
    kept = store.load(HARDWARE).cached
    assert kept is not None
    assert kept.times.spent == NOW + 3600  # a 24th of the day allowed, from the verdict on


SPELLINGS = [
    CARD.lower(),
    " ".join(CARD),
    "\u2014".join(CARD[i : i + 4] for i in range(0, 32, 4)),
    CARD.replace("0", "o").replace("1", "l"),
    CARD.replace("0", "O").replace("1", "I"),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_rejection_of_any_spelling_erases_the_acceptance_of_another(
    spelling: str, start: MakeClient, server: FakeServer
) -> None:
    server.tweak = ALLOWED
    start().open()
    assert offline(start(card_id=spelling), server)
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected):
        start(card_id=spelling).open()
    for card in (CARD, *SPELLINGS):
        assert not offline(start(card_id=card), server)


def test_spellings_are_those_of_the_server() -> None:
    for typed in (*SPELLINGS, f"\u3000{CARD}\u2011", CARD):
        assert normalized_card_id(typed) == parse_card_id(typed) == CARD
    for other in (CARD[1:], CARD.replace("S", "\u017f"), f"{CARD}\u00ad"):
        assert normalized_card_id(other) != CARD
        assert parse_card_id(other) is None


def test_what_the_server_alone_reads_has_files_of_its_own() -> None:
    for typed in (CARD.replace("A", "\uff21"), f"卡密\uff1a{CARD}", f"\u201c{CARD}\u201d", f"\ufeff{CARD}", f"{CARD}_"):
        assert parse_card_id(typed) == CARD
        assert normalized_card_id(typed) == typed


def test_keys_of_imported_cards_differ_by_every_character_but_white_space_around_them() -> None:
    keys = ["old-key-1", "OLD-KEY-1", "OLDKEY1", "0LD-KEY-1"]
    assert [normalized_card_id(f" {key}\n") for key in keys] == keys
