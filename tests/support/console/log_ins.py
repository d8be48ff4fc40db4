"""Log-ins with a cheap password hash, for tests; the fixture is in tests/integration/conftest.py."""

from datetime import timedelta

import pyotp
import pytest

from app.domain.operators.operators import Role
from app.services.operators.operators import Operators
from app.services.operators.sessions import LoginRefusedError, LoginThrottledError, Sessions
from app.services.operators.two_step import TwoStep
from app.storage.database import Database
from app.storage.models import Operator
from tests.conftest import Clock
from tests.support.secrets import OTHER, PASSWORD, SEALING, CheapPasswords

HOME, CAFE = "198.51.100.1", "2001:db8:1:2::3"


class LogIns:
    """The console's sessions and operators, with the owner alice."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.clock = clock
        self.passwords = CheapPasswords()
        self.sessions = Sessions(database, clock, SEALING, self.passwords)
        self.operators = Operators(database, "tester", clock, self.passwords)
        self.two_step = TwoStep(self.operators, SEALING)
        self.operators.add("alice", Role.OWNER, PASSWORD)
        self.alice = Operator.get()

    def log_in(
        self, password: str = PASSWORD, name: str = "alice", code: str | None = None, address: str = HOME
    ) -> str:
        return self.sessions.log_in(name, password, code, address)

    def identify(self, password: str = PASSWORD, **how: str | None) -> Operator:
        """Log in; return who the session says this is."""
        identity = self.sessions.identify(self.log_in(password, **how))  # type: ignore[arg-type]
        assert identity is not None
        return identity

    def fail(self, times: int = 1, **how: str | None) -> None:
        """Fail so often, waiting as long as is asked for."""
        for _ in range(times):
            try:
                self.attempt_wrongly(**how)
            except LoginThrottledError as error:
                self.clock.advance(timedelta(seconds=error.retry_after))
                self.attempt_wrongly(**how)

    def attempt_wrongly(self, **how: str | None) -> None:
        self.refuse(LoginRefusedError, OTHER, **how)

    def refuse(self, error: type[Exception], password: str = PASSWORD, **how: str | None) -> None:
        with pytest.raises(error):
            self.log_in(password, **how)  # type: ignore[arg-type]

    def with_totp(self) -> pyotp.TOTP:
        """Enable two-step verification for alice; return her app."""
        secret = pyotp.random_base32()
        app = pyotp.TOTP(secret)
        self.two_step.enable("alice", secret, app.at(self.clock.now), "")
        self.clock.advance(timedelta(seconds=30))
        return app
