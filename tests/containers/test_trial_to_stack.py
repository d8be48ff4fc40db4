"""From the trial into the real stack by scripts/import.sh --trial; the trial's PostgreSQL is the newer one."""

import json
import shutil
import tempfile
from pathlib import Path

import kadun
import pytest

from tests.support.moving import Program
from tests.support.service import ROOT
from tests.support.stack import Stack, run
from tests.support.trial_runner import TrialRun

pytestmark = [pytest.mark.xdist_group("trial"), pytest.mark.nightly]

CORE_DATA = b"sealed while it was a trial\n"
FUNCTION = """
from app.functions import core_function


@core_function("加一")
def increase(arguments, caller):
    return arguments["number"] + 1
"""


def test_cards_clients_and_keys_of_a_trial_go_on_in_the_real_stack(tmp_path: Path, app_image: str) -> None:
    # Where the account that runs a trial's PostgreSQL gets through.
    folder, stack = Path(tempfile.mkdtemp(prefix="kadun-test-", dir="/var/tmp")), Stack(tmp_path / "real", app_image)
    run("docker", "tag", app_image, f"{stack.project}-app")
    folder.chmod(0o711)
    (stack.folder / ".venv").symlink_to(ROOT / ".venv")  # as when the trial ran in this very checkout
    options = ("--trial", folder / "state", "--project", stack.project)
    ports = ("--http-port", str(stack.http_port), "--https-port", str(stack.https_port))
    try:
        with TrialRun(folder, root=ROOT) as trial:
            program, first = open_on_trial(trial, folder)
            trial.cardctl("file", "add", str(program.core))
            (folder / "state/functions/vendor.py").write_text(FUNCTION)
            unused = json.loads(trial.cardctl("card", "issue", "--validity", "7d", "--format", "json").stdout)
            events = ("events", "--format", "json")
            journal = json.loads(trial.cardctl(*events).stdout)
            running = stack.script("import.sh", *options, *ports, check=False)
            assert running.returncode == 1
            assert "A trial service already runs on" in running.stderr
            assert not (stack.folder / ".env").exists()
        done = stack.script("import.sh", *options, *ports)
        assert "imported, and the service is healthy" in done.stdout
        assert stack.cardctl(*events) == journal
        assert program.open_on(stack) == first | {"activated": False}
        assert Program(program.keys, program.core, unused[0]["id"], "a new customer").open_on(stack)["activated"]
        stack.up()  # import.sh waits for what verifies cards, and the functions may still be loading
        client = program.client_of(stack)
        client.download(program.core.name, folder / "fetched")
        assert (folder / "fetched").read_bytes() == program.core.read_bytes()
        assert client.execute("加一", {"number": 1}) == 2
        again = stack.script("import.sh", *options, *ports)
        assert "The data came in with an earlier try" in again.stdout
        assert program.open_on(stack) == first | {"activated": False}
    finally:
        stack.remove()
        shutil.rmtree(folder)


def open_on_trial(trial: TrialRun, folder: Path) -> tuple[Program, dict[str, object]]:
    """A program shipped from the trial, and what it got at its first start."""
    keys = trial.cardctl("key", "export").stdout
    (folder / "core").write_bytes(CORE_DATA)
    assert trial.cardctl("seal", str(folder / "core"), "-o", str(folder / "core.age")).returncode == 0
    (issued,) = json.loads(
        trial.cardctl("card", "issue", "--validity", "30d", "--note", r"客户\t'; --", "--format", "json").stdout
    )
    client = kadun.Client(trial.url, public_keys=keys, card_id=issued["id"], hardware="the customer's pc")
    verdict = client.open()
    assert verdict.activated
    core = client.unseal(folder / "core.age")
    assert core == CORE_DATA
    program = Program(keys, folder / "core.age", issued["id"], "the customer's pc")
    return program, {"activated": True, "expires_at": verdict.card_expires_at, "core": core}
