"""The rules (protocol, section 2): every branch, and their order."""

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from app.domain.addresses import UNKNOWN_ADDRESS, same_address
from app.domain.cards import Card, card_id_of
from app.domain.codes import Code
from app.domain.policy import OPEN_PROGRAM, Binding, Client, Decision, Facts, VerificationRequest, decide
from app.domain.terms import BindingTerm, Terms
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
WHOLE_NOW = NOW.replace(microsecond=0)
MONTH = timedelta(days=30)
SECOND = timedelta(seconds=1)

UNUSED = Card("A" * 32, MONTH, None, None, None)
ACTIVE = UNUSED._replace(activated_at=WHOLE_NOW - SECOND, expires_at=WHOLE_NOW - SECOND + MONTH)
EXPIRED = UNUSED._replace(activated_at=WHOLE_NOW - MONTH - SECOND, expires_at=WHOLE_NOW - SECOND)
FROZEN = ACTIVE._replace(frozen_at=NOW)
PERMANENT = ACTIVE._replace(validity=None, expires_at=None)

HOME, CAFE = "203.0.113.7", "198.51.100.9"
BOUND = Client("C" * 32, ACTIVE.id, "disk-1", HOME)
RIVAL = Client("D" * 32, "B" * 32, "disk-1", CAFE)


def asked(hardware: str, address: str, function: str = OPEN_PROGRAM) -> VerificationRequest:
    return VerificationRequest.from_fields(ACTIVE.id, hardware, function, "n" * 16, address)


ASKED = asked("disk-1", HOME)


def rival_of(card: Card) -> Card:
    """Return a card in the same state, but another one."""
    return card._replace(id=RIVAL.card_id)


def test_an_unknown_card_is_not_found() -> None:
    assert decide(Facts(), ASKED, NOW) == Decision(Code.CARD_NOT_FOUND)


def test_an_unknown_card_is_not_found_even_from_a_known_machine() -> None:
    assert decide(Facts(None, None, RIVAL, rival_of(ACTIVE)), ASKED, NOW).code is Code.CARD_NOT_FOUND


@for_each("card", [UNUSED, ACTIVE, EXPIRED, PERMANENT])
def test_a_frozen_card_is_refused_in_every_other_state(card: Card) -> None:
    frozen = card._replace(frozen_at=NOW)
    assert decide(Facts(frozen), ASKED, NOW) == Decision(Code.CARD_FROZEN, frozen)


@for_each(
    ("left", "code"),
    [
        (SECOND, Code.OK),
        (timedelta(microseconds=1), Code.OK),
        (0 * SECOND, Code.CARD_EXPIRED),
        (-MONTH, Code.CARD_EXPIRED),
    ],
)
def test_a_card_expires_at_its_expiry_and_not_before(left: timedelta, code: Code) -> None:
    card = ACTIVE._replace(expires_at=NOW + left)
    assert decide(Facts(card, BOUND), ASKED, NOW).code is code


def test_an_expired_decision_has_the_card() -> None:
    assert decide(Facts(EXPIRED, BOUND), ASKED, NOW).card == EXPIRED


def test_a_permanent_card_never_expires() -> None:
    assert decide(Facts(PERMANENT, BOUND), ASKED, NOW + 10_000 * MONTH).code is Code.OK


def test_another_machine_at_another_address_is_refused() -> None:
    request = asked("disk-2", CAFE)
    assert decide(Facts(ACTIVE, BOUND), request, NOW) == Decision(Code.CLIENT_MISMATCH, ACTIVE)


def test_a_new_address_of_the_same_machine_is_an_accepted_change() -> None:
    decision = decide(Facts(ACTIVE, BOUND), ASKED._replace(address=CAFE), NOW)
    assert decision == Decision(Code.OK, ACTIVE, binding=Binding.KEEP, address_changed=True)
    assert not decision.is_refresh


