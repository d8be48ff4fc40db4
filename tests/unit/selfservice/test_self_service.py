"""What customers may do with their own cards: every refusal, and what each change leaves."""
# Owns self-rules.

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import product

import pytest

from app.domain.cards.card_actions import Action, Outcome, apply
from app.domain.cards.cards import MAX_VALIDITY, CardFacts
from app.domain.licence.terms import RenewTerm, Terms
from app.domain.self_service import (
    WINDOW,
    Allowance,
    CustomersCard,
    RenewNotAllowedError,
    RenewReason,
    UnbindNotAllowedError,
)
from app.http.customer_messages import RENEWALS, unbinding
from tests.unit.cards.test_cards import ACTIVE, DAY, EXPIRED, FROZEN, NOW, PERMANENT, UNUSED, WHOLE_NOW

TICK = timedelta(microseconds=1)
SPENT = UNUSED._replace(renewed_card_id="9" * 32)
OTHER = UNUSED._replace(id="1" * 32)

TWICE = Terms(self_service=True, self_unbind_per_30_days=2, self_unbind_cost=DAY, self_renew=RenewTerm.ANY)
BATCH = replace(TWICE, self_renew=RenewTerm.BATCH)


def own(card: CardFacts, terms: Terms = TWICE, *before: datetime, is_bound: bool = True) -> CustomersCard:
    """Return how a card stands now whose customer unbound it before, at those times."""
    return CustomersCard(card, NOW, is_bound, before, terms)


def unbound(card: CardFacts, terms: Terms = TWICE, *before: datetime) -> CardFacts:
    outcome = own(card, terms, *before).unbinding()
    assert (outcome.was_bound, outcome.is_bound) == (True, False)
    assert outcome.after is not None
    return outcome.after


def test_the_unbindings_left_are_those_of_the_terms_less_those_of_30_days() -> None:
    before = [NOW - 3 * DAY, NOW - WINDOW, NOW - 100 * DAY]
    for card in (UNUSED, ACTIVE, EXPIRED, PERMANENT):
        for terms, times, left in ((TWICE, before, 1), (TWICE, (), 2), (Terms(), (), 0)):
            assert own(card, terms, *times).allowed == Allowance(left), (card, terms, times)
    # The next unbinding waits until one leaves the 30 days, at a whole second.
    first, second = NOW - 20 * DAY, NOW - DAY
    used_up = own(ACTIVE, TWICE, first, second)
    assert used_up.allowed == Allowance(0, WHOLE_NOW + timedelta(seconds=1) + 10 * DAY)
    assert replace(used_up, at=first + WINDOW - TICK).allowed.unbinds_left == 0
    assert replace(used_up, at=first + WINDOW).allowed.unbinds_left == 1
    assert own(ACTIVE, TWICE, WHOLE_NOW, WHOLE_NOW).allowed == Allowance(0, WHOLE_NOW + WINDOW)
    # Of more than the present limit, all beyond it must have passed.
    before = [WHOLE_NOW - days * DAY for days in (1, 2, 3, 4)]
    assert own(ACTIVE, TWICE, *before).allowed == Allowance(0, WHOLE_NOW - 2 * DAY + WINDOW)


def test_a_frozen_or_spent_card_has_no_unbindings_and_beyond_the_limit_it_says_from_when_on() -> None:
    for used_up, next_unbind_at in (
        (own(FROZEN), None),
        (own(SPENT), None),
        (own(ACTIVE, Terms(self_service=True)), None),
        (own(ACTIVE, TWICE, WHOLE_NOW - DAY, WHOLE_NOW), WHOLE_NOW - DAY + WINDOW),
    ):
        assert used_up.allowed == Allowance(0, next_unbind_at), used_up
        with pytest.raises(UnbindNotAllowedError) as refused:
            used_up.unbinding()
        assert refused.value.next_unbind_at == next_unbind_at


