"""Stored verdicts are verified each time they are read, and no acceptance in progress undoes a later rejection."""

from __future__ import annotations

import hashlib
import io
import threading
from typing import TYPE_CHECKING, Any

import pytest
from kadun import CardRejected, Heartbeat, Secret, UnsealFailed
from kadun.cards import normalized_card_id
from kadun.clocks import Times
from kadun.sealing import KeyPair
from kadun.store import CachedVerdict, StateStore

from app.domain.cards import parse_card_id
from tests.support.client.fake_server import CARD, HARDWARE, NOW, FakeServer, SigningKey, claims_for, reject
from tests.support.client.offline import GRACE, at
from tests.support.client.timing import SOON_SECONDS
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

    from kadun.responses import Response

    from tests.support.client.customer_machine import Machine


def verdict_with(key: SigningKey, kept: CachedVerdict, **changes: Any) -> str:
    """What a customer who knows all of this writes: everything is right but the signature, or one claim."""
    envelope = KeyPair.from_secret(kept.key_pair)
    assert envelope is not None
    request = {"card_id": CARD, "hardware": HARDWARE, "function": "打开程序", "nonce": kept.nonce}
    claims = claims_for({**request, "client_public_key": envelope.public_key})
    return key.token({**claims, "request_sha256": kept.body_sha256, "offline_until": NOW + GRACE, **changes})


@for_each(
    "changes",
    [
        {"nonce": "another-nonce-of-theirs"},
        {"body_sha256": "0" * 64},
        {"body_sha256": 1},
        *({"key_pair": Secret(text)} for text in ("{}", "no JSON", '{"x": "AA", "d": "AA"}')),
        {"key_pair": KeyPair().secret()},
        {"token": "no.token.here"},
        *({"card_id": card} for card in ("F" * 32, "\udcff")),
        {"card_id": CARD.lower()},  # the same card, but not what the server signed
        *({"times": Times(spent, 0.0, 0.0)} for spent in (-1.0, float("inf"), float("nan"), 1e300)),
        {"times": Times(NOW, 1e300, 0.0)},
        *({"times": Times(NOW, NOW, ahead)} for ahead in (float("-inf"), float("nan"))),
        *({"times": odd} for odd in ((NOW, NOW), ("1", "2", "3"))),
    ],
)
def test_a_changed_stored_verdict_counts_as_absent(changes: dict[str, Any], machine: Machine) -> None:
    assert machine.open().accepted
    machine.put(**changes)
    assert not machine.starts_offline()


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
def test_every_check_of_an_online_verdict_is_made_again(
    changes: Any, machine: Machine, signing_key: SigningKey
) -> None:
    machine.open()
    machine.put(token=verdict_with(signing_key, machine.cached))
    assert machine.starts_offline()  # the pinned key's own: all is right
    machine.put(token=verdict_with(signing_key, machine.cached, **changes))
    assert not machine.starts_offline()


def test_a_verdict_signed_by_the_customer_is_not_used(machine: Machine, signing_key: SigningKey) -> None:
    machine.open()
    forger = SigningKey()
    forger.kid = signing_key.kid
    machine.put(token=verdict_with(forger, machine.cached))
    assert not machine.starts_offline()


def test_a_verdict_stored_without_its_requests_digest_is_used_without_that_check(machine: Machine) -> None:
    """As a release stored it that knew no digests."""
    machine.open()
    machine.put(body_sha256=None)
    assert machine.starts_offline()
    machine.open()
    body = machine.server.bodies[machine.cached.nonce]
    assert machine.cached.body_sha256 == hashlib.sha256(body).hexdigest()


def test_a_verdict_of_another_card_is_not_used(machine: Machine) -> None:
    machine.open(card_id="F" * 32)
    theirs = StateStore(machine.folder, "kadun", "kadun", "F" * 32).load(HARDWARE)
    assert theirs.cached is not None
    machine.store.save(theirs, HARDWARE)
    assert not machine.starts_offline()


def test_the_time_seen_cannot_be_put_before_the_verdict(machine: Machine) -> None:
    machine.open()
    machine.put(times=Times(0.0, 0.0, 0.0))
    machine.now = 0.0
    assert machine.starts_offline()
    assert machine.cached.times.spent == NOW + GRACE / 24  # of the time allowed, from the verdict on


def delay_answer(server: FakeServer, meanwhile: Callable[[], object]) -> None:
    """The server answers the next opening; then this happens, before the answer arrives."""

    def late(request: dict[str, Any]) -> Response:
        answer = server.genuine(request)
        meanwhile()
        return answer

    server.script = [late]


@pytest.mark.parametrize("rejected_at", [NOW, NOW + 1])
@pytest.mark.parametrize("openings_before", [0, 1])
def test_a_later_rejection_in_another_process_is_not_undone_by_an_acceptance_in_progress(
    rejected_at: int, openings_before: int, machine: Machine
) -> None:
    for _ in range(openings_before):
        machine.open()
    client = machine.run()
    delay_answer(machine.server, lambda: machine.rejects(iat=rejected_at, exp=rejected_at + 300))
    assert client.open().accepted  # its own answer was a genuine yes
    assert machine.store.load(HARDWARE).cached is None
    assert not machine.starts_offline()
    assert not machine.starts_offline(client)
    machine.server.tweak = at(NOW)  # unfrozen: even if no second has passed
    machine.open()
    assert machine.starts_offline()


def test_an_earlier_rejection_does_not_prevent_a_later_acceptance(machine: Machine) -> None:
    delay_answer(machine.server, lambda: machine.rejects(iat=NOW - 1, exp=NOW + 299))
    machine.open()
    assert machine.starts_offline()


def test_a_rejection_of_the_heartbeat_ends_an_opening_in_progress(machine: Machine) -> None:
    client = machine.run()
    client.open()
    refused: list[str] = []
    heard = threading.Event()

    def hear(no: CardRejected) -> None:
        refused.append(no.code)
        heard.set()

    def beat() -> None:
        machine.server.tweak = reject("CARD_FROZEN", iat=NOW + 1, exp=NOW + 301)
        with Heartbeat(client, on_rejected=hear):
            assert heard.wait(SOON_SECONDS)

    delay_answer(machine.server, beat)
    with pytest.raises(CardRejected) as caught:
        client.open()
    assert [caught.value.code] == refused == ["CARD_FROZEN"]
    with pytest.raises(UnsealFailed, match=r"call open\(\) first"):
        client.unseal(io.BytesIO(b""))
    assert not machine.starts_offline(client)
    machine.server.tweak = at(NOW)  # unfrozen
    assert client.open().accepted


SPELLINGS = [
    CARD.lower(),
    " ".join(CARD),
    "\u2014".join(CARD[i : i + 4] for i in range(0, 32, 4)),
    CARD.replace("0", "o").replace("1", "l"),
    CARD.replace("0", "O").replace("1", "I"),
]


@for_each("spelling", SPELLINGS)
def test_a_rejection_of_any_spelling_erases_the_acceptance_of_another(spelling: str, machine: Machine) -> None:
    machine.server.tweak = at(NOW)
    machine.open()
    assert machine.starts_offline(card_id=spelling)
    machine.rejects(machine.run(card_id=spelling))
    assert not any(machine.starts_offline(card_id=card) for card in (CARD, *SPELLINGS))


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
