"""Ceilings in the database: counted exactly, in the transaction that issues or changes."""
# Owns action-ceilings.

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.domain.cards.card_actions import Action
from app.domain.operators.ceilings import CeilingExceededError, Ceilings
from app.domain.operators.operators import Role, Scope
from app.services.cards.card_actions import CardActions
from app.services.cards.issuing import Issuing
from app.services.operators.ceilings import OwnerLimits, ceilings_of, set_ceilings
from app.services.operators.operators import Operators
from app.services.shop.idempotency import Owner
from app.services.shop.shop_tokens import ShopTokens
from app.storage.cards import NewCard
from app.storage.database import Database
from app.storage.models import ApiToken, Card, Ceiling, Event, File, FileBatch, Operator
from tests.conftest import Clock
from tests.support.secrets import PASSWORD

SHANGHAI = ZoneInfo("Asia/Shanghai")
DAY = timedelta(days=1)
MONTH = 30 * DAY


@pytest.fixture(params=["operator", "shop"])
def owner(request: pytest.FixtureRequest, operators: Operators, tokens: ShopTokens) -> Owner:
    """An operator, or a shop: ten cards a day of at most 30 days."""
    ceilings = Ceilings(10, MONTH)
    if request.param == "operator":
        operators.add("sam", Role.SELLER, PASSWORD, ceilings._replace(changes_per_day=10))
        return Owner(operator_id=Operator.get().id)
    tokens.add("taobao", list(Scope))
    tokens.set_limits("taobao", tokens.limits("taobao")._replace(**ceilings.given()))
    return Owner(token_id=ApiToken.get().id)


@pytest.fixture
def limits(database: Database, owner: Owner) -> OwnerLimits:
    return OwnerLimits(owner, SHANGHAI)


@pytest.fixture
def limited(database: Database, clock: Clock, limits: OwnerLimits) -> Issuing:
    return Issuing(database, "tester", clock, limits)


def test_no_more_cards_are_issued_or_imported_than_a_day_allows(
    limited: Issuing, limits: OwnerLimits, clock: Clock
) -> None:
    limited.issue(7, MONTH)
    for count, validity, said in ((4, MONTH, "3 are left today"), (3, MONTH + DAY, "longest validity")):
        with pytest.raises(CeilingExceededError, match=said):
            limited.issue(count, validity)
    for new in (
        NewCard("9" * 32, None, None, None),
        NewCard("9" * 32, DAY, None, None, clock.now, clock.now + 31 * DAY),
    ):
        with pytest.raises(CeilingExceededError, match="longest validity"):
            limited.import_cards([new])
    assert (Card.select().count(), limits.issued_today(clock.now)) == (7, 7), "what was refused is not counted"
    begun = clock.now - 300 * DAY, clock.now + MONTH  # what is left of it counts
    limited.import_cards([NewCard("1" * 32, DAY, None, None), NewCard("2" * 32, 365 * DAY, None, None, *begun)])
    assert Card.select().where(Card.operator_id.is_null() & Card.token_id.is_null()).count() == 2, "nobody issued them"
    limited.issue(1, DAY)
    with pytest.raises(CeilingExceededError, match="0 are left today"):
        limited.issue(1, DAY)
    with limited.database.atomic():
        set_ceilings(limits.owner, Ceilings(11, MONTH))
    with pytest.raises(CeilingExceededError, match="1 are left today"):
        limited.issue(2, DAY)


def test_cards_that_get_a_file_are_issued_and_imported_by_owners_alone(
    limited: Issuing, owner: Owner, clock: Clock
) -> None:
    File.insert(name="a", size=1, sha256="0" * 64, added_at=clock.now).execute()
    FileBatch.insert_many([{"file_name": "a", "batch": batch} for batch in ("pro", "studio")]).execute()
    imported = [NewCard("0" * 32, DAY, None, None), NewCard("1" * 32, DAY, "studio", None)]
    for add in (lambda: limited.issue(1, DAY, "pro"), lambda: limited.import_cards(imported)):
        with pytest.raises(CeilingExceededError, match="ask an owner") as refused:
            add()
        assert refused.value.field == "batch"
    limited.issue(1, DAY, "Pro")
    limited.issue(1, DAY)
    if owner.operator_id is not None:
        Operator.update(role=Role.OWNER.value).execute()
        limited.issue(1, DAY, "pro")
    assert Card.select().where(Card.batch == "pro").count() == (owner.operator_id is not None)


