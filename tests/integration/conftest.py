"""The running service, and the use cases without it."""

from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.services.administration import Administration, Operator
from app.services.verification import VerdictTerms, Verification
from app.storage.database import Database
from app.tokens import keyring
from app.tokens.signer import Signer
from tests.conftest import Clock
from tests.service import Service


@pytest.fixture
def verification(database: Database, clock: Clock, tmp_path: Path) -> Verification:
    keyring.create(tmp_path / "keys", clock.now)
    terms = VerdictTerms("kadun", "the-vendor's-own-key", ZoneInfo("Asia/Shanghai"))
    return Verification(database, Signer(tmp_path / "keys"), terms, clock)


@pytest.fixture
def administration(database: Database, clock: Clock) -> Administration:
    return Administration(database, Operator("tester"), clock)


@pytest.fixture
def service(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """The service without a proxy: the peer's address counts."""
    with Service(tmp_path, database_url) as running:
        yield running


@pytest.fixture
def proxied(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """The service as behind a proxy: X-Real-IP counts, so that a test can speak as any address. Four processes."""
    with Service(tmp_path, database_url, KADUN_BEHIND_PROXY="true", KADUN_WORKERS="4", KADUN_THREADS="4") as running:
        yield running
