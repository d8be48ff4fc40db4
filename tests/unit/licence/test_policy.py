"""The rules (protocol, section 2): every branch, their order, and what holds of any facts and any terms."""
# Owns verdict-order, verdict-mismatch, verdict-other-card, terms-changes-per-day.

import hashlib
from datetime import UTC, datetime, timedelta
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from app.domain.addresses import UNKNOWN_ADDRESS, same_address
from app.domain.cards.cards import CardFacts, card_id_of
from app.domain.codes import CardStatus, Code
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


def rivalled(card: CardFacts | None, client: ClientFacts | None, other: CardFacts) -> Facts:
    """Facts with the machine bound to another card, which is in the state of `other`."""
    return Facts(card, client, RIVAL, other._replace(id=RIVAL.card_id))


MISMATCH = Decision(Code.CLIENT_MISMATCH, ACTIVE)
REFRESH = Decision(Code.OK, ACTIVE, binding=Binding.KEEP)
CREATED = REFRESH._replace(binding=Binding.CREATE)
ACTIVATED = UNUSED._replace(activated_at=WHOLE_NOW, expires_at=WHOLE_NOW + MONTH)
ACTIVATION = Decision(Code.OK, ACTIVATED, activates=True, binding=Binding.CREATE)
PERMANENTLY = UNUSED._replace(validity=None, activated_at=WHOLE_NOW)
MOVED = BOUND._replace(hardware="disk-0")
OF_B = ACTIVE._replace(program="b")


@for_each(
    ("facts", "request", "decision"),
    [
        # An unknown card is not found, even from a known machine.
        (Facts(), ASKED, Decision(Code.CARD_NOT_FOUND)),
        (rivalled(None, None, ACTIVE), ASKED, Decision(Code.CARD_NOT_FOUND)),
        # Nor is a card of another program, whatever its state.
        *(
            (Facts(card), ASKED, Decision(Code.CARD_NOT_FOUND, card))
            for card in (state._replace(program="b") for state in (UNUSED, ACTIVE, EXPIRED, FROZEN))
        ),
        (Facts(ACTIVE, BOUND), ASKED._replace(program="b"), Decision(Code.CARD_NOT_FOUND, ACTIVE)),
        (Facts(OF_B), ASKED._replace(program="b"), CREATED._replace(card=OF_B)),
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
            (rivalled(own, client, card), ASKED, Decision(Code.CLIENT_HAS_ANOTHER_CARD, own))
            for own, client in ((UNUSED, None), (ACTIVE, None), (ACTIVE, BOUND))
            for card in (ACTIVE, PERMANENT)
        ),
        # A machine moves from a dead card to a new card with its client.
        *(
            (rivalled(UNUSED, None, dead), ASKED, ACTIVATION._replace(binding=Binding.MOVE, released=RIVAL))
            for dead in (EXPIRED, FROZEN, PERMANENT._replace(frozen_at=NOW))
        ),
        # A card that has its own client keeps it when the machine leaves a dead card, which a refused machine does not.
        *(
            (rivalled(ACTIVE, MOVED, dead), ASKED, REFRESH._replace(released=RIVAL, hardware_changed=True))
            for dead in (EXPIRED, FROZEN)
        ),
        (rivalled(ACTIVE, MOVED._replace(address=CAFE), EXPIRED), ASKED, MISMATCH),
        # An unused card is activated and bound, a permanent one without an expiry; an unbound card keeps its expiry.
        (Facts(UNUSED), ASKED, ACTIVATION),
        (Facts(UNUSED._replace(validity=None)), ASKED, ACTIVATION._replace(card=PERMANENTLY)),
        (Facts(ACTIVE), ASKED, CREATED),
        (Facts(UNUSED, BOUND), ASKED, ACTIVATION._replace(binding=Binding.KEEP)),
    ],
)
def test_facts_and_a_request_make_a_decision(facts: Facts, request: VerificationRequest, decision: Decision) -> None:
    assert decide(facts, request, NOW) == decision
    assert decision.is_refresh is (decision == REFRESH)


