"""scripts/install-cron.sh, and what its table does in cron's environment, which is next to none."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.backups import Backups
from tests.support.stack import Stack, run

pytestmark = pytest.mark.containers


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


@pytest.fixture(scope="module")
def backups(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backups]:
    folder = tmp_path_factory.mktemp("stack") / "a vendor's 100% stack"
    folder.mkdir()
    stack = Stack(folder)
    try:
        stack.init_anew("localhost")
        stack.up("app")
        yield Backups(stack)
    finally:
        table_file(stack).unlink(missing_ok=True)
        stack.remove()


@pytest.fixture
def table(backups: Backups) -> Iterator[Table]:
    backups.script("install-cron.sh")
    yield Table(table_file(backups.stack))
    table_file(backups.stack).unlink(missing_ok=True)


def table_file(stack: Stack) -> Path:
    return Path("/etc/cron.d") / f"kadun-{stack.project}"


def test_the_jobs_run_in_crons_empty_environment_and_have_nothing_to_mail(backups: Backups, table: Table) -> None:
    assert [(job.when, job.user) for job in table.jobs] == [("17 3 * * *", "root"), ("47 4 * * sun", "root")]
    assert table.run(0) == (0, "")
    file = backups.newest()
    assert f"backup ok: {file.name}" in backups.log()[-1]
    assert table.run(1) == (0, "")
    assert f"verify ok: {file.name}" in backups.log()[-1]


def test_a_job_that_fails_has_one_line_to_mail(backups: Backups, table: Table) -> None:
    assert table.run(0) == (0, "")
    before = backups.contents()
    backups.stack.compose("stop", "database")
    try:
        for number in (0, 1):
            status, mail = table.run(number)
            assert status == 1
            assert mail.count("\n") == 1
            assert "Container database is down" in mail
    finally:
        backups.stack.compose("up", "--detach", "--wait", "database")
    assert backups.contents() == before


def test_the_file_is_one_that_cron_accepts(backups: Backups, table: Table) -> None:
    file = table_file(backups.stack)
    status = file.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (0, 0o644)
    assert "." not in file.name
    assert file.read_text().endswith("\n")
    assert [other.name for other in file.parent.iterdir() if backups.stack.project in other.name] == [file.name]


def test_run_again_it_takes_other_times_and_removes_its_own_file_only(backups: Backups, table: Table) -> None:
    neighbour = table_file(backups.stack).with_name(f"kadun-{backups.stack.project}-2")
    neighbour.write_text("# another stack's\n")
    try:
        options = ("--backup-at", "23:05", "--verify-at", "00:00", "--verify-on", "daily", "--mail", "me@kadun.test")
        backups.script("install-cron.sh", *options)
        changed = Table(table_file(backups.stack))
        assert [job.when for job in changed.jobs] == ["5 23 * * *", "0 0 * * *"]
        assert changed.variables["MAILTO"] == "me@kadun.test"
        backups.script("install-cron.sh", "--verify-on", "never")
        assert len(Table(table_file(backups.stack)).jobs) == 1
        backups.script("install-cron.sh", "--remove")
        assert not table_file(backups.stack).exists()
        assert "nothing changed" in backups.script("install-cron.sh", "--remove").stdout
        assert neighbour.exists()
    finally:
        neighbour.unlink()


def test_a_stack_of_the_same_name_elsewhere_keeps_its_table(backups: Backups, table: Table, tmp_path: Path) -> None:
    file = table_file(backups.stack)
    other = tmp_path / "other"
    (other / "scripts").mkdir(parents=True)
    (other / "scripts/backup.sh").touch()
    theirs = file.read_text().replace(f"# {backups.stack.folder}\n", f"# {other}\n")
    file.write_text(theirs)
    for arguments in ([], ["--remove"]):
        refused = backups.script("install-cron.sh", *arguments, check=False)
        assert refused.returncode == 1
        assert "two stacks need two names" in refused.stderr
        assert file.read_text() == theirs


@pytest.mark.parametrize(
    "arguments",
    [
        ("--backup-at", "24:00"),
        ("--backup-at", "3:17"),
        ("--verify-on", "8"),
        ("--mail", "a b"),
        ("--mail",),
    ],
)
def test_what_cron_would_not_understand_is_refused(backups: Backups, table: Table, arguments: tuple[str, ...]) -> None:
    before = table_file(backups.stack).read_text()
    assert backups.script("install-cron.sh", *arguments, check=False).returncode == 2
    assert table_file(backups.stack).read_text() == before
