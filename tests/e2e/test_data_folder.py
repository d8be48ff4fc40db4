"""One database at a time over a data folder: the lock in postgres/entrypoint.sh."""

from pathlib import Path

import pytest

from tests.support.stack import Stack, run

pytestmark = pytest.mark.containers


def test_a_database_over_the_folder_of_another_names_its_project_and_starts_once_that_is_killed(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack") as stack:
        stack.init_anew()
        stack.up("database")
        before = stack.inspect("database")
        other = ("-p", f"{stack.project}-other")
        start = (*other, "up", "--detach", "--wait", "--force-recreate", "database")
        try:
            assert stack.compose(*start, check=False).returncode != 0
            log = stack.compose(*other, "logs", "--no-color", "database").stdout
            assert f"The database of project {stack.project} runs over this folder (data/postgres)" in log
            assert "database system is ready" not in log
            assert stack.inspect("database")["State"]["StartedAt"] == before["State"]["StartedAt"]
            run("docker", "kill", before["Id"])
            stack.compose(*start)
        finally:
            stack.compose(*other, "down")
