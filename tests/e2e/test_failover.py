"""A primary is killed, or cut off, under load; its synchronous standby takes over, and no activation is lost."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.storage.database import Database, connect_to
from app.storage.models import Card
from tests.support.load import THREADS, Load
from tests.support.service import Service, question, wait_for
from tests.support.standby import Standby, execute, host_of
from trial.postgres import EmbeddedPostgres

pytestmark = pytest.mark.containers  # nftables needs root

CUT = """
table inet kadun_test_{port} {{
    chain input {{
        type filter hook input priority -20
        tcp dport {port} drop
        tcp sport {port} drop
    }}
}}
"""


@pytest.fixture
def standby(
    own_postgres: EmbeddedPostgres, postgres_binaries: Path, cluster_folder: Path, tmp_path: Path
) -> Iterator[Standby]:
    with Standby.of(own_postgres, postgres_binaries, cluster_folder / tmp_path.name, "b") as following:
        execute(own_postgres, "ALTER SYSTEM SET synchronous_standby_names = 'b'", "SELECT pg_reload_conf()")
        yield following


def killed(own_postgres: EmbeddedPostgres, stack: contextlib.ExitStack) -> None:
    del stack
    assert own_postgres.pid
    os.kill(own_postgres.pid, signal.SIGKILL)


def cut_off(own_postgres: EmbeddedPostgres, stack: contextlib.ExitStack) -> None:
    """Drop its packets, as a cable that is pulled does: nobody is told."""
    port = host_of(own_postgres).partition(":")[2]
    subprocess.run(("nft", "--file", "-"), input=CUT.format(port=port), text=True, check=True)
    stack.callback(subprocess.run, ("nft", "delete", "table", "inet", f"kadun_test_{port}"), check=True)


@pytest.mark.parametrize("fails", [killed, cut_off])
def test_the_standby_takes_over_and_no_activation_is_lost(
    own_postgres: EmbeddedPostgres,
    standby: Standby,
    tmp_path: Path,
    fails: Callable[[EmbeddedPostgres, contextlib.ExitStack], None],
) -> None:
    several = own_postgres.url().replace("@", f"@{host_of(standby)},")
    with contextlib.ExitStack() as stack, Service(tmp_path, several) as service:
        cards = service.issue(60_000)
        with Load(service, cards) as load:
            load.reached(200, 50)
            fails(own_postgres, stack)
            load.reached(503, 30)
            assert service.get("/healthz").status == 200
            standby.promote()
            load.reached(200, 200)
        assert set(load.statuses) == {200, 503}
        assert load.without_retry_after == 0
        own_postgres.stop()  # as Patroni does with one that is cut off
        stack.close()
        for card_id in cards[-THREADS:]:  # connections that were idle all the time are replaced
            wait_for(lambda: service.verify(question(card_id, f"machine of {card_id}")).status == 200)  # noqa: B023
        database = connect_to(Database(standby.url(), bulk=True))
        database.connect()
        found = {row.id for row in Card.select(Card.id).where(Card.is_activated)}
        database.close()
        assert {*load.activated, *cards[-THREADS:]} <= found
