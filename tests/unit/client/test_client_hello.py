"""The example: runs with a good card, and says why not with a bad one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyrage
import pytest

from tests.support.client.fake_server import CARD, FakeServer, SigningKey, pinned, reject, setting
from tests.support.client.local_http import LocalServer, forged, serving

ROOT = Path(__file__).resolve().parents[3]
HELLO = ROOT / "examples" / "hello"


class Program:
    """The example with all it needs beside it; `run` starts it as a customer would."""

    def __init__(self, folder: Path, server: FakeServer, signing_key: SigningKey, local: LocalServer) -> None:
        identity = pyrage.x25519.Identity.generate()
        server.data_key = str(identity)
        self.server = server
        self.options = {
            "server": local.url,
            "card": CARD,
            "keys": str(folder / "keys.json"),
            "core": str(folder / "core.json.age"),
            "hardware": "machine-1",
        }
        Path(self.options["keys"]).write_text(json.dumps(pinned(signing_key)), encoding="utf-8")
        core = (HELLO / "core.json").read_bytes()
        Path(self.options["core"]).write_bytes(pyrage.encrypt(core, [identity.to_public()]))

    def run(self, **changes: str) -> subprocess.CompletedProcess[str]:
        options = {**self.options, **changes}
        command = [sys.executable, str(HELLO / "hello.py")]
        command += [part for name, value in options.items() for part in (f"--{name}", value)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KADUN_")}
        return subprocess.run(
            command,
            env={**kept, "PYTHONPATH": str(ROOT / "client" / "src"), "PYTHONUTF8": "1", "NO_PROXY": "*"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )


@pytest.fixture
def program(tmp_path: Path, server: FakeServer, signing_key: SigningKey):  # noqa: ANN201 - a generator fixture
    with serving(forged(server)) as local:
        yield Program(tmp_path, server, signing_key, local)


def test_with_a_good_card_it_calculates_with_its_core_data(program: Program) -> None:
    program.server.tweak = setting(activated=True)
    done = program.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "卡密已激活" in done.stdout
    assert "有效期至" in done.stdout
    assert "100 USD = 712.00 CNY" in done.stdout
    assert [request["function"] for request in program.server.requests] == ["打开程序", "汇率换算"]


def test_a_bad_card_shows_the_customers_message_and_exits_with_1(program: Program) -> None:
    program.server.tweak = reject("CLIENT_MISMATCH")
    done = program.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "无法使用：卡密已绑定其他设备，如已更换设备请联系卖家解绑（参考号 REF45678）\n"


def test_a_missing_file_is_one_line(program: Program, tmp_path: Path) -> None:
    done = program.run(core=str(tmp_path / "missing"))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("无法读取文件：")