def test_a_new_machine_at_the_same_address_is_an_accepted_change() -> None:
    decision = decide(Facts(ACTIVE, BOUND), ASKED._replace(hardware="disk-2"), NOW)
    assert decision == Decision(Code.OK, ACTIVE, binding=Binding.KEEP, hardware_changed=True)
    assert not decision.is_refresh


def test_the_same_machine_at_the_same_address_only_refreshes() -> None:
    decision = decide(Facts(ACTIVE, BOUND), ASKED, NOW)
    assert decision == Decision(Code.OK, ACTIVE, binding=Binding.KEEP)
    assert decision.is_refresh


def test_a_move_within_one_ipv6_network_is_no_change() -> None:
    bound = BOUND._replace(address="2001:db8:0:1::1")
    decision = decide(Facts(ACTIVE, bound), ASKED._replace(address="2001:db8:0:1:ffff::2"), NOW)
    assert decision.is_refresh


def test_the_next_ipv6_network_is_another_address() -> None:
    bound = BOUND._replace(address="2001:db8:0:1::1")
    request = asked("disk-2", "2001:db8:0:2::1")
    assert decide(Facts(ACTIVE, bound), request, NOW).code is Code.CLIENT_MISMATCH


@for_each("hardware", ["Disk-1", " disk-1", "disk-1 ", "disk-１", "disk-1\u0301"])
def test_hardware_is_compared_exactly_as_sent(hardware: str) -> None:
    request = asked(hardware, CAFE)
    assert decide(Facts(ACTIVE, BOUND), request, NOW).code is Code.CLIENT_MISMATCH


@for_each("card", [ACTIVE, PERMANENT])
@for_each(("own", "client"), [(UNUSED, None), (ACTIVE, None), (ACTIVE, BOUND)])
def test_a_machine_with_another_live_card_is_refused(card: Card, own: Card, client: Client | None) -> None:
    facts = Facts(own, client, RIVAL, rival_of(card))
    assert decide(facts, ASKED, NOW) == Decision(Code.CLIENT_HAS_ANOTHER_CARD, own)


@for_each("dead", [EXPIRED, FROZEN, PERMANENT._replace(frozen_at=NOW)])
def test_a_machine_moves_from_a_dead_card_to_a_new_card_with_its_client(dead: Card) -> None:
    decision = decide(Facts(UNUSED, None, RIVAL, rival_of(dead)), ASKED, NOW)
    assert (decision.code, decision.binding, decision.released) == (Code.OK, Binding.MOVE, RIVAL)
    assert decision.activates
    assert not decision.is_refresh


@pytest.mark.parametrize("dead", [EXPIRED, FROZEN])
def test_a_card_that_has_its_own_client_keeps_it_when_the_machine_leaves_a_dead_card(dead: Card) -> None:
    facts = Facts(ACTIVE, BOUND._replace(hardware="disk-0"), RIVAL, rival_of(dead))
    decision = decide(facts, ASKED, NOW)
    assert decision == Decision(Code.OK, ACTIVE, binding=Binding.KEEP, released=RIVAL, hardware_changed=True)
    assert not decision.is_refresh


def test_a_refused_machine_does_not_leave_its_dead_card() -> None:
    facts = Facts(ACTIVE, BOUND._replace(hardware="disk-0", address=CAFE), RIVAL, rival_of(EXPIRED))
    assert decide(facts, ASKED, NOW) == Decision(Code.CLIENT_MISMATCH, ACTIVE)


def test_an_unused_card_is_activated_and_bound() -> None:
    activated = UNUSED._replace(activated_at=WHOLE_NOW, expires_at=WHOLE_NOW + MONTH)
    decision = decide(Facts(UNUSED), ASKED, NOW)
    assert decision == Decision(Code.OK, activated, activates=True, binding=Binding.CREATE)
    assert decision.accepted
    assert not decision.is_refresh


