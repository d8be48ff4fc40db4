"""`scripts/cardctl events --follow` on the containers, with a `docker` that runs the app itself.

As with the real one, the app is no child of the caller's terminal: it learns only by its standard input that compose
is gone.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.domain.codes import EventKind
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from tests.e2e.test_cardctl_wrapper import Checkout
from tests.support.service import ROOT, wait_for

DOCKER = """\
#!/bin/bash
printf '%s\\n' "$*" >>"{folder}/calls"
if [[ $2 == ps ]]; then echo 0123456789ab; exit; fi
while [[ $1 != python ]]; do shift; done
shift
mkfifo "{folder}/stdin"
(trap '' INT; cd / && exec env -i PYTHONPATH="{root}" DATABASE_URL={url} KADUN_KEYS_DIR=/nonexistent \\
    KADUN_FILES_DIR=/nonexistent KADUN_FUNCTIONS_SOCKET=/nonexistent KERNAL_DATA_KEY=x \\
    setsid {python} -P "$@" <"{folder}/stdin") &
echo $! >"{folder}/pid"
exec cat >"{folder}/stdin"
"""


def append(name: str) -> None:
    journal.append([Entry(at=datetime.now(UTC), kind=EventKind.FROZEN, actor=name)])


@pytest.fixture
def checkout(tmp_path: Path, database_url: str) -> Checkout:
    checkout = Checkout(tmp_path)
    script = DOCKER.format(folder=tmp_path, root=ROOT, url=shlex.quote(database_url), python=sys.executable)
    (tmp_path / "bin" / "docker").write_text(script)
    return checkout


@pytest.fixture
def following(checkout: Checkout, database: Database) -> Iterator["subprocess.Popen[str]"]:
    append("before")
    process = subprocess.Popen(
        # nohup, under which the tests may run, has every process below it ignore SIGHUP.
        ["env", "--default-signal=HUP", checkout.root / "scripts/cardctl", "events", "--follow", "--format", "json"],
        env=checkout.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def ended(checkout: Checkout) -> bool:
    """Tell whether the app inside is gone; a zombie that nobody has waited for yet is."""
    try:
        stat = Path(f"/proc/{(checkout.folder / 'pid').read_text().strip()}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 0), (signal.SIGHUP, -signal.SIGHUP)])
def test_ctrl_c_and_a_lost_connection_end_it_inside_too(
    checkout: Checkout, following: "subprocess.Popen[str]", sent: signal.Signals, status: int
) -> None:
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["actor"] == "before"
    append("after")
    assert json.loads(following.stdout.readline())["actor"] == "after"
    assert checkout.calls[-1].endswith("app events --follow --format json --until-input-ends")
    assert not ended(checkout)
    os.killpg(following.pid, sent)
    assert following.wait(60) == status
    wait_for(lambda: ended(checkout))
