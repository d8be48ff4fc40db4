"""Stored verdicts are verified each time they are read, and no acceptance in progress undoes a later rejection."""

from __future__ import annotations

import hashlib
import io
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kadun import CardRejected, Client, Heartbeat, Secret, UnsealFailed
from kadun.cards import normalized_card_id
from kadun.clocks import Times
from kadun.sealing import KeyPair
from kadun.store import CachedVerdict, StateStore

from app.domain.cards import parse_card_id
from tests.support.client.fake_server import CARD, HARDWARE, NOW, FakeServer, SigningKey, claims_for, reject
from tests.support.client.stored_state import ALLOWED, offline
from tests.support.client.timing import SOON_SECONDS
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kadun.responses import Response

    from tests.support.client.offline import MakeClient


@pytest.fixture
def opened(start: MakeClient, server: FakeServer) -> Client:
    """A client that has opened the program, and stored a verdict for offline starts."""
    server.tweak = ALLOWED
    client = start()
    client.open()
    return client


def cached_in(store: StateStore) -> CachedVerdict:
    cached = store.load(HARDWARE).cached
    assert cached is not None
    return cached


def put(store: StateStore, **changes: Any) -> None:
    store.save(replace(store.load(HARDWARE), cached=replace(cached_in(store), **changes)), HARDWARE)


def verdict_with(key: SigningKey, kept: CachedVerdict, **changes: Any) -> str:
    """What a customer who knows all of this writes: everything is right but the signature, or one claim."""
    envelope = KeyPair.from_secret(kept.key_pair)
    assert envelope is not None
    request = {"card_id": CARD, "hardware": HARDWARE, "function": "打开程序", "nonce": kept.nonce}
    claims = claims_for({**request, "client_public_key": envelope.public_key})
    return key.token({**claims, "request_sha256": kept.body_sha256, "offline_until": NOW + 86_400, **changes})


