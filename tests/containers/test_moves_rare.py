"""Moves that are interrupted at other moments, and a bundle that meets newer keys."""

import os
import shutil
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.tokens import keyring
from app.tokens.key_folder import KeyFolder
from tests.support.moved import Moved
from tests.support.servers import Vendor
from tests.support.service import wait_for
from tests.support.stack import Stack

pytestmark = [pytest.mark.xdist_group("servers"), pytest.mark.nightly]

# A slow disk: the export does not end.
SLOW_AGE = '#!/bin/sh\n[ "$1" = --passphrase ] && exec sleep 60\nexec {age} "$@"\n'


class Running:
    """A script in a process group of its own, which has stopped the service."""

    def __init__(self, old: Stack, log: Path, script: str, *arguments: str | Path, **environment: str) -> None:
        self._log = log  # a file: ssh's own child keeps what it was given open for a while
        command = (old.folder / "scripts" / script, *arguments)
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, start_new_session=True, env=os.environ | environment
            )
        wait_for(lambda: old.inspect("app")["State"]["Status"] == "exited" or self.process.poll() is not None, 120)

    def kill(self, number: signal.Signals) -> str:
        """Send a signal to the whole process group, as a terminal does; return what was said."""
        os.killpg(self.process.pid, number)
        self.process.wait(120)
        return self._log.read_text()


def is_served(stack: Stack) -> bool:
    card = stack.new_card()
    return bool(stack.verify(card, f"pc of {card}")["code"] == "OK")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_final_export_leaves_no_bundle(vendor: Vendor, tmp_path: Path, number: signal.Signals) -> None:
    old, bundle, mark = vendor.stack, tmp_path / "bundle", vendor.stack.folder / "data/keys/moved-to"
    (tmp_path / "age").write_text(SLOW_AGE.format(age=shutil.which("age")))
    (tmp_path / "age").chmod(0o755)
    options = ("--final", "-o", bundle, "--passphrase")
    exporting = Running(old, tmp_path / "log", "export.sh", *options, PATH=f"{tmp_path}:{os.environ['PATH']}")
    said = exporting.kill(number)
    if number == signal.SIGKILL:
        assert mark.exists()
        assert f"迁移包 bundle {bundle} at " in old.script("backup.sh", check=False).stderr
        assert "This server serves again" in old.script("migrate-to.sh", "--resume-here").stdout
    else:
        assert exporting.process.returncode == 130
        assert "The export failed; this server serves again" in said
    assert not bundle.exists()
    assert not mark.exists()
    assert is_served(old)


def test_keys_that_continue_those_of_the_bundle_stay_and_know_who_has_signed_it(
    vendor: Vendor, moved: Moved, tmp_path: Path
) -> None:
    """Customers' programs have seen the newer ones, and refuse the older."""
    newer = KeyFolder(vendor.stack.folder / "data/keys").load().rotated(datetime.now(UTC), "kadun")
    with vendor.fresh_server(tmp_path / "newer") as stack:
        stack.init_anew("kadun.test")
        ring = stack.folder / "data/keys/keyring.json"
        ring.write_bytes(keyring.encoded(newer))
        ring.chmod(0o600)
        shutil.chown(ring, ring.parent.stat().st_uid, ring.parent.stat().st_gid)
        (tmp_path / "bundle").write_bytes(moved.plain)
        done = stack.script("import.sh", tmp_path / "bundle")
        assert "The present signing keys are newer, and stay" in done.stdout
        assert KeyFolder(stack.folder / "data/keys").load() == newer
        assert not vendor.program.open_on(stack)["activated"]
        older = tmp_path / "keyring.json"
        older.write_bytes((vendor.stack.folder / "data/keys/keyring.json").read_bytes())
        assert "are newer, and stay" in stack.script("cardctl", "key", "restore", older).stderr
        assert KeyFolder(stack.folder / "data/keys").load() == newer
