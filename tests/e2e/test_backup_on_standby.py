"""A backup takes its work to a standby, where there is one that follows."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.storage.database import Database, connect_to
from app.storage.schema import migrate
from tests.support.stack import ROOT
from tests.support.standby import Standby, execute, host_of
from trial.binaries import program
from trial.postgres import EmbeddedPostgres

CONTENTS = "SELECT 'in recovery ' || pg_is_in_recovery();"
CONTENTS_LATER = "SELECT 'rows ' || count(*) || ', in recovery ' || pg_is_in_recovery() FROM later;"


@pytest.fixture
def primary(postgres_binaries: Path, cluster_folder: Path, tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(postgres_binaries, cluster_folder / tmp_path.name, settings={"fsync": "off"}) as running:
        owner = connect_to(Database(running.url(), bulk=True))
        migrate(owner, lambda _line: None)
        owner.close()
        yield running


@pytest.fixture
def standby(
    primary: EmbeddedPostgres, postgres_binaries: Path, cluster_folder: Path, tmp_path: Path
) -> Iterator[Standby]:
    with Standby.of(primary, postgres_binaries, cluster_folder / tmp_path.name, "b") as following:
        yield following


class Tools:
    """scripts/lib/dump-snapshot.sh on this machine, with the URL of the backup's role."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._folder = folder
        (folder / "as-role").symlink_to(ROOT / "postgres/as-role")
        for name in ("psql", "pg_dump"):
            (folder / name).symlink_to(program(binaries, name))
        # In the container root becomes user postgres.
        (folder / "setpriv").write_text('#!/bin/bash\nwhile [[ $1 != -- ]]; do shift; done\nshift\nexec "$@"\n')
        (folder / "setpriv").chmod(0o755)

    def start(self, url: str, place: str, contents: str = CONTENTS) -> subprocess.Popen[bytes]:
        """Begin a dump."""
        (self._folder / "backup_url").write_text(url)
        environment = {
            "PATH": f"{self._folder}:{os.environ['PATH']}",
            "KADUN_SECRETS": str(self._folder),
            "KADUN_POSTGRES": str(ROOT / "postgres"),
        }
        words = ("bash", "-c", (ROOT / "scripts/lib/dump-snapshot.sh").read_text(), "snapshot", contents, place)
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)

    def dump(self, url: str, place: str) -> str:
        """Return what is said of a dump."""
        return said_by(self.start(url, place))


def said_by(process: subprocess.Popen[bytes]) -> str:
    dumped, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert dumped.startswith(b"PGDMP")
    return said.decode()


@pytest.fixture
def tools(tmp_path: Path, postgres_binaries: Path) -> Tools:
    return Tools(tmp_path, postgres_binaries)


def several(primary: EmbeddedPostgres, standby: Standby) -> str:
    return primary.url().replace("@", f"@{host_of(standby)},") + "?target_session_attrs=read-write"


def test_the_nightly_backup_is_made_on_a_standby_and_others_on_the_primary(
    primary: EmbeddedPostgres, standby: Standby, tools: Tools
) -> None:
    url = several(primary, standby)
    assert "kadun: in recovery true" in tools.dump(url, "standby")
    assert "kadun: in recovery false" in tools.dump(url, "")
    standby.stop()
    assert "kadun: in recovery false" in tools.dump(url, "standby")
    assert "kadun: in recovery false" in tools.dump(primary.url(), "standby")


def test_a_backup_waits_until_the_standby_has_what_was_committed_before(
    primary: EmbeddedPostgres, standby: Standby, tools: Tools
) -> None:
    execute(standby, "SELECT pg_wal_replay_pause()")
    execute(primary, "CREATE TABLE later AS SELECT 1 AS number")
    dumping = tools.start(several(primary, standby), "standby", CONTENTS_LATER)
    with pytest.raises(subprocess.TimeoutExpired):
        dumping.wait(2)
    execute(standby, "SELECT pg_wal_replay_resume()")
    assert "kadun: rows 1, in recovery true" in said_by(dumping)