def test_an_unbinding_costs_what_the_terms_say_and_never_more_than_is_left() -> None:
    assert unbound(ACTIVE) == ACTIVE._replace(expires_at=WHOLE_NOW + 28 * DAY)
    nearly = ACTIVE._replace(expires_at=WHOLE_NOW + DAY / 2)
    assert unbound(nearly) == nearly._replace(expires_at=WHOLE_NOW)
    assert unbound(EXPIRED) == EXPIRED
    assert unbound(ACTIVE, replace(TWICE, self_unbind_cost=None)) == ACTIVE
    assert unbound(PERMANENT) == PERMANENT
    never_bound = own(ACTIVE, Terms(), is_bound=False).unbinding()
    assert never_bound == Outcome(NOW, ACTIVE, ACTIVE, was_bound=False, is_bound=False), "which costs nothing"
    assert [own(card).cost for card in (PERMANENT, UNUSED, ACTIVE)] == [None, None, DAY]
    # The mark is another one when an unbinding would leave or cost something else.
    assert own(ACTIVE).mark == replace(own(ACTIVE), at=NOW + TICK).mark
    others = (own(PERMANENT), own(ACTIVE, is_bound=False), own(ACTIVE, TWICE, NOW))
    free = own(ACTIVE, replace(TWICE, self_unbind_cost=None))
    assert own(ACTIVE).mark not in {other.mark for other in (*others, free)}


OFF = replace(TWICE, self_renew=RenewTerm.OFF)
REFUSED = {
    "second_card_other_batch": [
        (ACTIVE, OTHER._replace(batch="A"), BATCH),
        (ACTIVE._replace(batch="A"), OTHER._replace(batch="a"), BATCH),
    ],
    "not_allowed": [(ACTIVE, OTHER, OFF), (ACTIVE, None, OFF)],
    "same_card": [(UNUSED, UNUSED, TWICE)],
    "card_spent": [(SPENT, OTHER, TWICE), (SPENT._replace(validity=None), OTHER, TWICE)],
    "card_frozen": [(FROZEN, OTHER, TWICE), (FROZEN, None, TWICE)],
    "card_permanent": [(PERMANENT, OTHER, TWICE)],
    "second_card_not_found": [(ACTIVE, None, TWICE), (ACTIVE, OTHER._replace(program="b"), TWICE)],
    "second_card_spent": [(ACTIVE, SPENT._replace(id=OTHER.id), TWICE)],
    "second_card_not_unused": [
        *((ACTIVE, second._replace(id=OTHER.id), TWICE) for second in (ACTIVE, UNUSED._replace(frozen_at=NOW)))
    ],
    "second_card_permanent": [
        (ACTIVE, OTHER._replace(validity=None), TWICE),
        (ACTIVE, OTHER._replace(batch="A", validity=None), BATCH),
    ],
    "too_long": [(card, OTHER._replace(validity=MAX_VALIDITY), TWICE) for card in (ACTIVE, UNUSED)],
}


def test_every_refused_renewal_says_why_and_customers_read_every_reason() -> None:
    for reason, refusals in REFUSED.items():
        for card, second, terms in refusals:
            with pytest.raises(RenewNotAllowedError, match=reason) as refused:
                own(card, terms).renewal(second)
            assert refused.value.reason == reason, (card, second)
    assert len(set(RENEWALS.values())) == len(RENEWALS) == len(RenewReason) == len(REFUSED)
    for card, terms, may in ((ACTIVE, TWICE, True), (FROZEN, TWICE, False), (ACTIVE, Terms(), False)):
        assert own(card, terms).may_renew is may
    said = unbinding(WHOLE_NOW)
    assert all("2026-03-01 12:00:00 +0000" in text for text in said)
    assert unbinding(None) != said
    assert "{time}" not in "".join([*said, *unbinding(None)])


def test_a_renewal_adds_the_second_cards_validity_as_operators_extend_of_any_batch_that_the_terms_allow() -> None:
    for card, is_bound in product([ACTIVE, EXPIRED, UNUSED], [True, False]):
        outcome = own(card, is_bound=is_bound).renewal(OTHER._replace(validity=7 * DAY))
        assert outcome == apply(Action.EXTEND, card, NOW, is_bound=is_bound, by=7 * DAY)
        assert outcome.revives_unbound is (card is EXPIRED and not is_bound)
    for terms, batch, second in (
        *((BATCH, None, None), (BATCH, "A", "A"), (TWICE, None, None), (TWICE, "A", "B"), (TWICE, None, "A")),
    ):
        outcome = own(ACTIVE._replace(batch=batch), terms).renewal(OTHER._replace(batch=second))
        assert outcome.after == ACTIVE._replace(batch=batch, expires_at=WHOLE_NOW + 59 * DAY)
