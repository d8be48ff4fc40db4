"""Backups and verifications of several machines: one at a time, and from cron once for all."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.script_libraries import PRELUDE, SOURCES, bash, checkout_in
from tests.support.service import wait_for

# A session that holds the lock, or not, until its standard input ends.
SESSION = """
source "$ROOT/scripts/lib/jobs.sh"
in_database() {{ printf '%s\\n' "$*" >>"$ROOT/session"; read -r sql; printf '%s\\n' "$sql" >>"$ROOT/session"
    echo {answer}; cat >/dev/null; echo over >>"$ROOT/session"; }}
answer() {{ case $2 in *'FROM host_job'*) {other} ;; esac; }}
"""
OTHER = "echo 'web-2 2026-11-28T03:17:09Z'"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = checkout_in(tmp_path / "checkout")
    (folder / ".env").write_text("KADUN_HOST=web-1\n")
    return folder


def begin(
    checkout: Path, job: str, *, once: bool, answer: str = "t", other: str = ":"
) -> subprocess.CompletedProcess[str]:
    option = "OPTION[once]=yes OPTION[quiet]=yes\n" if once else ""
    code = f"{SESSION.format(answer=answer, other=other)}{option}begin_job {job}\necho begun\nnote_job {job}"
    return bash(checkout, code)


def log(checkout: Path) -> str:
    file = checkout / "data/backup.log"
    return file.read_text() if file.exists() else ""


def asked_of_the_database(checkout: Path) -> str:
    file = checkout / "asked"
    return file.read_text() if file.exists() else ""


@pytest.mark.parametrize("once", [True, False])
def test_a_job_begins_under_a_lock_in_the_database_and_is_noted(checkout: Path, *, once: bool) -> None:
    done = begin(checkout, "backup", once=once)
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\n", "")
    session = (checkout / "session").read_text()
    assert session.startswith("as-role backup psql ")
    assert "SELECT pg_try_advisory_lock(27489, 1);" in session
    asked = asked_of_the_database(checkout)
    assert "INSERT INTO host_job (name, host, done_at) VALUES ('backup', 'web-1', now())" in asked
    assert ("host <> 'web-1' AND done_at > now() - interval '12 hours'" in asked) is once


@pytest.mark.parametrize("job", ["backup", "verify"])
@pytest.mark.parametrize(
    ("answer", "other", "reason"), [("f", ":", "is at it"), ("t", OTHER, "web-2 2026-11-28T03:17:09Z")]
)
def test_from_cron_a_job_of_another_machine_is_not_done_again(
    checkout: Path, job: str, answer: str, other: str, reason: str
) -> None:
    done = begin(checkout, job, once=True, answer=answer, other=other)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert f" {job} skipped: " in log(checkout)
    assert reason in log(checkout)
    assert "INSERT" not in asked_of_the_database(checkout)


@pytest.mark.parametrize("answer", ["t", "f"])
def test_a_backup_by_hand_is_always_made(checkout: Path, answer: str) -> None:
    assert begin(checkout, "backup", once=False, answer=answer, other=OTHER).stdout == "begun\n"


def test_a_verification_by_hand_waits_for_the_other_machine(checkout: Path) -> None:
    done = begin(checkout, "verify", once=False, answer="f")  # it would drop the other's temporary database
    assert (done.returncode, "try again when it is done" in done.stderr) == (1, True)


def test_a_warning_before_the_answer_is_not_the_answer(checkout: Path) -> None:
    done = begin(checkout, "backup", once=False, answer="'WARNING:  collation version mismatch'; echo t")
    assert (done.returncode, done.stdout) == (0, "begun\n"), done.stderr


@pytest.mark.parametrize("answer", ["'psql: error: connection refused'", ""])
def test_a_database_that_does_not_answer_ends_the_job(checkout: Path, answer: str) -> None:
    done = begin(checkout, "backup", once=True, answer=f"{answer}; exit 2")
    assert (done.returncode, f"The database does not answer: {answer[1:-1]}" in done.stderr) == (1, True)
    assert log(checkout) == ""


@pytest.mark.parametrize("call", ["begin_job backup", "note_job backup"])
def test_a_name_that_is_no_hosts_ends_the_job_and_nothing_is_asked(checkout: Path, call: str) -> None:
    (checkout / ".env").write_text("KADUN_HOST=web 1\n")
    done = bash(checkout, f"{SESSION.format(answer='t', other=':')}OPTION[once]=yes\n{call}\necho after")
    assert (done.returncode, done.stdout) == (1, "")
    assert "must be 1 to 57 letters" in done.stderr
    assert not (checkout / "asked").exists()


def test_the_session_ends_with_a_killed_script_whatever_it_has_started(checkout: Path, tmp_path: Path) -> None:
    code = SESSION.format(answer="t", other=":") + "begin_job backup\nsleep 300 & echo $!; wait"
    command = ("bash", "-c", PRELUDE.format(sources=SOURCES) + code, "script.sh", checkout)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(tmp_path)}
    ) as script:
        assert script.stdout is not None
        child = int(script.stdout.readline())
        script.kill()
        try:
            wait_for(lambda: "over" in (checkout / "session").read_text())
        finally:
            os.kill(child, signal.SIGKILL)
