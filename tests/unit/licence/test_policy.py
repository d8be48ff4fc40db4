"""The rules (protocol, section 2): every branch, and their order."""
# Owns verdict-order, verdict-mismatch, verdict-other-card, terms-changes-per-day.

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import product

from app.domain.addresses import UNKNOWN_ADDRESS, same_address
from app.domain.cards.cards import CardFacts, card_id_of
from app.domain.codes import Code
from app.domain.licence.policy import OPEN_PROGRAM, Binding, ClientFacts, Decision, Facts, VerificationRequest, decide
from app.domain.licence.terms import BindingTerm, Terms
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
WHOLE_NOW = NOW.replace(microsecond=0)
MONTH = timedelta(days=30)
SECOND = timedelta(seconds=1)

UNUSED = CardFacts("A" * 32, MONTH, None, None, None)
ACTIVE = UNUSED._replace(activated_at=WHOLE_NOW - SECOND, expires_at=WHOLE_NOW - SECOND + MONTH)
EXPIRED = UNUSED._replace(activated_at=WHOLE_NOW - MONTH - SECOND, expires_at=WHOLE_NOW - SECOND)
FROZEN = ACTIVE._replace(frozen_at=NOW)
PERMANENT = ACTIVE._replace(validity=None, expires_at=None)

HOME, CAFE = "203.0.113.7", "198.51.100.9"
BOUND = ClientFacts("C" * 32, ACTIVE.id, "disk-1", HOME)
RIVAL = ClientFacts("D" * 32, "B" * 32, "disk-1", CAFE)


def asked(hardware: str, address: str, function: str = OPEN_PROGRAM) -> VerificationRequest:
    return VerificationRequest.from_fields(ACTIVE.id, hardware, function, "n" * 16, address)


ASKED = asked("disk-1", HOME)


def rival_of(card: CardFacts) -> CardFacts:
    """Return a card in the same state, but another one."""
    return card._replace(id=RIVAL.card_id)


MISMATCH = Decision(Code.CLIENT_MISMATCH, ACTIVE)
REFRESH = Decision(Code.OK, ACTIVE, binding=Binding.KEEP)
ACTIVATED = UNUSED._replace(activated_at=WHOLE_NOW, expires_at=WHOLE_NOW + MONTH)
PERMANENTLY = UNUSED._replace(validity=None, activated_at=WHOLE_NOW)
MOVED = BOUND._replace(hardware="disk-0")


@for_each(
    ("facts", "request", "decision"),
    [
        # An unknown card is not found, even from a known machine.
        (Facts(), ASKED, Decision(Code.CARD_NOT_FOUND)),
        (Facts(None, None, RIVAL, rival_of(ACTIVE)), ASKED, Decision(Code.CARD_NOT_FOUND)),
        # A frozen card is refused in every other state, and an expired one with the card.
        *(
            (Facts(frozen), ASKED, Decision(Code.CARD_FROZEN, frozen))
            for frozen in (card._replace(frozen_at=NOW) for card in (UNUSED, ACTIVE, EXPIRED, PERMANENT))
        ),
        (Facts(EXPIRED, BOUND), ASKED, Decision(Code.CARD_EXPIRED, EXPIRED)),
        # Another machine at another address is refused; one of the two is an accepted change; neither only refreshes.
        (Facts(ACTIVE, BOUND), asked("disk-2", CAFE), MISMATCH),
        (Facts(ACTIVE, BOUND), asked("disk-1", CAFE), REFRESH._replace(address_changed=True)),
        (Facts(ACTIVE, BOUND), asked("disk-2", HOME), REFRESH._replace(hardware_changed=True)),
        (Facts(ACTIVE, BOUND), ASKED, REFRESH),
        # Hardware is compared exactly as sent.
        *((Facts(ACTIVE, BOUND), asked(hardware, CAFE), MISMATCH) for hardware in ("Disk-1", " disk-1", "disk-１")),
        # A machine with another live card is refused.
        *(
            (Facts(own, client, RIVAL, rival_of(card)), ASKED, Decision(Code.CLIENT_HAS_ANOTHER_CARD, own))
            for own, client in ((UNUSED, None), (ACTIVE, None), (ACTIVE, BOUND))
            for card in (ACTIVE, PERMANENT)
        ),
        # A machine moves from a dead card to a new card with its client.
        *(
            (
                Facts(UNUSED, None, RIVAL, rival_of(dead)),
                ASKED,
                Decision(Code.OK, ACTIVATED, activates=True, binding=Binding.MOVE, released=RIVAL),
            )
            for dead in (EXPIRED, FROZEN, PERMANENT._replace(frozen_at=NOW))
        ),
        # A card that has its own client keeps it when the machine leaves a dead card, which a refused machine does not.
        *(
            (
                Facts(ACTIVE, MOVED, RIVAL, rival_of(dead)),
                ASKED,
                REFRESH._replace(released=RIVAL, hardware_changed=True),
            )
            for dead in (EXPIRED, FROZEN)
        ),
        (Facts(ACTIVE, MOVED._replace(address=CAFE), RIVAL, rival_of(EXPIRED)), ASKED, MISMATCH),
        # An unused card is activated and bound, a permanent one without an expiry; an unbound card keeps its expiry.
        (Facts(UNUSED), ASKED, Decision(Code.OK, ACTIVATED, activates=True, binding=Binding.CREATE)),
        (
            Facts(UNUSED._replace(validity=None)),
            ASKED,
            Decision(Code.OK, PERMANENTLY, activates=True, binding=Binding.CREATE),
        ),
        (Facts(ACTIVE), ASKED, Decision(Code.OK, ACTIVE, binding=Binding.CREATE)),
        (Facts(UNUSED, BOUND), ASKED, Decision(Code.OK, ACTIVATED, activates=True, binding=Binding.KEEP)),
    ],
)
def test_facts_and_a_request_make_a_decision(facts: Facts, request: VerificationRequest, decision: Decision) -> None:
    assert decide(facts, request, NOW) == decision
    assert decision.is_refresh is (decision == REFRESH)