def test_an_unused_permanent_card_is_activated_without_an_expiry() -> None:
    decision = decide(Facts(UNUSED._replace(validity=None)), ASKED, NOW)
    assert decision.card == UNUSED._replace(validity=None, activated_at=WHOLE_NOW)
    assert decision.activates


def test_an_unbound_card_binds_to_the_next_machine_and_keeps_its_expiry() -> None:
    assert decide(Facts(ACTIVE), ASKED, NOW) == Decision(Code.OK, ACTIVE, binding=Binding.CREATE)


def test_the_activation_of_a_bound_card_is_not_a_refresh() -> None:
    decision = decide(Facts(UNUSED, BOUND), ASKED, NOW)
    assert (decision.binding, decision.activates, decision.is_refresh) == (Binding.KEEP, True, False)


def test_the_function_that_earns_the_key() -> None:
    assert OPEN_PROGRAM == "\u6253\u5f00\u7a0b\u5e8f"


@for_each("code", list(Code))
def test_only_ok_is_accepted(code: Code) -> None:
    assert Decision(code).accepted is (code is Code.OK)


@for_each("faults", list(product([False, True], repeat=9)))
def test_the_first_broken_rule_gives_the_code(faults: tuple[bool, ...]) -> None:
    blocked, missing, spent, frozen, expired, mismatch, restless, rivalled, outdated = faults
    card = (EXPIRED if expired else ACTIVE)._replace(
        frozen_at=NOW if frozen else None, renewed_card_id=RIVAL.card_id if spent else None
    )
    facts = Facts(
        None if missing else card,
        None if missing else BOUND._replace(hardware="disk-0", address=CAFE if mismatch else HOME),
        RIVAL if rivalled else None,
        rival_of(ACTIVE) if rivalled else None,
        changes_today=3 if restless else 2,
        block=7 if blocked else None,
    )
    in_order = [
        Code.CLIENT_BLOCKED,
        Code.CARD_NOT_FOUND,
        Code.CARD_SPENT,
        Code.CARD_FROZEN,
        Code.CARD_EXPIRED,
        Code.CLIENT_MISMATCH,
        Code.TOO_MANY_CHANGES,
        Code.CLIENT_HAS_ANOTHER_CARD,
        Code.UPDATE_REQUIRED,
    ]
    expected = next((code for code, fault in zip(in_order, faults, strict=True) if fault), Code.OK)
    request = ASKED._replace(version="1.9" if outdated else "1.10", needs_version=True)
    assert decide(facts, request, NOW, Terms(changes_per_day=3, minimum_version="1.10")).code is expected


@for_each(
    ("hardware", "address", "refusing"),
    [
        ("disk-1", HOME, []),
        ("disk-1", CAFE, [BindingTerm.BOTH]),
        ("disk-2", HOME, [BindingTerm.HARDWARE, BindingTerm.BOTH]),
        ("disk-2", CAFE, list(BindingTerm)),
    ],
)
def test_the_term_binding_says_what_another_machine_is(
    hardware: str, address: str, refusing: list[BindingTerm]
) -> None:
    for binding in BindingTerm:
        decision = decide(Facts(ACTIVE, BOUND), asked(hardware, address), NOW, Terms(binding=binding))
        assert decision.code is (Code.CLIENT_MISMATCH if binding in refusing else Code.OK)


def test_a_machine_imported_without_an_address_gets_one_on_record_under_every_binding() -> None:
    facts = Facts(ACTIVE, BOUND._replace(address=UNKNOWN_ADDRESS))
    for binding in BindingTerm:
        assert decide(facts, ASKED, NOW, Terms(binding=binding)).accepted