def test_the_day_is_the_vendors(limited: Issuing, limits: OwnerLimits, clock: Clock) -> None:
    clock.now = datetime(2026, 3, 1, 23, 59, 59, tzinfo=SHANGHAI)
    limited.issue(10, DAY)
    clock.advance(timedelta(seconds=1))
    assert limits.issued_today(clock.now) == 0
    limited.issue(9, DAY)
    clock.advance(timedelta(seconds=-1))  # another host's clock: its cards count for the new day
    with pytest.raises(CeilingExceededError, match="1 are left today"):
        limited.issue(2, DAY)
    limited.issue(1, DAY)
    clock.advance(timedelta(seconds=1))
    assert (Ceiling.select().count(), limits.issued_today(clock.now)) == (1, 10)


def test_no_card_is_extended_beyond_the_ceiling(
    database: Database, clock: Clock, issuing: Issuing, limits: OwnerLimits
) -> None:
    (unused,) = (card.id for card in issuing.issue(1, 25 * DAY).cards)
    actions = CardActions(database, "tester", clock, limits)
    ((planned, _outcome),) = actions.preview(Action.EXTEND, [unused], 5 * DAY).changes
    assert planned.id == unused
    ((card, reason),) = actions.preview(Action.EXTEND, [unused], 6 * DAY).refused
    assert (card.id, "ceiling of 30d" in reason.en) == (unused, True)
    with pytest.raises(CeilingExceededError, match="longer than the ceiling of 30d"):
        actions.apply(Action.EXTEND, [unused], 6 * DAY)
    actions.apply(Action.EXTEND, [unused], 5 * DAY)
    for action in (Action.FREEZE, Action.UNFREEZE, Action.UNBIND, Action.DELETE):
        actions.apply(action, [unused])


@pytest.fixture
def few_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shop makes ten changes a day, as `owner` lets the operator make ten."""
    monkeypatch.setattr("app.domain.operators.ceilings.MAX_CHANGES_PER_DAY", 10)


@pytest.mark.usefixtures("few_changes")
def test_no_more_cards_are_changed_than_a_day_allows(
    database: Database, clock: Clock, issuing: Issuing, limits: OwnerLimits
) -> None:
    ids = [card.id for card in issuing.issue(6, DAY).cards]
    actions = CardActions(database, "tester", clock, limits)
    assert len(actions.apply(Action.FREEZE, ids).changed) == 6
    assert actions.apply(Action.FREEZE, ids).changed == (), "what changes nothing is not counted"
    journalled = Event.select().count()
    with pytest.raises(CeilingExceededError, match="10 cards a day may be changed, and 4 are left today") as refused:
        actions.apply(Action.UNFREEZE, ids)
    assert refused.value.field == "ids"
    assert Card.select().where(Card.frozen_at.is_null()).count() == 0, "all or nothing"
    assert len(actions.apply(Action.UNFREEZE, ids[:2]).changed) == 2
    actions.apply(Action.EXTEND, ids[:1], DAY)
    actions.apply(Action.DELETE, ids[:1])
    with pytest.raises(CeilingExceededError, match="0 are left today"):
        actions.apply(Action.EXTEND, ids[1:2], DAY)
    assert Event.select().count() == journalled + 4
    assert len(Issuing(database, "tester", clock, limits).issue(10, DAY).cards) == 10, "issues are counted apart"
    assert (Ceiling.get().cards, Ceiling.get().changed) == (10, 10)
    assert len(CardActions(database, "cardctl:root", clock).apply(Action.UNFREEZE, ids[1:]).changed) == 4
    clock.advance(DAY)
    assert len(actions.apply(Action.FREEZE, ids[1:]).changed) == 5


@pytest.mark.usefixtures("few_changes")
def test_of_orders_or_changes_at_once_exactly_as_many_succeed_as_are_left(
    database: Database, clock: Clock, issuing: Issuing, limits: OwnerLimits
) -> None:
    def succeed_at_once(act: Callable[[int], object]) -> int:
        def attempt(number: int) -> bool:
            try:
                act(number)
            except CeilingExceededError:
                return False
            finally:
                database.close()
            return True

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(attempt, range(0, 24, 3))).count(True)

    assert succeed_at_once(lambda _: Issuing(database, "tester", clock, limits).issue(3, DAY)) == 3
    assert Card.select().count() == Ceiling.get().cards == 9
    ids = [card.id for card in issuing.issue(24, DAY).cards]
    actions = CardActions(database, "tester", clock, limits)
    assert succeed_at_once(lambda number: actions.apply(Action.FREEZE, ids[number : number + 3])) == 3
    assert Card.select().where(Card.frozen_at.is_null(is_null=False)).count() == Ceiling.get().changed == 9


def test_accounts_without_ceilings_issue_as_before(database: Database, clock: Clock, limits: OwnerLimits) -> None:
    Ceiling.delete().execute()
    assert ceilings_of(limits.owner)[:2] == (None, None)
    Issuing(database, "tester", clock, limits).issue(11, None)
    assert limits.issued_today(clock.now) == 11, "a ceiling that is set now counts the whole day"
