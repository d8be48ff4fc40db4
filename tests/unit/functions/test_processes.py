"""Finding and ending the descendants of a process."""

import subprocess
import sys
from pathlib import Path

from app.functions import processes
from tests.support.service import ROOT, wait_for

# A subreaper whose grandchild has lost its parent, and whose child has a thread that started a process.
FAMILY = """
import os, subprocess, sys, threading, time
from app.functions import processes
processes.become_subreaper()
subprocess.run(["/bin/sh", "-c", "setsid sleep 600 & setsid sleep 601 &"])
if os.fork() == 0:
    threading.Thread(target=lambda: subprocess.run(["sleep", "602"])).start()
    time.sleep(600)
sys.stdout.write("ready\\n")
sys.stdout.flush()
sys.stdin.read()
processes.end_descendants()
assert list(processes.descendants(os.getpid())) == []
"""


def test_all_descendants_are_found_and_ended() -> None:
    command = [sys.executable, "-c", FAMILY.replace("\\\\n", "\\n")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"ready\n"
        wait_for(lambda: len(list(processes.descendants(parent.pid))) == 4)
        family = list(processes.descendants(parent.pid))
        parent.communicate()
        assert parent.returncode == 0
        assert [process for process in family if Path(f"/proc/{process}").exists()] == []


def test_how_a_process_ended_is_said_in_words() -> None:
    assert processes.how_it_ended(3).en == "its process ended with exit status 3"
    assert processes.how_it_ended(-9).en == "its process was ended by SIGKILL"
    assert processes.how_it_ended(-99).en == "its process was ended by signal 99"
