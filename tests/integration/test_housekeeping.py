"""Housekeeping: the pruning of what is of no more use."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.operators import Role, Scope
from app.domain.texts import RefusedError
from app.services import housekeeping
from app.services.operators import Operators
from app.services.sessions import IDLE, Sessions
from app.services.shop_tokens import ShopTokens
from app.storage import idempotency, journal
from app.storage.database import Database
from app.storage.models import (
    IdempotencyRecord,
    LoginFailure,
    OperatorDevice,
    OperatorSession,
)
from tests.conftest import Clock
from tests.support.passwords import OTHER, PASSWORD

HOME = "198.51.100.1"


@pytest.fixture
def database_url(apart_url: str) -> str:
    """No other test's service, which prunes the same tables, sees these rows."""
    return apart_url


def test_old_rows_are_pruned(
    operators: Operators, sessions: Sessions, tokens: ShopTokens, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "PRUNE_BATCH", 2)
    operators.add("alice", Role.OWNER, PASSWORD)
    tokens.add("shop", {Scope.CARDS_ISSUE})

    def happen() -> None:
        sessions.log_in("alice", PASSWORD, None, address=HOME, device=None)
        with pytest.raises(RefusedError):
            sessions.log_in("alice", OTHER, None, address=HOME, device=None)
        for _ in range(3):
            key = f"order {IdempotencyRecord.select().count()}"
            assert idempotency.claim(idempotency.Owner(token_id=1), key, "0" * 64, clock.now)

    happen()
    assert housekeeping.prune_console(clock.now) == 0
    clock.advance(timedelta(hours=1))
    assert housekeeping.prune_console(clock.now) == 2  # a name's and a network's failures
    clock.advance(IDLE)
    assert housekeeping.prune_console(clock.now) == 1  # the session
    clock.advance(timedelta(days=6))
    happen()
    clock.advance(timedelta(hours=12))
    assert housekeeping.prune_console(clock.now) == 3 + 2 + 1  # the first orders; the second failures and session
    assert sorted(row.key for row in IdempotencyRecord.select()) == ["order 3", "order 4", "order 5"]
    assert OperatorDevice.select().count() == 2
    clock.advance(timedelta(days=394))
    assert housekeeping.prune_console(clock.now) == 3 + 1
    assert [table.select().count() for table in (OperatorSession, LoginFailure, IdempotencyRecord, OperatorDevice)] == [
        *(0, 0, 0, 1)
    ]


@pytest.mark.parametrize("wrong", ["no number", "a\0"], ids=["of the database", "of the driver"])
def test_a_failure_to_prune_does_not_stop_the_rest(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    LoginFailure.insert(bucket="network:198.51.100.1", failures=1, last_at=datetime(2020, 1, 1, tzinfo=UTC)).execute()
    monkeypatch.setattr(journal, "PRUNE_BATCH", wrong)
    with caplog.at_level(logging.INFO, "app.services.housekeeping"):
        housekeeping.prune_all(timedelta(days=365))
    assert LoginFailure.select().count() == 0
    assert [(record.levelname, record.__dict__["pruned"]) for record in caplog.records] == [
        ("WARNING", "journal"),
        ("INFO", "console"),
    ]
