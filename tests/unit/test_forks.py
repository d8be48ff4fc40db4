"""Signals to workers that are just starting."""

import subprocess
import sys

from tests.support.tables import for_each

# A parent with handlers like gunicorn's, and a child that is told to end before its first line.
SCRIPT = """
import os, signal, sys, time
from app import forks

seen = []
ending = getattr(signal, sys.argv[1])
signal.signal(ending, lambda *_: seen.append("handled"))
if sys.argv[2] == "with":
    forks.end_on_signals()
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), ending))
pid = os.fork()
if not pid:
    print(*seen, flush=True)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -ending)
os.kill(os.getpid(), ending)
print("parent", *seen)
"""


@for_each("ending", ["SIGTERM", "SIGINT", "SIGQUIT"])
def test_a_signal_before_the_first_line_ends_a_process(ending: str) -> None:
    assert run(ending, "with") == ["True", "parent handled"]


def test_without_end_on_signals_the_signal_is_lost() -> None:
    assert run("SIGTERM", "without") == ["handled", "False", "parent handled"]


def run(*arguments: str) -> list[str]:
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