@for_each(
    "changes",
    [
        {"nonce": "another-nonce-of-theirs"},
        {"body_sha256": "0" * 64},
        {"body_sha256": 1},
        *({"key_pair": Secret(text)} for text in ("{}", "no JSON", '{"x": "AA", "d": "AA"}')),
        {"key_pair": KeyPair().secret()},
        {"token": "no.token.here"},
        {"card_id": "F" * 32},
        {"card_id": CARD.lower()},  # the same card, but not what the server signed
        {"card_id": "\udcff"},
        *({"times": Times(spent, 0.0, 0.0)} for spent in (-1.0, float("inf"), float("nan"), 1e300)),
        {"times": Times(NOW, 1e300, 0.0)},
        *({"times": Times(NOW, NOW, ahead)} for ahead in (float("-inf"), float("nan"))),
        {"times": (NOW, NOW)},
        {"times": ("1", "2", "3")},
    ],
)
@pytest.mark.usefixtures("opened")
def test_a_changed_stored_verdict_counts_as_absent(
    changes: dict[str, Any], start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    put(store, **changes)
    assert not offline(start(), server)
    assert start().open().accepted


@for_each(
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
)
@pytest.mark.usefixtures("opened")
def test_every_check_of_an_online_verdict_is_made_again(
    changes: dict[str, Any], start: MakeClient, store: StateStore, server: FakeServer, signing_key: SigningKey
) -> None:
    kept = cached_in(store)
    put(store, token=verdict_with(signing_key, kept))
    assert offline(start(), server)  # the pinned key's own: all is right
    put(store, token=verdict_with(signing_key, kept, **changes))
    assert not offline(start(), server)


@pytest.mark.usefixtures("opened")
def test_a_verdict_signed_by_the_customer_is_not_used(
    start: MakeClient, store: StateStore, server: FakeServer, signing_key: SigningKey
) -> None:
    forger = SigningKey()
    forger.kid = signing_key.kid
    put(store, token=verdict_with(forger, cached_in(store)))
    assert not offline(start(), server)


@pytest.mark.usefixtures("opened")
def test_a_verdict_stored_without_its_requests_digest_is_used_without_that_check(
    start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    """As a release stored it that knew no digests."""
    put(store, body_sha256=None)
    assert offline(start(), server)
    start().open()
    kept = cached_in(store)
    assert kept.body_sha256 == hashlib.sha256(server.bodies[kept.nonce]).hexdigest()


def test_a_verdict_of_another_card_is_not_used(
    start: MakeClient, store: StateStore, server: FakeServer, folder: Path
) -> None:
    server.tweak = ALLOWED
    start(card_id="F" * 32).open()
    theirs = StateStore(folder, "kadun", "kadun", "F" * 32).load(HARDWARE)
    assert theirs.cached is not None
    store.save(theirs, HARDWARE)
    assert not offline(start(), server)


@pytest.mark.usefixtures("opened")
def test_the_time_seen_cannot_be_put_before_the_verdict(
    start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    put(store, times=Times(0.0, 0.0, 0.0))
    assert offline(start(clock=lambda: 0.0), server)
    assert cached_in(store).times.spent == NOW + 3600  # a 24th of the day allowed, from the verdict on


def delay_answer(server: FakeServer, meanwhile: Callable[[], None]) -> None:
    """The server answers the next opening; then this happens, before the answer arrives."""
    server.tweak = ALLOWED

    def late(request: dict[str, Any]) -> Response:
        answer = server.genuine(request)
        meanwhile()
        return answer

    server.script = [late]


def refuse(client: Client, server: FakeServer, at: int) -> None:
    server.tweak = reject("CARD_FROZEN", iat=at, exp=at + 300)
    with pytest.raises(CardRejected):
        client.report("心跳")


@pytest.mark.parametrize("at", [NOW, NOW + 1])
@pytest.mark.parametrize("openings_before", [0, 1])
def test_a_later_rejection_in_another_process_is_not_undone_by_an_acceptance_in_progress(
    at: int, openings_before: int, start: MakeClient, server: FakeServer, store: StateStore
) -> None:
    server.tweak = ALLOWED
    for _ in range(openings_before):
        start().open()
    client = start()
    delay_answer(server, lambda: refuse(start(), server, at))
    assert client.open().accepted  # its own answer was a genuine yes
    assert store.load(HARDWARE).cached is None
    assert not offline(start(), server)
    assert not offline(client, server)
    server.tweak = ALLOWED  # unfrozen: even if no second has passed
    start().open()
    assert offline(start(), server)


def test_an_earlier_rejection_does_not_prevent_a_later_acceptance(start: MakeClient, server: FakeServer) -> None:
    delay_answer(server, lambda: refuse(start(), server, NOW - 1))
    start().open()
    assert offline(start(), server)


def test_a_rejection_of_the_heartbeat_ends_an_opening_in_progress(opened: Client, server: FakeServer) -> None:
    refused: list[str] = []
    heard = threading.Event()

    def hear(no: CardRejected) -> None:
        refused.append(no.code)
        heard.set()

    def beat() -> None:
        server.tweak = reject("CARD_FROZEN", iat=NOW + 1, exp=NOW + 301)
        with Heartbeat(opened, on_rejected=hear):
            assert heard.wait(SOON_SECONDS)

    delay_answer(server, beat)
    with pytest.raises(CardRejected) as caught:
        opened.open()
    assert [caught.value.code] == refused == ["CARD_FROZEN"]
    with pytest.raises(UnsealFailed):
        opened.unseal(io.BytesIO(b""))
    assert not offline(opened, server)
    server.tweak = ALLOWED  # unfrozen
    assert opened.open().accepted


SPELLINGS = [
    CARD.lower(),
    " ".join(CARD),
    "\u2014".join(CARD[i : i + 4] for i in range(0, 32, 4)),
    CARD.replace("0", "o").replace("1", "l"),
    CARD.replace("0", "O").replace("1", "I"),
]


def test_a_rejection_of_any_spelling_erases_the_acceptance_of_another(start: MakeClient, server: FakeServer) -> None:
    for spelling in SPELLINGS:
        server.tweak = ALLOWED
        start().open()
        assert offline(start(card_id=spelling), server)
        server.tweak = reject("CARD_FROZEN")
        with pytest.raises(CardRejected):
            start(card_id=spelling).open()
        assert not any(offline(start(card_id=card), server) for card in (CARD, *SPELLINGS))


def test_spellings_are_those_of_the_server_but_a_few_that_the_server_alone_reads() -> None:
    for typed in (*SPELLINGS, f"\u3000{CARD}\u2011", CARD):
        assert normalized_card_id(typed) == parse_card_id(typed) == CARD
    for other in (CARD[1:], CARD.replace("S", "\u017f"), f"{CARD}\u00ad"):
        assert normalized_card_id(other) != CARD
        assert parse_card_id(other) is None
    for typed in (CARD.replace("A", "\uff21"), f"卡密\uff1a{CARD}", f"\u201c{CARD}\u201d", f"\ufeff{CARD}", f"{CARD}_"):
        assert parse_card_id(typed) == CARD
        assert normalized_card_id(typed) == typed


def test_keys_of_imported_cards_differ_by_every_character_but_white_space_around_them() -> None:
    keys = ["old-key-1", "OLD-KEY-1", "OLDKEY1", "0LD-KEY-1"]
    assert [normalized_card_id(f" {key}\n") for key in keys] == keys
