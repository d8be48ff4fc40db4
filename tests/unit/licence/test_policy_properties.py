"""The rules (protocol, section 2): what holds of any facts and any terms."""

from datetime import timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from app.domain.cards.cards import CardFacts
from app.domain.codes import CardStatus
from app.domain.licence.policy import OPEN_PROGRAM, Binding, ClientFacts, Decision, Facts, VerificationRequest, decide
from app.domain.licence.terms import BindingTerm, Terms
from tests.unit.licence.test_policy import ACTIVE, BOUND, CAFE, HOME, NOW, RIVAL, WHOLE_NOW, asked

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


terms = st.builds(
    Terms,
    binding=st.sampled_from(BindingTerm),
    changes_per_day=st.none() | st.integers(1, 3),
    minimum_version=st.none() | st.sampled_from(["1", "1.9", "2"]),
)


def is_stricter(left: Terms, right: Terms) -> bool:
    strictness = [BindingTerm.EITHER, BindingTerm.HARDWARE, BindingTerm.BOTH]
    many = 1_001  # above every limit
    return (
        strictness.index(left.binding) >= strictness.index(right.binding)
        and (left.changes_per_day or many) <= (right.changes_per_day or many)
        and (left.minimum_version or "0") >= (right.minimum_version or "0")
    )


@given(situations(), terms, terms, st.integers(0, 3), st.none() | st.sampled_from(["1", "1.8", "2.1"]))
def test_a_stricter_term_accepts_nothing_that_a_looser_one_refuses(
    situation: tuple[Facts, VerificationRequest], strict: Terms, loose: Terms, changes: int, version: str | None
) -> None:
    assume(is_stricter(strict, loose))
    facts, request = situation[0]._replace(changes_today=changes), situation[1]._replace(version=version)
    for needs_version in (False, True):
        asked_now = request._replace(needs_version=needs_version)
        if decide(facts, asked_now, NOW, strict).accepted:
            assert decide(facts, asked_now, NOW, loose) == decide(facts, asked_now, NOW, strict)


@given(situations())
def test_a_rejection_has_no_writes_and_an_accepted_card_is_live_and_bound_and_refreshed_when_asked_again(
    situation: tuple[Facts, VerificationRequest],
) -> None:
    facts, request = situation
    decision = decide(facts, request, NOW)
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
    assert again.accepted
    assert again.is_refresh


@given(situations(), st.text(min_size=1, max_size=8))
def test_the_function_never_changes_the_decision(situation: tuple[Facts, VerificationRequest], function: str) -> None:
    facts, request = situation
    assert decide(facts, request, NOW) == decide(facts, request._replace(function=function), NOW)
