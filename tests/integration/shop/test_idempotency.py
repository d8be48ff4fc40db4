"""A request takes effect once: operators' forms and shops' orders, without HTTP."""

import json
from datetime import timedelta
from functools import partial
from typing import Any

import peewee
import pytest
from falcon.testing import create_req

from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.domain.operators.operators import Scope
from app.domain.texts import RefusedError
from app.http import problems
from app.services.cards.issuing import Issuing
from app.services.shop import idempotency as records
from app.services.shop.idempotency import Document, Idempotency, KeyReusedError, Owner, Request
from app.services.shop.shop_tokens import ShopTokens
from app.services.system import periodic
from app.storage.database import Database
from app.storage.models import Card, Event, Operator
from tests.conftest import Clock
from tests.support.concurrency import wait_behind
from tests.support.console.console import add_operator


@pytest.fixture
def idempotency(database: Database, clock: Clock) -> Idempotency:
    return Idempotency(database, clock)


@pytest.fixture(params=["operator", "shop"])
def sample_request(request: pytest.FixtureRequest, database: Database, clock: Clock) -> Request:
    """A request of each kind of owner."""
    if request.param == "operator":
        add_operator("olga")
        owner = Owner(operator_id=Operator.get().id)
    else:
        tokens = ShopTokens(database, "tester", clock)
        shop = tokens.authenticate(tokens.add("taobao", list(Scope)))
        assert shop is not None
        owner = Owner(token_id=shop.id)
    return Request(owner, "order-42", "0" * 64, 201)


@pytest.fixture
def run(idempotency: Idempotency, issuing: Issuing) -> Any:
    """Issue a card, once for each request."""

    def act() -> Document:
        return {"cards": [card.id for card in issuing.issue(1, None).cards], "备注": "n"}

    return lambda request: idempotency.run(request, act)


def test_a_request_sent_again_gets_the_answer_that_was_kept(
    run: Any, idempotency: Idempotency, sample_request: Request
) -> None:
    first, second = run(sample_request), run(sample_request)
    assert (first.status, first.is_replayed, second) == (201, False, first._replace(is_replayed=True))
    assert json.loads(first.body) == idempotency.find(sample_request.owner, "order-42")
    assert Card.select().count() == 1


def test_a_key_is_one_owners_and_good_for_one_request(
    run: Any, idempotency: Idempotency, sample_request: Request
) -> None:
    run(sample_request)
    with pytest.raises(KeyReusedError):
        run(sample_request._replace(request_sha256="1" * 64))
    add_operator("other")
    other = Owner(operator_id=Operator.get(Operator.name == "other").id)
    assert idempotency.find(other, "order-42") is None
    assert not run(sample_request._replace(owner=other)).is_replayed
    assert not run(sample_request._replace(key="order-43")).is_replayed
    assert Card.select().count() == 3


def test_a_request_that_is_refused_or_whose_answer_cannot_be_kept_is_undone_and_may_be_sent_again(
    run: Any, idempotency: Idempotency, sample_request: Request
) -> None:
    def refuse() -> Document:
        raise RefusedError("不", "no")

    with pytest.raises(RefusedError):
        idempotency.run(sample_request, refuse)
    unkept: Any = None  # no status, which the table refuses
    with pytest.raises(peewee.IntegrityError):
        run(sample_request._replace(status=unkept))
    assert (Card.select().count(), Event.select().where(Event.kind == "issued").count()) == (0, 0)
    assert not run(sample_request).is_replayed


def test_a_conflict_is_tried_again_and_at_last_given_up(
    idempotency: Idempotency, sample_request: Request, caplog: pytest.LogCaptureFixture
) -> None:
    conflicts = iter([ConflictError("40P01")] * 6)

    def conflict() -> Document:
        for error in conflicts:
            raise error
        return {}

    with pytest.raises(DatabaseUnavailableError):
        idempotency.run(sample_request, conflict)
    assert "gave up a request" in caplog.text
    assert not idempotency.run(sample_request, conflict).is_replayed


def test_an_answer_is_kept_for_seven_days_and_pruned_in_batches(
    run: Any, sample_request: Request, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PRUNE_BATCH", 1)
    first, _second = (run(sample_request._replace(key=key)) for key in ("order-42", "order-43"))
    clock.advance(timedelta(days=7))
    assert periodic.prune_console(clock.now) == 0
    assert run(sample_request) == first._replace(is_replayed=True)
    clock.advance(timedelta(seconds=1))
    assert periodic.prune_console(clock.now) == 2
    assert not run(sample_request).is_replayed


def test_an_operator_who_was_removed_a_moment_ago_does_nothing(idempotency: Idempotency) -> None:
    request = Request(Owner(operator_id=7_777_777), "form", "0" * 64, 303)
    with pytest.raises(RefusedError, match="your account was removed"):
        idempotency.run(request, lambda: pytest.fail("done all the same"))


def claim(elsewhere: Database, request: Request) -> None:
    """Claim the request's key in another transaction."""
    insert = "INSERT INTO idempotency_record VALUES (DEFAULT, %s, %s, %s, %s, 201, '{}', now())"
    elsewhere.execute_sql(insert, (*request.owner, request.key, request.request_sha256))


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_request_in_progress_elsewhere_is_waited_for(
    run: Any, sample_request: Request, database: Database, elsewhere: Database, end: str
) -> None:
    claim(elsewhere, sample_request)
    answer = wait_behind(elsewhere, database, partial(run, sample_request), end)
    assert answer.is_replayed is (end == "COMMIT")
    assert Card.select().count() == (0 if end == "COMMIT" else 1)


def test_a_request_that_stays_in_progress_elsewhere_is_soon_told_to_come_again(
    run: Any, sample_request: Request, database: Database, elsewhere: Database, caplog: pytest.LogCaptureFixture
) -> None:
    pid = database.connection().get_backend_pid()
    claim(elsewhere, sample_request)
    with pytest.raises(DatabaseUnavailableError, match=r"^the same request is still being processed$"):  # a 503
        run(sample_request)
    elsewhere.execute_sql("ROLLBACK")
    assert not run(sample_request).is_replayed
    assert database.connection().get_backend_pid() == pid, "the database was not away"
    assert caplog.messages == []


def test_only_the_claim_has_the_shorter_wait(
    idempotency: Idempotency, sample_request: Request, database: Database
) -> None:
    def limit() -> Document:
        return {"limit": database.execute_sql("SHOW lock_timeout").fetchone()[0]}

    usual = limit()
    assert usual != {"limit": f"{records.CLAIM_SECONDS}s"}
    assert json.loads(idempotency.run(sample_request, limit).body) == usual


def test_work_that_is_not_the_databases_may_take_longer(
    idempotency: Idempotency, sample_request: Request, database: Database
) -> None:
    def act() -> Document:
        database.allow_idle(180)
        return {"idle": database.execute_sql("SHOW idle_in_transaction_session_timeout").fetchone()[0]}

    assert json.loads(idempotency.run(sample_request, act).body) == {"idle": "3min"}
    assert database.execute_sql("SHOW idle_in_transaction_session_timeout").fetchone() == ("30s",)


def test_a_conflict_is_an_answer_that_asks_to_come_again() -> None:
    problem = problems.from_error(create_req(), ConflictError("40P01"))
    assert (problem.status[:3], problem.code) == ("503", "UNAVAILABLE")
    assert int(problem.headers["Retry-After"]) > 0
