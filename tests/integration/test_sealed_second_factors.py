"""The secrets of second factors in the database: sealed at a start, bound to their operators."""

import logging

import pyotp
import pytest

from app.services.credentials import LoginRefusedError
from app.services.sessions import Sessions
from app.services.startup import seal_second_factors
from app.storage import operators
from app.storage.database import Database
from app.storage.models import Operator
from app.tokens.second_factors import SecondFactors
from tests.conftest import Clock
from tests.support.log_ins import HOME, LogIns
from tests.support.passwords import PASSWORD, CheapPasswords
from tests.support.second_factors import FACTORS


@pytest.fixture
def mallory() -> pyotp.TOTP:
    return pyotp.TOTP(pyotp.random_base32())


def test_a_start_seals_what_was_kept_in_clear(
    log_ins: LogIns, database: Database, mallory: pyotp.TOTP, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log_ins.operators.add("bob", log_ins.alice.role, PASSWORD)
    Operator.update(totp_secret=mallory.secret).where(Operator.name == "alice").execute()
    for _ in range(2):
        seal_second_factors(database, FACTORS)
    sealed, without = Operator.get(Operator.name == "alice"), Operator.get(Operator.name == "bob")
    assert FACTORS.opens(sealed.id, sealed.totp_secret)
    assert without.totp_secret is None
    assert [record.message for record in caplog.records].count("second factors sealed") == 1
    assert log_ins.log_in(code=mallory.at(log_ins.clock.now))


def test_a_secret_that_changes_while_it_is_sealed_stays(log_ins: LogIns, mallory: pyotp.TOTP) -> None:
    Operator.update(totp_secret=pyotp.random_base32()).execute()

    def sealed(operator_id: int, secret: str) -> str:
        Operator.update(totp_secret=mallory.secret).execute()
        return FACTORS.seal(operator_id, secret)

    assert operators.replace_secrets(sealed) == 0
    assert Operator.get().totp_secret == mallory.secret


def test_a_start_without_the_database_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    seal_second_factors(Database("postgresql://nobody@127.0.0.1:1/nowhere"), FACTORS)
    assert "second factors could not be sealed" in caplog.text


def test_no_secret_of_another_operator_and_no_other_key_lets_anybody_in(
    log_ins: LogIns, database: Database, clock: Clock, mallory: pyotp.TOTP, caplog: pytest.LogCaptureFixture
) -> None:
    app = log_ins.with_totp()
    for other in (SecondFactors("00" * 32), SecondFactors(None)):
        with pytest.raises(LoginRefusedError):
            Sessions(database, clock, other, CheapPasswords()).log_in(
                "alice", PASSWORD, app.at(clock.now), address=HOME, device=None
            )
    assert "a second factor does not open" in caplog.text
    Operator.update(totp_secret=FACTORS.seal(Operator.get().id + 1, mallory.secret)).execute()
    with pytest.raises(LoginRefusedError):
        log_ins.log_in(code=mallory.at(clock.now))
