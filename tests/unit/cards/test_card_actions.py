"""What operators' actions do to cards, and the texts that vendors give them."""
# Owns action-extend.

from datetime import timedelta
from itertools import product

import pytest

from app.domain.cards.card_actions import Action, Outcome, apply, check_edit, journalled, possible_actions
from app.domain.cards.cards import MAX_VALIDITY, MIN_VALIDITY, CardFacts
from app.domain.texts import MAX_TEXT, LaterError, RefusedError, Text, check_text
from tests.unit.cards.test_cards import ACTIVE, DAY, EXPIRED, FROZEN, NOW, PERMANENT, UNUSED, WHOLE_NOW


def after(action: Action, card: CardFacts, *, is_bound: bool = True, by: timedelta | None = None) -> CardFacts | None:
    return apply(action, card, NOW, is_bound=is_bound, by=by).after


def test_freezing_and_unfreezing_change_only_the_time_of_freezing_and_unbinding_only_the_client() -> None:
    for card in (UNUSED, ACTIVE, EXPIRED, PERMANENT):
        frozen = card._replace(frozen_at=NOW)
        assert after(Action.FREEZE, card) == frozen, card
        assert after(Action.UNFREEZE, frozen) == card, card
    same = ((Action.FREEZE, FROZEN), (Action.UNFREEZE, ACTIVE), (Action.UNBIND, ACTIVE), (Action.UNBIND, UNUSED))
    for action, card in same:
        outcome = apply(action, card, NOW, is_bound=False)
        assert outcome == Outcome(NOW, card, card, was_bound=False, is_bound=False), (action, card)
        assert not outcome.is_changed, (action, card)
    # Unbinding removes the client and leaves the card; other actions keep it.
    for card in (ACTIVE, EXPIRED, FROZEN):
        outcome = apply(Action.UNBIND, card, NOW, is_bound=True)
        assert outcome == Outcome(NOW, card, card, was_bound=True, is_bound=False), card
        assert outcome.is_changed, card
        for action, is_bound in product([Action.FREEZE, Action.UNFREEZE, Action.EXTEND], [True, False]):
            assert apply(action, card, NOW, is_bound=is_bound, by=DAY).is_bound is is_bound, (action, card)


def test_extending_and_shortening_change_the_validity_or_the_expiry_except_of_a_permanent_card() -> None:
    for action, by, card, changed in (
        # Extending adds to the validity, or to the later of now and the expiry.
        (Action.EXTEND, DAY, UNUSED, UNUSED._replace(validity=31 * DAY)),
        (Action.EXTEND, DAY, ACTIVE, ACTIVE._replace(expires_at=WHOLE_NOW + 30 * DAY)),
        (Action.EXTEND, DAY, EXPIRED, EXPIRED._replace(expires_at=WHOLE_NOW + DAY)),
        # Shortening takes from the validity, or from the expiry down to now.
        (Action.SHORTEN, DAY, UNUSED, UNUSED._replace(validity=29 * DAY)),
        (Action.SHORTEN, 30 * DAY - MIN_VALIDITY, UNUSED, UNUSED._replace(validity=MIN_VALIDITY)),
        (Action.SHORTEN, DAY, ACTIVE, ACTIVE._replace(expires_at=WHOLE_NOW + 28 * DAY)),
        (Action.SHORTEN, 90 * DAY, ACTIVE, ACTIVE._replace(expires_at=WHOLE_NOW)),
        (Action.SHORTEN, DAY, EXPIRED, EXPIRED),
    ):
        assert after(action, card, by=by) == changed, (action, by)
    for action, zh, en in (
        (Action.EXTEND, "是永久卡，无需延期", "permanent card"),
        (Action.SHORTEN, "是永久卡，不能缩短", "cannot be shortened"),
    ):
        for card in (PERMANENT, UNUSED._replace(validity=None)):
            with pytest.raises(RefusedError, match=en) as refusal:
                after(action, card, by=DAY)
            assert zh in refusal.value.text.zh
        with pytest.raises(ValueError, match=r"^(extending|shortening) a card takes a duration$"):
            after(action, ACTIVE)


def test_no_card_is_extended_beyond_100_years_and_an_unused_card_keeps_a_second() -> None:
    for card, left in ((UNUSED, 30 * DAY), (ACTIVE, 29 * DAY), (EXPIRED, timedelta())):
        assert after(Action.EXTEND, card, by=MAX_VALIDITY - left), card
        with pytest.raises(RefusedError, match="longer than 100 years") as refusal:
            after(Action.EXTEND, card, by=MAX_VALIDITY - left + MIN_VALIDITY)
        assert "将超过 100 年" in refusal.value.text.zh
    for by in (30 * DAY, 31 * DAY):
        with pytest.raises(RefusedError, match="is valid for 30 days: take less than that") as refusal:
            after(Action.SHORTEN, UNUSED, by=by)
        assert "的有效期只有 30 天" in refusal.value.text.zh


