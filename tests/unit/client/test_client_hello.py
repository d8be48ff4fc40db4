"""The example: runs with a good card, and says why not with a bad one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyrage
import pytest
from kadun.responses import Response

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

    def run(
        self, *extra: str, environment: dict[str, str] | None = None, **changes: str | None
    ) -> subprocess.CompletedProcess[str]:
        options = {**self.options, **changes}
        command = [sys.executable, str(HELLO / "hello.py"), *extra]
        command += [part for name, value in options.items() if value is not None for part in (f"--{name}", value)]
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KADUN_")}
        return subprocess.run(
            command,
            env={
                **kept,
                "PYTHONPATH": str(ROOT / "client" / "src"),
                "PYTHONUTF8": "1",
                "NO_PROXY": "*",
                **(environment or {}),
            },
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


def test_it_speaks_english_and_reads_its_environment(program: Program) -> None:
    program.server.tweak = setting(card_expires_at=None)
    environment = {f"KADUN_{name.upper()}": value for name, value in program.options.items()}
    nothing = dict.fromkeys(program.options)
    done = program.run("--amount", "2.5", "--from", "EUR", "--language", "en", environment=environment, **nothing)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The card is valid permanently" in done.stdout
    assert "2.5 EUR = 20.52 CNY" in done.stdout


def test_without_the_server_it_goes_on_where_the_vendor_allows_that(program: Program, tmp_path: Path) -> None:
    def allow(claims: dict[str, Any]) -> None:
        if claims["function"] == "打开程序":
            claims["offline_until"] = claims["card_expires_at"] = int(time.time()) + 3600

    program.server.tweak = allow
    state = str(tmp_path / "state")
    assert program.run(state=state).returncode == 0
    program.server.script = [Response(504, b"")] * 9  # not retried, so that the test does not wait
    done = program.run(state=state)
    assert (done.returncode, done.stderr) == (0, "")
    assert "离线使用" in done.stdout
    assert "100 USD = 712.00 CNY" in done.stdout
    assert program.run(state=str(tmp_path / "another")).returncode == 1


def test_a_bad_card_shows_the_customers_message_and_exits_with_1(program: Program) -> None:
    program.server.tweak = reject("CLIENT_MISMATCH")
    done = program.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "无法使用：卡密已绑定其他设备，如已更换设备请联系卖家解绑（参考号 REF45678）\n"


@pytest.mark.parametrize("name", ["keys", "core", "ca"])
def test_a_missing_file_is_one_line(name: str, program: Program, tmp_path: Path) -> None:
    done = program.run(**{name: str(tmp_path / "missing")})
    assert done.returncode == 1
    assert done.stderr.startswith("无法读取文件：")
    assert done.stderr.count("\n") == 1


def test_keys_that_are_none_are_one_line(program: Program, tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("no keys", encoding="utf-8")
    done = program.run()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("配置有误：")


def test_core_data_of_another_kind_is_one_line(program: Program, tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.from_str(str(program.server.data_key))
    for core in (
        b"not JSON",
        b"[]",
        b'{"rates": {"USD": "dear"}}',
        b'{"title": "", "date": "", "rates": {"USD": "0"}}',
    ):
        (tmp_path / "core.json.age").write_bytes(pyrage.encrypt(core, [identity.to_public()]))
        done = program.run()
        assert (done.returncode, done.stderr) == (1, "核心数据里没有汇率表\n")


def test_a_currency_that_the_table_lacks_is_one_line(program: Program) -> None:
    done = program.run("--to", "XYZ")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "XYZ" in done.stderr


def test_a_server_that_is_not_there_is_one_line(program: Program) -> None:
    done = program.run(server="http://127.0.0.1:1")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "无法连接验证服务器" in done.stderr


@pytest.mark.parametrize("name", ["server", "card", "keys", "core"])
def test_a_missing_option_is_usage(name: str, program: Program) -> None:
    done = program.run(**{name: None})
    assert done.returncode == 2
    assert f"--{name}" in done.stderr


@pytest.mark.parametrize("amount", ["much", "NaN", "inf", "1e30"])
def test_an_amount_that_is_none_is_usage(amount: str, program: Program) -> None:
    assert program.run("--amount", amount).returncode == 2