def test_a_card_expires_at_its_expiry_and_not_before_and_a_permanent_one_never() -> None:
    for left, code in (
        *(
            (SECOND, Code.OK),
            (SECOND / 1_000_000, Code.OK),
            (0 * SECOND, Code.CARD_EXPIRED),
            (-MONTH, Code.CARD_EXPIRED),
        ),
    ):
        assert decide(Facts(ACTIVE._replace(expires_at=NOW + left), BOUND), ASKED, NOW).code is code, left
    assert decide(Facts(PERMANENT, BOUND), ASKED, NOW + 10_000 * MONTH).code is Code.OK


def test_the_first_broken_rule_gives_the_code_and_only_ok_is_accepted() -> None:
    in_order = [
        *(Code.CLIENT_BLOCKED, Code.CARD_NOT_FOUND, Code.CARD_SPENT, Code.CARD_FROZEN, Code.CARD_EXPIRED),
        *(Code.CLIENT_MISMATCH, Code.TOO_MANY_CHANGES, Code.CLIENT_HAS_ANOTHER_CARD, Code.UPDATE_REQUIRED),
    ]
    for faults in product([False, True], repeat=9):
        blocked, missing, spent, frozen, expired, mismatch, restless, has_rival, outdated = faults
        card = (EXPIRED if expired else ACTIVE)._replace(
            frozen_at=NOW if frozen else None, renewed_card_id=RIVAL.card_id if spent else None
        )
        client = BOUND._replace(hardware="disk-0", address=CAFE if mismatch else HOME)
        own = (None, None) if missing else (card, client)
        facts = rivalled(*own, ACTIVE) if has_rival else Facts(*own)
        facts = facts._replace(changes_today=3 if restless else 2, block=7 if blocked else None)
        expected = next((code for code, fault in zip(in_order, faults, strict=True) if fault), Code.OK)
        request = ASKED._replace(version="1.9" if outdated else "1.10", needs_version=True)
        decision = decide(facts, request, NOW, Terms(changes_per_day=3, minimum_version="1.10"))
        assert (decision.code, decision.accepted) == (expected, not any(faults)), faults


def test_the_term_binding_says_what_another_machine_is_and_an_ipv6_network_is_one_address() -> None:
    for hardware, address, refusing in (
        ("disk-1", HOME, []),
        ("disk-1", CAFE, [BindingTerm.BOTH]),
        ("disk-2", HOME, [BindingTerm.HARDWARE, BindingTerm.BOTH]),
        ("disk-2", CAFE, list(BindingTerm)),
    ):
        for binding in BindingTerm:
            decision = decide(Facts(ACTIVE, BOUND), asked(hardware, address), NOW, Terms(binding=binding))
            assert decision.code is (Code.CLIENT_MISMATCH if binding in refusing else Code.OK), (hardware, address)
    bound = Facts(ACTIVE, BOUND._replace(address="2001:db8:0:1::1"))
    assert decide(bound, ASKED._replace(address="2001:db8:0:1:ffff::2"), NOW).is_refresh
    assert decide(bound, asked("disk-2", "2001:db8:0:2::1"), NOW).code is Code.CLIENT_MISMATCH


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


def test_an_old_program_must_be_updated_where_its_version_counts_and_changes_nothing() -> None:
    terms = Terms(minimum_version="1.10")
    for version, needed, code in (
        *((version, True, Code.OK) for version in ("1.10", "1.10.0", "2")),
        ("1.9", True, Code.UPDATE_REQUIRED),
        (None, True, Code.UPDATE_REQUIRED),
        (None, False, Code.OK),
    ):
        request = ASKED._replace(version=version, needs_version=needed)
        assert decide(Facts(ACTIVE, BOUND), request, NOW, terms).code is code, (version, needed)
    request = ASKED._replace(needs_version=True)
    assert decide(rivalled(UNUSED, None, EXPIRED), request, NOW, terms) == Decision(Code.UPDATE_REQUIRED, UNUSED)


