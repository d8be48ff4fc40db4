"""Recovery codes: each stands once for the code of an authenticator app."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pyotp
import pytest

from app.domain.operators import FREE_FAILURES
from app.domain.texts import RefusedError
from app.services import totp
from app.services.bearer import digest
from app.services.credentials import LoginRefusedError, LoginThrottledError
from app.services.sessions import Sessions
from app.storage.database import Database
from app.storage.models import Event, OperatorSession, RecoveryCode
from tests.support.log_ins import HOME, LogIns
from tests.support.passwords import PASSWORD, CheapPasswords
from tests.support.second_factors import FACTORS


@pytest.fixture
def codes(log_ins: LogIns) -> tuple[str, ...]:
    """Of alice."""
    secret = totp.new_secret()
    return log_ins.operators.enable_totp("alice", secret, pyotp.TOTP(secret).at(log_ins.clock.now), "")


def left(log_ins: LogIns) -> int:
    (alice,) = log_ins.operators.list()
    assert alice.recovery_codes == log_ins.operators.recovery_codes_left(alice.id)
    return alice.recovery_codes


def test_each_code_logs_in_once(log_ins: LogIns, codes: tuple[str, ...]) -> None:
    assert len(set(codes)) == left(log_ins) == 10
    assert log_ins.identify(code=codes[3].lower().replace("-", " "))
    with pytest.raises(LoginRefusedError) as refused:
        log_ins.log_in(code=codes[3])
    assert refused.value.text == LoginRefusedError().text
    assert left(log_ins) == 9
    used = Event.select(Event.actor, Event.ip, Event.details).where(Event.kind == "recovery_code_used").tuples()
    assert list(used) == [("console:alice", HOME, {"left": 9})]


def test_the_database_has_digests_alone(codes: tuple[str, ...]) -> None:
    stored = {row.code_sha256 for row in RecoveryCode.select()}
    assert stored == {digest(code.replace("-", "")) for code in codes}


def test_a_person_shows_who_they_are_with_a_code_too(log_ins: LogIns, codes: tuple[str, ...]) -> None:
    # Otherwise a person without the phone could log in ten times and never set up another one.
    log_ins.sessions.confirm(log_ins.alice, PASSWORD, codes[0], address=HOME)
    with pytest.raises(LoginRefusedError):
        log_ins.sessions.confirm(log_ins.alice, PASSWORD, codes[0], address=HOME)
    assert left(log_ins) == 9
    assert Event.select().where(Event.kind == "recovery_code_used").count() == 1


def test_wrong_codes_are_throttled_as_those_of_the_app(log_ins: LogIns, codes: tuple[str, ...]) -> None:
    for host in range(FREE_FAILURES):
        with pytest.raises(LoginRefusedError):
            log_ins.log_in(code=codes[0][:-1] + ("0" if codes[0][-1] != "0" else "1"), address=f"203.0.{host}.1")
    with pytest.raises(LoginThrottledError):
        log_ins.log_in(code=codes[0], address="203.0.99.1")
    assert left(log_ins) == 10


def test_new_codes_replace_the_old_ones(log_ins: LogIns, codes: tuple[str, ...]) -> None:
    new = log_ins.operators.renew_recovery_codes("alice")
    assert not {*new} & {*codes}
    assert Event.select().order_by(Event.id.desc()).get().details == {"operator": "alice", "recovery_codes": 10}
    with pytest.raises(LoginRefusedError):
        log_ins.log_in(code=codes[0])
    log_ins.clock.advance(timedelta(hours=2))
    assert log_ins.identify(code=new[0])


def test_they_go_with_two_step_verification(log_ins: LogIns, codes: tuple[str, ...]) -> None:
    log_ins.operators.add("bob", log_ins.alice.role, PASSWORD)
    with pytest.raises(RefusedError):
        log_ins.operators.renew_recovery_codes("bob")
    log_ins.operators.disable_totp("alice")
    assert RecoveryCode.select().count() == 0
    with pytest.raises(RefusedError):
        log_ins.operators.renew_recovery_codes("alice")
    secret = totp.new_secret()
    log_ins.operators.enable_totp("alice", secret, pyotp.TOTP(secret).at(log_ins.clock.now), "")
    with pytest.raises(LoginRefusedError):
        log_ins.log_in(code=codes[0])
    log_ins.operators.set_password("alice", PASSWORD, reset_totp=True)
    assert RecoveryCode.select().count() == 0


@pytest.mark.parametrize("proving", [False, True])
def test_a_code_used_by_several_at_once_is_accepted_once(
    log_ins: LogIns, database: Database, codes: tuple[str, ...], *, proving: bool
) -> None:
    all_checked = threading.Barrier(4, timeout=60)

    class Meeting(CheapPasswords):
        """All have looked at the operator and their password before any goes on."""

        def matches(self, password_hash: str | None, password: str) -> bool:
            is_right = super().matches(password_hash, password)
            all_checked.wait()
            return is_right

    def attempt(_: int) -> bool:
        try:
            # Each as in a process of its own: what they share is the database.
            sessions = Sessions(database, log_ins.clock, FACTORS, Meeting())
            if proving:
                sessions.confirm(log_ins.alice, PASSWORD, codes[0], address=HOME)
            else:
                sessions.log_in("alice", PASSWORD, codes[0], address=HOME, device=None)
        except LoginRefusedError:
            return False
        finally:
            database.close()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == [False, False, False, True]
    assert OperatorSession.select().count() == (0 if proving else 1)
    assert Event.select().where(Event.kind == "recovery_code_used").count() == 1
