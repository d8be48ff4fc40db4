import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.support.service import ROOT
from trial.accounts import postgresql_account
from trial.cluster import pid_file
from trial.errors import TrialError
from trial.postgres import EmbeddedPostgres

FAST = {"fsync": "off"}


@pytest.fixture
def cluster(postgres_binaries: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kadun-postgres-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder / "cluster"
    shutil.rmtree(folder)


@pytest.fixture
def embedded(postgres_binaries: Path, cluster: Path) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(postgres_binaries, cluster, settings=FAST)
    yield postgres
    postgres.stop()


def ask(url: str, query: str) -> Any:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]


def port_of(embedded: EmbeddedPostgres) -> str:
    return embedded.url().rpartition(":")[2]


def test_it_listens_on_loopback_only_and_speaks_utf8_on_any_machine(embedded: EmbeddedPostgres) -> None:
    with embedded:
        url = embedded.url()
        assert ask(url, "SHOW listen_addresses") == "127.0.0.1"
        assert ask(url, "SHOW unix_socket_directories") == ""
        assert ask(url, "SHOW server_encoding") == "UTF8"
        assert ask(url, "SELECT upper('é打开程序')") == "É打开程序"


def test_a_wrong_password_opens_nothing(embedded: EmbeddedPostgres) -> None:
    with embedded, pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(embedded.url().replace("kadun:", "kadun:x"))


def test_settings_reach_it_as_they_are(postgres_binaries: Path, cluster: Path) -> None:
    settings = FAST | {"log_line_prefix": """it's "so" $HOME """}
    with EmbeddedPostgres(postgres_binaries, cluster, settings=settings) as embedded:
        assert ask(embedded.url(), "SHOW log_line_prefix") == settings["log_line_prefix"]


def test_a_restart_keeps_address_and_data(embedded: EmbeddedPostgres) -> None:
    with embedded:
        before = embedded.url()
        ask(before, "CREATE TABLE kept AS SELECT 7 AS number")
        embedded.stop()
        embedded.start()
        assert embedded.url() == before
        assert ask(before, "SELECT number FROM kept") == 7


def test_starting_and_stopping_twice_changes_nothing(embedded: EmbeddedPostgres) -> None:
    embedded.stop()
    with embedded:
        pid = embedded.pid
        embedded.start()
        assert embedded.pid == pid
    embedded.stop()
    assert embedded.pid is None


STARTED_AND_WAITING = """
import sys
from pathlib import Path
from trial.postgres import EmbeddedPostgres
postgres = EmbeddedPostgres(Path(sys.argv[1]), Path(sys.argv[2]), settings={"fsync": "off"})
postgres.start()
print(postgres.url(), flush=True)
sys.stdin.read()
"""


def test_it_ends_with_the_process_that_started_it(postgres_binaries: Path, cluster: Path) -> None:
    command = [sys.executable, "-c", STARTED_AND_WAITING, postgres_binaries, cluster]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        url = killed.stdout.readline().strip()
        ask(url, "SELECT 1")
        killed.kill()
    with EmbeddedPostgres(postgres_binaries, cluster, settings=FAST) as another:
        assert ask(another.url(), "SELECT 1") == 1


def test_it_starts_at_once_after_its_postmaster_was_killed(embedded: EmbeddedPostgres) -> None:
    with embedded:
        url, pid = embedded.url(), embedded.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        embedded.start()
        assert embedded.pid not in (None, pid)
        assert embedded.url() == url


def test_a_stale_pid_file_whose_number_another_process_has_by_now_is_no_obstacle(
    embedded: EmbeddedPostgres, cluster: Path
) -> None:
    with embedded:
        left = pid_file(cluster).read_text().splitlines()
    account = postgresql_account()  # of another account's process PostgreSQL would think less
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=account.uid, group=account.gid) as other:
        pid_file(cluster).write_text("\n".join([str(other.pid), *left[1:]]) + "\n")
        os.chown(pid_file(cluster), account.uid, account.gid)
        with embedded:
            assert embedded.pid != other.pid
        other.communicate()
    assert other.returncode == 0


def test_a_port_that_something_took_meanwhile_is_given_up(
    embedded: EmbeddedPostgres, postgres_binaries: Path, cluster: Path
) -> None:
    with embedded:
        kept = port_of(embedded).partition("/")[0]
    with (
        socket.create_server(("127.0.0.1", int(kept))),
        EmbeddedPostgres(postgres_binaries, cluster) as again,
    ):
        assert port_of(again).partition("/")[0] != kept


def test_a_port_that_clients_already_know_is_not_changed_under_them(embedded: EmbeddedPostgres) -> None:
    with embedded:
        kept = int(port_of(embedded).partition("/")[0])
    with socket.create_server(("127.0.0.1", kept)), pytest.raises(TrialError) as refusal:
        embedded.start()
    assert "Address already in use" in refusal.value.detail


def test_a_setting_that_postgresql_refuses_is_shown(postgres_binaries: Path, cluster: Path) -> None:
    with pytest.raises(TrialError, match=r"PostgreSQL did not start; its log: .*\.log\.") as refusal:
        EmbeddedPostgres(postgres_binaries, cluster, settings={"max_connections": "many"}).start()
    assert 'invalid value for parameter "max_connections": "many"' in refusal.value.detail


def test_a_cluster_that_cannot_be_made_leaves_nothing(cluster: Path) -> None:
    with pytest.raises(TrialError, match="Cannot make the database"):
        EmbeddedPostgres(cluster.parent / "nowhere", cluster).start()
    assert list(cluster.parent.iterdir()) == []


def test_a_database_is_made_once(embedded: EmbeddedPostgres) -> None:
    with embedded:
        for _ in range(2):
            embedded.create_database('a "name"')
        assert ask(embedded.url('a "name"'), "SELECT current_database()") == 'a "name"'
