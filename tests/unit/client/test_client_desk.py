"""The example with a remembered card: what its customers meet, from the first start to the end of the card."""

from __future__ import annotations

import json
import stat
import time
from typing import TYPE_CHECKING

import pyrage
import pytest
from kadun.responses import Response

from tests.support.client.desk_program import CORE, DeskProgram
from tests.support.client.fake_server import CARD, FakeServer, SigningKey, pinned, reject, setting
from tests.support.client.local_http import forged, serving

if TYPE_CHECKING:
    from pathlib import Path

BUSY = Response(504, b"")  # not retried, so that no test waits


@pytest.fixture
def identity(server: FakeServer) -> pyrage.x25519.Identity:
    made = pyrage.x25519.Identity.generate()
    server.data_key = str(made)
    server.tweak = setting(card_expires_at=None)
    return made


@pytest.fixture
def program(tmp_path: Path, server: FakeServer, signing_key: SigningKey, identity: pyrage.x25519.Identity):  # noqa: ANN201
    with serving(forged(server)) as local:
        settings = {
            "SERVER": local.url,
            "PUBLIC_KEYS": json.dumps(pinned(signing_key)),
            "HARDWARE": "machine-1",
            "HEARTBEAT_SECONDS": 0.2,
        }
        yield DeskProgram(tmp_path, settings, pyrage.encrypt(CORE.read_bytes(), [identity.to_public()]))


def test_a_card_is_typed_once_and_remembered_for_its_owner_alone(program: DeskProgram, server: FakeServer) -> None:
    first = program.run(CARD, "广东 3.5")
    assert (first.returncode, first.stderr) == (0, "")
    assert "请输入卡密" in first.stdout
    assert "卡密有效，永久卡" in first.stdout
    assert "广东 3.5 kg：14 元" in first.stdout
    assert program.remembered.read_text() == f"{CARD}\n"
    assert stat.S_IMODE(program.remembered.stat().st_mode) == 0o600
    second = program.run("上海 1")
    assert (second.returncode, second.stderr) == (0, "")
    assert "请输入卡密" not in second.stdout
    assert "上海 1 kg：10 元" in second.stdout
    assert {request["card_id"] for request in server.requests} == {CARD}


def test_a_card_that_is_refused_can_be_replaced_by_another(program: DeskProgram, server: FakeServer) -> None:
    server.script = [refusing(server, "CARD_EXPIRED")]
    done = program.run("OLD-CARD", CARD)
    assert done.returncode == 0
    assert done.stderr == "无法使用：卡密已过期，请续费（参考号 REF45678）\n"
    assert program.remembered.read_text() == f"{CARD}\n"


def test_a_card_that_is_refused_ends_it_where_no_other_is_typed(program: DeskProgram, server: FakeServer) -> None:
    server.tweak = reject("CARD_FROZEN")
    done = program.run(CARD)
    assert (done.returncode, done.stderr) == (1, "无法使用：卡密已被冻结，请联系卖家（参考号 REF45678）\n")
    assert not program.remembered.exists()


def test_it_speaks_english(program: DeskProgram, server: FakeServer) -> None:
    server.script = [refusing(server, "CARD_EXPIRED")]
    done = program.run("OLD-CARD", CARD, "上海 1", "nonsense", options=["--language", "en"])
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "Cannot run: This card has expired. Please renew it (reference REF45678)",
        "Not understood: nonsense",
    ]
    assert "The card is valid permanently" in done.stdout
    assert "上海 1 kg: CNY 10" in done.stdout


def test_without_the_server_it_starts_where_the_vendor_allows_that(program: DeskProgram, server: FakeServer) -> None:
    now = int(time.time())
    server.tweak = setting(iat=now, exp=now + 300, card_expires_at=None, offline_until=now + 3600)
    assert program.run(CARD).returncode == 0
    server.script = [BUSY] * 100
    offline = program.run("广东 1", "导出")
    assert offline.returncode == 0
    assert "当前离线使用，请在" in offline.stdout
    assert "广东 1 kg：8 元" in offline.stdout
    assert offline.stderr == "无法使用：验证服务器繁忙，请稍后再试\n"  # exporting is counted, so it wants the server


def test_without_the_server_it_does_not_start_where_the_vendor_forbids_it(
    program: DeskProgram, server: FakeServer
) -> None:
    assert program.run(CARD).returncode == 0
    server.script = [BUSY] * 100
    done = program.run("广东 1")
    assert (done.returncode, done.stderr) == (1, "无法使用：验证服务器繁忙，请稍后再试\n")


@pytest.mark.timeout(60)
def test_the_heartbeat_tells_at_once_when_the_card_ends(program: DeskProgram, server: FakeServer) -> None:
    with program.start() as running:
        assert running.stdin
        assert running.stdout
        assert running.stderr
        running.stdin.write(f"{CARD}\n")
        while "地区：" not in running.stdout.readline():
            assert running.poll() is None
        server.tweak = reject("CARD_FROZEN")
        assert running.stderr.readline() == "无法使用：卡密已被冻结，请联系卖家（参考号 REF45678）\n"
        running.stdin.write("广东 1\n")
        assert running.wait(60) == 1
        assert "元" not in running.stdout.read()


def test_quotes_are_saved_once_the_server_has_counted_it(program: DeskProgram, server: FakeServer) -> None:
    done = program.run(CARD, "新疆 2", "导出")
    assert (done.returncode, done.stderr) == (0, "")
    assert (program.working / "quotes.txt").read_text("utf-8") == "新疆 2 kg：30 元\n"
    assert "导出报表" in [request["function"] for request in server.requests]


def test_a_line_that_makes_no_sense_is_said_so(program: DeskProgram) -> None:
    lines = ["广东", "火星 1", "广东 NaN", "广东 0", "广东 1e9", "广东 -1", "广东 many", "广东 1 2"]
    done = program.run(CARD, *lines)
    assert (done.returncode, done.stderr.splitlines()) == (0, [f"无法识别：{line}" for line in lines])


def test_an_example_that_nobody_has_set_up_says_so_in_one_line(program: DeskProgram) -> None:
    with (program.source / "shop.py").open("a", encoding="utf-8") as shop:
        shop.write('PUBLIC_KEYS = ""\n')
    done = program.run(CARD)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("程序配置有误，请联系卖家：")


def test_core_data_of_another_kind_is_one_line(program: DeskProgram, identity: pyrage.x25519.Identity) -> None:
    for core in (b"not JSON", b"[]", b'{"zones": {"X": {"first_kg": "dear"}}}'):
        (program.source / "tariff.json.age").write_bytes(pyrage.encrypt(core, [identity.to_public()]))
        done = program.run(CARD)
        assert (done.returncode, done.stderr) == (
            1,
            "程序配置有误，请联系卖家：the core data contains no table of rates\n",
        )


def refusing(server: FakeServer, code: str):  # noqa: ANN201
    """One answer that says no; the next ones are as they were."""

    def answer(request: dict[str, object]) -> Response:
        before, server.tweak = server.tweak, reject(code)
        try:
            return server.genuine(request)
        finally:
            server.tweak = before

    return answer