def test_a_card_never_activated_is_deleted_and_no_other_and_a_spent_one_neither_changed_nor_frozen() -> None:
    for card in (UNUSED, UNUSED._replace(validity=None), UNUSED._replace(frozen_at=NOW)):
        outcome = apply(Action.DELETE, card, NOW, is_bound=False)
        assert (outcome.after, outcome.status_after, outcome.is_changed) == (None, None, True)
    for card in (ACTIVE, EXPIRED, FROZEN, PERMANENT):
        with pytest.raises(RefusedError, match="was activated and cannot be deleted") as refusal:
            after(Action.DELETE, card)
        assert "已激活，不能删除" in refusal.value.text.zh
    with pytest.raises(RefusedError, match="was renewed with another one"):
        apply(Action.DELETE, UNUSED, NOW, is_bound=False, is_renewed=True)
    assert apply(Action.FREEZE, UNUSED, NOW, is_bound=False, is_renewed=True).is_changed
    spent = UNUSED._replace(renewed_card_id=ACTIVE.id)
    for action in (Action.EXTEND, Action.SHORTEN, Action.DELETE):
        with pytest.raises(RefusedError, match="was used up to renew another one"):
            apply(action, spent, NOW, is_bound=False, by=DAY)
    assert not apply(Action.FREEZE, spent, NOW, is_bound=False).is_changed


def test_a_card_that_comes_to_life_without_a_client_is_told_and_actions_are_possible_that_change_it() -> None:
    for action, card, is_bound, revives_unbound in (
        (Action.UNFREEZE, FROZEN, False, True),
        (Action.UNFREEZE, FROZEN, True, False),
        (Action.UNFREEZE, EXPIRED._replace(frozen_at=NOW), False, False),
        (Action.EXTEND, EXPIRED, False, True),
        (Action.EXTEND, EXPIRED, True, False),
        (Action.EXTEND, ACTIVE, False, False),
        (Action.UNBIND, ACTIVE, True, False),
        (Action.DELETE, UNUSED, False, False),
    ):
        outcome = apply(action, card, NOW, is_bound=is_bound, by=DAY)
        assert outcome.revives_unbound is revives_unbound, (action, card)
        assert outcome.status_before is card.status(NOW), (action, card)
        assert outcome.status_after is (outcome.after and outcome.after.status(NOW))
    # Possible actions are those that change the card.
    for card, is_bound, possible in (
        (UNUSED, False, {Action.FREEZE, Action.EXTEND, Action.SHORTEN, Action.DELETE}),
        (ACTIVE, True, {Action.FREEZE, Action.UNBIND, Action.EXTEND, Action.SHORTEN}),
        (FROZEN, False, {Action.UNFREEZE, Action.EXTEND, Action.SHORTEN}),
        (PERMANENT, True, {Action.FREEZE, Action.UNBIND}),
    ):
        assert set(possible_actions(card, NOW, is_bound=is_bound)) == possible, (card, possible)
        for validity, is_possible in ((MAX_VALIDITY - MIN_VALIDITY, True), (MAX_VALIDITY, False)):
            found = possible_actions(UNUSED._replace(validity=validity), NOW, is_bound=False)
            assert (Action.EXTEND in found) is is_possible


def test_texts_of_a_card_are_set_and_cleared_printable_and_short_or_refused_by_their_name() -> None:
    check_edit({"batch": "b" * MAX_TEXT, "note": None})
    refused = {
        "choose what to change": {},
        "batch must be": {"batch": ""},
        "note must be": {"batch": "b", "note": "a\nb"},
    }
    for said, changes in refused.items():
        with pytest.raises(RefusedError, match=said):
            check_edit(changes)
    for changes, told in (
        ({"batch": "new"}, {"batch": "new", "before": {"batch": "old"}}),
        ({"batch": None}, {"batch": "", "before": {"batch": "old"}}),
        ({"batch": "old", "note": "n"}, {"note": "n", "before": {"note": None}}),
        ({"batch": "old", "note": None}, None),
    ):
        assert journalled({"batch": "old", "note": None}, changes) == told, changes
    for value in (None, "x", "老客户", "x" * MAX_TEXT, "老客户\u3000上海", "a\u00a0b", "👩\u200d💻"):
        check_text("note", value)
    expected = Text("note 必须是 1 到 200 个可打印字符", "note must be 1 to 200 printable characters")
    for value in ("", "x" * (MAX_TEXT + 1), "a\nb", "\x1b[2J", "a\u2028b", "\u202egnp.exe", "a\u200bb"):
        with pytest.raises(RefusedError) as caught:
            check_text("note", value)
        assert caught.value.text == expected, value
    later = LaterError(30, "稍后再试", "try again later")
    assert (later.retry_after, later.text, str(later)) == (
        30,
        ("稍后再试", "try again later"),
        "稍后再试 / try again later",
    )
