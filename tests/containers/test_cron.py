"""scripts/install-cron.sh, and what its table does in cron's environment, which is next to none."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.hosts.backups import Backups
from tests.support.hosts.stack import run

pytestmark = pytest.mark.xdist_group("serving")


class Job(NamedTuple):
    when: str
    user: str
    command: str


class Table:
    """A file in /etc/cron.d, read as cron does."""

    def __init__(self, file: Path) -> None:
        self.variables: dict[str, str] = {}
        self.jobs: list[Job] = []
        for line in file.read_text().splitlines():
            if line.startswith("#"):
                continue
            if "=" in line.split(" ", maxsplit=1)[0]:
                name, _, value = line.partition("=")
                self.variables[name] = value
            else:
                *when, user, command = line.split(" ", maxsplit=6)
                assert "%" not in command.replace(r"\%", ""), "cron makes a line break of it"
                self.jobs.append(Job(" ".join(when), user, command.replace(r"\%", "%")))

    def run(self, number: int) -> tuple[int, str]:
        """The status of a job, and what cron would mail."""
        environment = [f"PATH={self.variables['PATH']}"]
        words = ("env", "-i", *environment, self.variables["SHELL"], "-c", f"{{ {self.jobs[number].command}; }} 2>&1")
        done = run(*words, check=False, cwd="/", input="")
        return done.returncode, done.stdout


def test_crons_jobs_run_in_its_empty_environment_and_have_nothing_to_mail_unless_they_fail(backups: Backups) -> None:
    file = Path("/etc/cron.d") / f"kadun-{backups.stack.project}"
    backups.script("install-cron.sh")
    try:
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (0, 0o644), "or cron would not read it"
        table = Table(file)
        assert [(job.when, job.user) for job in table.jobs] == [("17 3 * * *", "root"), ("47 4 * * sun", "root")]
        assert table.run(0) == (0, "")
        assert f"backup ok: {backups.newest().name}" in backups.log()[-1]
        assert table.run(1) == (0, "")
        assert f"verify ok: {backups.newest().name}" in backups.log()[-1]
        before = backups.contents()
        backups.stack.compose("stop", "database")
        try:
            for number in (0, 1):
                status, mail = table.run(number)
                assert (status, mail.count("\n")) == (1, 1)
                assert "Container database is down" in mail
        finally:
            backups.stack.up()
        assert backups.contents() == before
    finally:
        backups.script("install-cron.sh", "--remove")
    assert not file.exists()


def test_crons_table_takes_other_times_and_stays_where_it_is_another_stacks(backups: Backups, tmp_path: Path) -> None:
    file = Path("/etc/cron.d") / f"kadun-{backups.stack.project}"
    neighbour = file.with_name(f"{file.name}-2")
    neighbour.write_text("# another stack's\n")
    try:
        backups.script("install-cron.sh", "--backup-at", "23:05", "--verify-on", "never", "--mail", "me@kadun.test")
        table = Table(file)
        assert [job.when for job in table.jobs] == ["5 23 * * *"]
        assert table.variables["MAILTO"] == "me@kadun.test"

        own = file.read_text()
        (tmp_path / "scripts").mkdir()
        (tmp_path / "scripts/backup.sh").touch()
        theirs = own.replace(f"# {backups.stack.folder}\n", f"# {tmp_path}\n")
        file.write_text(theirs)
        for arguments in ([], ["--remove"]):
            refused = backups.script("install-cron.sh", *arguments, check=False)
            assert (refused.returncode, "two stacks need two names" in refused.stderr) == (1, True)
            assert file.read_text() == theirs
        file.write_text(own)

        backups.script("install-cron.sh", "--remove")
        assert not file.exists()
        assert neighbour.exists()
    finally:
        file.unlink(missing_ok=True)
        neighbour.unlink()
