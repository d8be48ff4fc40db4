"""From the trial into the real stack, by four commands of docs/backups.md: keys, and cards with their machines."""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import kadun
import pytest

from tests.support.hosts.servers import CORE_DATA, Program
from tests.support.hosts.stack import Stack, run
from tests.support.services.service import ROOT
from tests.support.services.trial_runner import TrialRun

pytestmark = [pytest.mark.xdist_group("trial"), pytest.mark.nightly]


def test_keys_and_cards_of_a_trial_go_on_in_the_real_stack(tmp_path: Path, app_image: str) -> None:
    # Where the account that runs a trial's PostgreSQL gets through.
    folder, stack = Path(tempfile.mkdtemp(prefix="kadun-test-", dir="/var/tmp")), Stack(tmp_path / "real", app_image)
    run("docker", "tag", app_image, f"{stack.project}-app")
    folder.chmod(0o711)
    guide = (ROOT / "docs/backups.md").read_text().partition("### From the trial into the real service")[2]
    commands = re.findall("^    (.*?)(?:  +#.*)?$", guide.partition("\n##")[0], re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["scripts/cardctl", "cp", "chown", "scripts/cardctl"]
    commands = [command.replace(".trial", str(folder / "state")) for command in commands]
    try:
        with TrialRun(folder, root=ROOT) as trial:
            program, first = open_on_trial(trial, folder)
            unused = json.loads(trial.cardctl("card", "issue", "--validity", "7d", "--format", "json").stdout)
            (stack.folder / "cards.csv").write_text(trial.cardctl("card", "export").stdout)
        stack.init_anew("kadun.test")
        for command in commands[1:3]:
            subprocess.run(("bash", "-c", command), cwd=stack.folder, check=True)
        stack.up()
        subprocess.run(("bash", "-c", commands[3]), cwd=stack.folder, env=stack.environment, check=True)
        assert program.open_on(stack) == first | {"activated": False}
        assert Program(program.keys, program.core, unused[0]["id"], "a new customer").open_on(stack)["activated"]
    finally:
        stack.remove()
        shutil.rmtree(folder)


def open_on_trial(trial: TrialRun, folder: Path) -> tuple[Program, dict[str, object]]:
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