def test_only_a_change_is_too_many() -> None:
    terms, facts = Terms(changes_per_day=1), Facts(ACTIVE, BOUND, changes_today=1)
    assert decide(facts, ASKED, NOW, terms).is_refresh
    assert decide(facts, asked("disk-2", HOME), NOW, terms) == Decision(Code.TOO_MANY_CHANGES, ACTIVE)
    assert decide(facts, asked("disk-1", CAFE), NOW, terms) == Decision(Code.TOO_MANY_CHANGES, ACTIVE)
    assert decide(facts._replace(changes_today=0), asked("disk-1", CAFE), NOW, terms).accepted
    assert decide(Facts(ACTIVE, changes_today=1), ASKED, NOW, terms).accepted


@for_each(("version", "accepted"), [("1.10", True), ("1.10.0", True), ("2", True), ("1.9", False)])
def test_an_old_program_must_be_updated_where_its_version_counts(version: str, accepted: bool) -> None:  # noqa: FBT001
    terms = Terms(minimum_version="1.10")
    request = ASKED._replace(version=version, needs_version=True)
    assert decide(Facts(ACTIVE, BOUND), request, NOW, terms).accepted is accepted
    assert decide(Facts(ACTIVE, BOUND), request._replace(version=None), NOW, terms).code is Code.UPDATE_REQUIRED
    assert decide(Facts(ACTIVE, BOUND), request._replace(version=None, needs_version=False), NOW, terms).accepted


def test_an_old_program_activates_binds_and_releases_nothing() -> None:
    facts = Facts(UNUSED, None, RIVAL, rival_of(EXPIRED))
    request = ASKED._replace(needs_version=True)
    assert decide(facts, request, NOW, Terms(minimum_version="2")) == Decision(Code.UPDATE_REQUIRED, UNUSED)


def test_a_request_has_the_fields_as_sent_and_the_card_in_its_one_spelling() -> None:
    sent = ACTIVE.id.lower()
    digest = hashlib.sha256(b"disk-1").hexdigest()
    asked = hashlib.sha256(b"{}").hexdigest()
    request = VerificationRequest.from_fields(sent, "disk-1", "f", "nonce", HOME, CAFE, "key", body=b"{}")
    assert request == VerificationRequest(ACTIVE.id, sent, "disk-1", digest, "f", "nonce", HOME, CAFE, "key", asked)


def test_a_text_that_is_no_card_id_names_the_card_that_was_imported_with_that_key() -> None:
    request = VerificationRequest.from_fields(" OLD-KEY-1 ", "disk-1", "f", "nonce", HOME)
    assert (request.card_id, request.sent_card_id) == (card_id_of("OLD-KEY-1"), " OLD-KEY-1 ")


def test_a_machine_that_was_imported_without_an_address_is_known_by_its_hardware_alone() -> None:
    facts = Facts(ACTIVE, BOUND._replace(address=UNKNOWN_ADDRESS))
    accepted = decide(facts, asked("disk-1", CAFE), NOW)
    assert (accepted.code, accepted.hardware_changed, accepted.address_changed) == (Code.OK, False, False)
    assert decide(facts, asked("disk-2", CAFE), NOW).code is Code.CLIENT_MISMATCH
    assert not same_address(UNKNOWN_ADDRESS, UNKNOWN_ADDRESS)


def test_a_request_has_its_fields_and_the_digests_of_its_hardware_and_body() -> None:
    fields = (UNUSED.id, "hardware", "f", "n" * 22, "203.0.113.7", "198.51.100.1", "key")
    request = VerificationRequest.from_fields(*fields, body=b"{}", version="1.2", needs_version=True)
    assert request == VerificationRequest(
        card_id=UNUSED.id,
        sent_card_id=UNUSED.id,
        hardware="hardware",
        hardware_sha256=hashlib.sha256(b"hardware").hexdigest(),
        function="f",
        nonce="n" * 22,
        address="203.0.113.7",
        claimed_ip="198.51.100.1",
        public_key="key",
        request_sha256=hashlib.sha256(b"{}").hexdigest(),
        version="1.2",
        needs_version=True,
    )
    assert VerificationRequest.from_fields(*fields).request_sha256 == hashlib.sha256().hexdigest()
