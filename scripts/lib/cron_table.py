"""The cron jobs of a stack: the text of /etc/cron.d/kadun-PROJECT.

    cron_table.py ROOT DOCKER BACKUP_AT VERIFY_AT VERIFY_ON MAIL IDENTITY    print it; MAIL and IDENTITY may be empty

Runs with the host's python3 (3.10 or newer) and the standard library alone.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/etc/cron.d")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_JOB = re.compile(r"^([0-9]+) ([0-9]+) \* \* (\S+) root (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Schedule:
    """When the jobs run (HH:MM; `verify_on` is a day, `daily` or `never`), and their options."""

    backup_at: str
    verify_at: str
    verify_on: str
    mail: str = ""
    identity: str = ""


def render(root: str, docker: str, schedule: Schedule) -> str:
    """Return the whole file. cron does not know the shell's PATH and variables.

    Args:
        root: The checkout.
        docker: The path of the program.
        schedule: When the jobs run.
    """
    folder = str(Path(docker).parent)
    path = _PATH if folder in _PATH.split(":") else f"{_PATH}:{folder}"
    lines = ["# Kadun 卡盾: scripts/install-cron.sh", f"# {root}", "SHELL=/bin/sh", f"PATH={path}"]
    if schedule.mail:
        lines.append(f"MAILTO={schedule.mail}")
    lines.append(_job(schedule.backup_at, "*", f"{root}/scripts/backup.sh", "--quiet", "--once"))
    if schedule.verify_on != "never":
        words = ["--quiet", "--once", *(("--identity", schedule.identity) if schedule.identity else ())]
        day = "*" if schedule.verify_on == "daily" else schedule.verify_on
        lines.append(_job(schedule.verify_at, day, f"{root}/scripts/verify-backup.sh", *words))
    return "\n".join(lines) + "\n"


def _job(time: str, day: str, *words: str) -> str:
    hour, minute = time.split(":")
    command = shlex.join(words).replace("%", "\\%")  # cron ends a line at %
    return f"{int(minute)} {int(hour)} * * {day} root {command}"


def read(text: str) -> Schedule | None:
    """Return the schedule in an installed file; None where it holds no backup of ours."""
    mail = re.search(r"^MAILTO=(.*)$", text, re.MULTILINE)
    jobs = {}
    for minute, hour, day, command in _JOB.findall(text):
        try:
            program, *words = shlex.split(command.replace("\\%", "%"))
        except ValueError:
            continue
        jobs[program.rpartition("/")[2]] = (f"{int(hour):02}:{int(minute):02}", day.replace("*", "daily"), words)
    if "backup.sh" not in jobs:
        return None
    verify_at, verify_on, words = jobs.get("verify-backup.sh", ("00:00", "never", []))
    identity = words[words.index("--identity") + 1] if "--identity" in words[:-1] else ""
    return Schedule(jobs["backup.sh"][0], verify_at, verify_on, mail[1] if mail else "", identity)


if __name__ == "__main__":
    checkout, docker_program, *options = sys.argv[1:]
    sys.stdout.buffer.write(render(checkout, docker_program, Schedule(*options)).encode("utf-8", "surrogateescape"))