@for_each(
    ("left", "code"),
    [
        (SECOND, Code.OK),
        (timedelta(microseconds=1), Code.OK),
        (0 * SECOND, Code.CARD_EXPIRED),
        (-MONTH, Code.CARD_EXPIRED),
    ],
)
def test_a_card_expires_at_its_expiry_and_not_before_and_a_permanent_one_never(left: timedelta, code: Code) -> None:
    card = ACTIVE._replace(expires_at=NOW + left)
    assert decide(Facts(card, BOUND), ASKED, NOW).code is code
    assert decide(Facts(PERMANENT, BOUND), ASKED, NOW + 10_000 * MONTH).code is Code.OK


def test_a_move_within_one_ipv6_network_is_no_change_and_the_next_network_is_another_address() -> None:
    bound = BOUND._replace(address="2001:db8:0:1::1")
    assert decide(Facts(ACTIVE, bound), ASKED._replace(address="2001:db8:0:1:ffff::2"), NOW).is_refresh
    assert decide(Facts(ACTIVE, bound), asked("disk-2", "2001:db8:0:2::1"), NOW).code is Code.CLIENT_MISMATCH


@for_each("faults", list(product([False, True], repeat=9)))
def test_the_first_broken_rule_gives_the_code_and_only_ok_is_accepted(faults: tuple[bool, ...]) -> None:
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
    decision = decide(facts, request, NOW, Terms(changes_per_day=3, minimum_version="1.10"))
    assert (decision.code, decision.accepted) == (expected, not any(faults))


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


def test_a_machine_that_was_imported_without_an_address_is_known_by_its_hardware_alone_and_gets_one() -> None:
    facts = Facts(ACTIVE, BOUND._replace(address=UNKNOWN_ADDRESS))
    for binding in BindingTerm:
        assert decide(facts, ASKED, NOW, Terms(binding=binding)).accepted
    assert decide(facts, asked("disk-1", CAFE), NOW) == REFRESH
    assert decide(facts, asked("disk-2", CAFE), NOW).code is Code.CLIENT_MISMATCH
    assert not same_address(UNKNOWN_ADDRESS, UNKNOWN_ADDRESS)


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


def test_a_request_has_its_fields_as_sent_the_card_in_its_one_spelling_and_digests() -> None:
    assert OPEN_PROGRAM == "\u6253\u5f00\u7a0b\u5e8f"
    sent = ACTIVE.id.lower()
    fields = (sent, "hardware", "f", "n" * 22, "203.0.113.7", "198.51.100.1", "key")
    assert not VerificationRequest.from_fields(*fields, body=b"{}").needs_version
    request = VerificationRequest.from_fields(*fields, body=b"{}", version="1.2", needs_version=True)
    assert request == VerificationRequest(
        card_id=ACTIVE.id,
        sent_card_id=sent,
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
    imported = VerificationRequest.from_fields(" OLD-KEY-1 ", "disk-1", "f", "nonce", HOME)
    assert (imported.card_id, imported.sent_card_id) == (card_id_of("OLD-KEY-1"), " OLD-KEY-1 ")
