"""What operators' actions write, on a real PostgreSQL."""

from datetime import timedelta

import pytest

from app.domain.card_actions import Action
from app.domain.cards import Card as DomainCard
from app.domain.codes import CardStatus, EventKind
from app.domain.texts import RefusedError
from app.services.card_actions import CardActions, CardNotFoundError
from app.services.issuing import Issuing
from app.services.verification import Verification
from app.storage import cards
from app.storage.database import Database
from app.storage.models import Card, Event
from tests.conftest import Clock
from tests.support.asking import ask, kinds
from tests.support.query_plans import statements

DAYS_30 = timedelta(days=30)


def test_the_sql_of_a_status_finds_what_the_rules_say(
    verification: Verification, card_actions: CardActions, issuing: Issuing, clock: Clock
) -> None:
    made = [card.id for validity in (DAYS_30, timedelta(days=1), None) for card in issuing.issue(4, validity).cards]
    for number, card_id in enumerate(made):
        if number % 4 >= 2:
            ask(verification, card_id, hardware=f"machine {number}")
    card_actions.apply(Action.FREEZE, [card_id for number, card_id in enumerate(made) if number % 2])
    Card.update(renewed_card_id=made[2]).where(Card.id == made[0]).execute()
    for now in (clock.now, clock.now.replace(microsecond=0) + timedelta(days=1), clock.now + timedelta(days=400)):
        for status in CardStatus:
            found = {row.id for row in Card.select().where(cards.status_is(status, now))}
            assert found == {row.id for row in Card.select() if cards.as_domain(row).status(now) is status}
            assert found or status is CardStatus.EXPIRED, "each status is tried"


def test_a_command_over_several_cards_is_all_or_nothing(
    card_actions: CardActions, issuing: Issuing, card_id: str
) -> None:
    permanent = issuing.issue(1, None).cards[0].id
    with pytest.raises(RefusedError, match="permanent"):
        card_actions.apply(Action.EXTEND, [card_id, permanent], timedelta(days=1))
    with pytest.raises(CardNotFoundError):
        card_actions.apply(Action.FREEZE, [card_id, "Z" * 32])
    assert (Card.get_by_id(card_id).validity, Card.get_by_id(card_id).frozen_at) == (DAYS_30, None)
    assert kinds() == []


def test_an_action_without_effect_succeeds_and_is_not_journalled(card_actions: CardActions, card_id: str) -> None:
    for action in (Action.UNFREEZE, Action.UNBIND, Action.FREEZE, Action.FREEZE):
        card_actions.apply(action, [card_id])
    assert kinds() == [EventKind.FROZEN]


def test_only_cards_never_activated_are_deleted_and_the_journal_stays(
    verification: Verification, card_actions: CardActions, card_id: str, other_id: str
) -> None:
    ask(verification, card_id)
    with pytest.raises(RefusedError, match="activated"):
        card_actions.apply(Action.DELETE, [other_id, card_id])
    card_actions.apply(Action.DELETE, [other_id])
    assert [row.id for row in Card.select()] == [card_id]
    assert Event.get(Event.kind == EventKind.DELETED).card_id == other_id


def test_the_longest_validity_is_read_back_exactly(database: object, issuing: Issuing) -> None:
    card = issuing.issue(1, timedelta(days=36_500)).cards[0]
    assert cards.as_domain(Card.get_by_id(card.id)) == DomainCard(card.id, timedelta(days=36_500), None, None, None)


def test_a_preview_reads_all_cards_at_once(database: Database, card_actions: CardActions, issuing: Issuing) -> None:
    made = [card.id for card in issuing.issue(20, DAYS_30).cards]
    Card.update(renewed_card_id=made[1]).where(Card.id == made[0]).execute()
    for action, queries in ((Action.DELETE, 2), (Action.FREEZE, 1)):
        with statements(database) as ran:
            preview = card_actions.preview(action, made)
        assert len(ran) == queries
        assert len(preview.changes) + len(preview.unchanged) + len(preview.refused) == len(made)
    assert [card.id for card, _why in card_actions.preview(Action.DELETE, made).refused] == made[:2]
