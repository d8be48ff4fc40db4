"""What a verification writes and answers, on a real PostgreSQL."""

from datetime import timedelta

from app.domain.codes import Code, EventKind
from app.domain.policy import VerificationRequest
from app.services.verification import Verification
from app.storage.models import Card, Client, Event, Usage
from tests.conftest import Clock
from tests.support.asking import ask, claims, kinds
from tests.support.service import OPEN

DAYS_30 = timedelta(days=30)


def test_the_first_request_activates_and_binds(verification: Verification, card_id: str, clock: Clock) -> None:
    verdict = ask(verification, card_id)
    token = claims(verdict)
    card, client = Card.get_by_id(card_id), Client.get()
    whole = clock.now.replace(microsecond=0)
    assert verdict.code is Code.OK
    assert (token["activated"], token["KERNAL_DATA_KEY"]) == (True, "the-vendor's-own-key")
    assert token["card_activated_at"] == whole.timestamp()
    assert token["card_expires_at"] == (whole + DAYS_30).timestamp()
    assert (card.is_activated, card.activated_at, card.expires_at) == (True, whole, whole + DAYS_30)
    assert (client.card_id, client.hardware, client.ip, client.function) == (
        card_id,
        "h1",
        "198.51.100.1",
        OPEN,
    )
    assert kinds() == [EventKind.ACTIVATED]


def test_the_second_request_only_refreshes_and_counts(verification: Verification, card_id: str, clock: Clock) -> None:
    ask(verification, card_id)
    clock.advance(timedelta(minutes=1))
    assert claims(ask(verification, card_id))["activated"] is False
    assert Client.get().requested_at == clock.now
    assert (Usage.get().count, Usage.get().last_at) == (2, clock.now)
    token = claims(ask(verification, card_id, function="导出报表"))
    assert token["accepted"] is True
    assert not {"KERNAL_DATA_KEY", "KERNAL_DATA_KEY_SEALED", "offline_until"} & set(token), "of another function no key"
    assert kinds() == [EventKind.ACTIVATED]


def test_a_changed_address_is_accepted_and_journalled(verification: Verification, card_id: str) -> None:
    ask(verification, card_id)
    assert ask(verification, card_id, address="203.0.113.9").code is Code.OK
    event = Event.get(Event.kind == EventKind.ENVIRONMENT_CHANGED)
    assert event.details["before"] == {"hardware": "h1", "ip": "198.51.100.1"}
    assert Client.get().ip == "203.0.113.9"


def test_another_machine_is_refused_journalled_and_changes_nothing(verification: Verification, card_id: str) -> None:
    ask(verification, card_id)
    before = list(Client.select().dicts()), list(Card.select().dicts()), list(Usage.select().dicts())
    verdict = ask(verification, card_id, hardware="h2", address="203.0.113.9")
    token = claims(verdict)
    assert (verdict.code, token["accepted"]) == (Code.CLIENT_MISMATCH, False)
    assert not {"card_activated_at", "card_expires_at", "KERNAL_DATA_KEY"} & set(token)
    assert (
        list(Client.select().dicts()),
        list(Card.select().dicts()),
        list(Usage.select().dicts()),
    ) == before
    event = Event.get(Event.code == Code.CLIENT_MISMATCH)
    assert (event.hardware, event.ip, event.reference) == ("h2", "203.0.113.9", str(token["jti"])[-8:])


def test_the_journal_has_all_that_another_machine_sent(verification: Verification, card_id: str) -> None:
    ask(verification, card_id)
    sent = ("h2", "导出报表", "a nonce of its own", "203.0.113.9", "192.168.1.7", "a public key")
    verification.verify(VerificationRequest.from_fields(card_id, *sent, version="1.4"))
    event = Event.get(Event.code == Code.CLIENT_MISMATCH)
    details = {name: event.details.get(name) for name in ("nonce", "client_public_key", "version")}
    assert (event.card_id, event.hardware, event.function, event.ip, event.claimed_ip, details) == (
        *(card_id, "h2", "导出报表", "203.0.113.9", "192.168.1.7"),
        {"nonce": "a nonce of its own", "client_public_key": "a public key", "version": "1.4"},
    )
    ask(verification, "0" * 32)
    assert list(Event.get(Event.code == Code.CARD_NOT_FOUND).details) == ["hardware_sha256"], "of others no nonce"


def test_a_renewal_keeps_the_client_and_releases_the_old_card(
    verification: Verification, card_id: str, other_id: str, clock: Clock
) -> None:
    ask(verification, card_id)
    client_id = Client.get().id
    clock.advance(DAYS_30)
    assert ask(verification, card_id).code is Code.CARD_EXPIRED
    assert ask(verification, other_id).code is Code.OK
    assert (Client.get().id, Client.get().card_id) == (client_id, other_id)
    released = Event.get(Event.kind == EventKind.RELEASED)
    assert (released.card_id, released.details["moved_to"]) == (card_id, other_id)


def test_after_64_functions_of_a_day_the_rest_are_counted_together(
    verification: Verification, card_id: str, other_id: str
) -> None:
    for number in range(70):
        assert ask(verification, card_id, function=f"f{number}").code is Code.OK
    assert ask(verification, card_id, function="f3").code is Code.OK
    assert ask(verification, card_id, function="f3", address="203.0.113.9").code is Code.OK  # a change, not a refresh
    counts = {row.function: row.count for row in Usage.select()}
    assert (len(counts), counts["其他"], counts["f3"]) == (65, 6, 3)
    assert ask(verification, other_id, hardware="h2", function="f99").code is Code.OK
    assert Usage.get(Usage.card == other_id).function == "f99"


def test_usage_is_counted_by_the_vendors_day(verification: Verification, card_id: str, clock: Clock) -> None:
    clock.now = clock.now.replace(hour=15, minute=59)
    ask(verification, card_id)
    clock.advance(timedelta(minutes=1))  # midnight in Shanghai
    ask(verification, card_id)
    assert [str(row.day) for row in Usage.select().order_by(Usage.day)] == ["2026-03-01", "2026-03-02"]
