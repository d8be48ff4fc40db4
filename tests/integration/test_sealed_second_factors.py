"""The secrets of second factors in the database: sealed by a migration, bound to their operators."""

import pyotp
import pytest
from playhouse.migrations import Runner

from app.services import connection
from app.services.credentials import LoginRefusedError
from app.services.sessions import Sessions
from app.storage.database import Database
from app.storage.models import Operator
from app.tokens.second_factors import SecondFactors
from tests.conftest import Clock
from tests.support.log_ins import HOME, LogIns
from tests.support.passwords import PASSWORD, CheapPasswords
from tests.support.second_factors import FACTORS
from trial.postgres import EmbeddedPostgres

FIRST, SECOND = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@pytest.fixture
def older(postgres: EmbeddedPostgres) -> Database:
    """Return a database of the release before, with two secrets in clear."""
    postgres.create_database("in_clear")
    database = Database(postgres.url("in_clear"), bulk=True)
    Runner(database, "app/storage/migrations", "schema_migration").up("0006_journal_seals")
    database.execute_sql(
        "INSERT INTO operator OVERRIDING SYSTEM VALUE VALUES (1, 'olga', 'owner', 'x', %s, 1, now(), now()),"
        " (2, 'sam', 'seller', 'x', %s, 1, now(), now()), (3, 'eve', 'seller', 'x', NULL, NULL, now(), now())",
        (FIRST, SECOND),
    )
    return database


def secrets_in(database: Database) -> list[str | None]:
    return [row[0] for row in database.execute_sql("SELECT totp_secret FROM operator ORDER BY id").fetchall()]


def test_a_migration_seals_what_an_older_release_kept_in_clear(older: Database, postgres: EmbeddedPostgres) -> None:
    connection.migrate(postgres.url("in_clear"), lambda _line: None, FACTORS.seal)
    first, second, none = secrets_in(older)
    older.close()
    assert (FACTORS.open(1, str(first)), FACTORS.open(2, str(second)), none) == (FIRST, SECOND, None)


def test_a_migration_that_fails_midway_leaves_all_of_them_as_they_were(
    older: Database, postgres: EmbeddedPostgres
) -> None:
    def seal(operator_id: int, secret: str) -> str:
        if operator_id != 1:
            raise ValueError("the key is missing")
        return FACTORS.seal(operator_id, secret)

    with pytest.raises(ValueError, match="the key is missing"):
        connection.migrate(postgres.url("in_clear"), lambda _line: None, seal)
    assert secrets_in(older) == [FIRST, SECOND, None]
    older.close()


def test_no_secret_of_another_operator_and_no_other_key_lets_anybody_in(
    log_ins: LogIns, database: Database, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    app = log_ins.with_totp()
    with pytest.raises(LoginRefusedError):
        Sessions(database, clock, SecondFactors("00" * 32), CheapPasswords()).log_in(
            "alice", PASSWORD, app.at(clock.now), address=HOME, device=None
        )
    assert "a second factor does not open" in caplog.text
    mallory = pyotp.TOTP(pyotp.random_base32())
    alice = Operator.get()
    Operator.update(totp_secret=FACTORS.seal(alice.id + 1, mallory.secret)).execute()
    with pytest.raises(LoginRefusedError):
        log_ins.log_in(code=mallory.at(clock.now))