def test_a_request_has_its_fields_as_sent_the_card_in_its_one_spelling_and_digests() -> None:
    assert OPEN_PROGRAM == "\u6253\u5f00\u7a0b\u5e8f"
    sent, digest = ACTIVE.id.lower(), hashlib.sha256(b"hardware").hexdigest()
    fields = (sent, "hardware", "f", "n" * 22, "203.0.113.7", "198.51.100.1", "key")
    assert not VerificationRequest.from_fields(*fields, body=b"{}").needs_version
    request = VerificationRequest.from_fields(*fields, body=b"{}", version="1.2", needs_version=True)
    assert request == VerificationRequest(
        *(ACTIVE.id, sent, "hardware", digest, "f", "n" * 22, "203.0.113.7", "198.51.100.1", "key"),
        request_sha256=hashlib.sha256(b"{}").hexdigest(),
        version="1.2",
        needs_version=True,
    )
    assert VerificationRequest.from_fields(*fields).request_sha256 == hashlib.sha256().hexdigest()
    imported = VerificationRequest.from_fields(" OLD-KEY-1 ", "disk-1", "f", "nonce", HOME)
    assert (imported.card_id, imported.sent_card_id) == (card_id_of("OLD-KEY-1"), " OLD-KEY-1 ")


hardwares = st.sampled_from(["disk-1", "disk-2", "disk-3"])
addresses = st.sampled_from([HOME, CAFE, "2001:db8::1", "2001:db8::2", "2001:db8:1::1", "::ffff:203.0.113.7"])
moments = st.integers(-3_000_000, 3_000_000).map(lambda seconds: WHOLE_NOW + timedelta(seconds=seconds))
validities = st.none() | st.integers(1, 3_000_000).map(lambda seconds: timedelta(seconds=seconds))
requests = st.builds(asked, hardwares, addresses, st.sampled_from([OPEN_PROGRAM, "导出"]))


@st.composite
def cards(draw: st.DrawFn, card_id: str) -> CardFacts:
    validity, activated_at = draw(validities), draw(st.none() | moments)
    expires_at = None if activated_at is None or validity is None else activated_at + validity
    return CardFacts(card_id, validity, activated_at, expires_at, draw(st.none() | moments))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Facts, VerificationRequest]:
    """Facts and a request as the database can hold them: a machine is the recorded one of one client only."""
    request = draw(requests)
    card = draw(st.none() | cards(ACTIVE.id))
    client = None
    if card is not None and card.is_activated and draw(st.booleans()):
        client = ClientFacts(BOUND.id, card.id, draw(hardwares), draw(addresses))
    rival = rival_card = None
    if (client is None or client.hardware != request.hardware) and draw(st.booleans()):
        rival = RIVAL._replace(hardware=request.hardware, address=draw(addresses))
        rival_card = draw(cards(RIVAL.card_id))
    return Facts(card, client, rival, rival_card), request


@given(situations())
def test_a_rejection_has_no_writes_and_an_accepted_card_is_live_and_bound_and_refreshed_when_asked_again(
    situation: tuple[Facts, VerificationRequest],
) -> None:
    facts, request = situation
    decision = decide(facts, request, NOW)
    assert decide(facts, request._replace(function="f"), NOW) == decision, "the function never changes it"
    if not decision.accepted:
        assert decision == Decision(decision.code, facts.card)
        return
    assert decision.card is not None
    assert decision.card.status(NOW) is CardStatus.ACTIVE
    assert decision.binding is not None
    assert (decision.binding is Binding.KEEP) is (facts.client is not None)
    assert decision.released == facts.rival
    client = ClientFacts(BOUND.id, ACTIVE.id, request.hardware, request.address)
    again = decide(Facts(decision.card, client), request, NOW)
    assert (again.accepted, again.is_refresh) == (True, True)
