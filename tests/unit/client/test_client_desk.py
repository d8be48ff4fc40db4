"""examples/desk as its customers meet it: a card typed once, updates, renewing and unbinding.

tests/e2e/test_packaged_example.py has offline starts and the end of the card while it runs.
"""

import json
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest
from kadun.responses import Response

from tests.support.client.desk_program import CORE, DESK, DeskProgram
from tests.support.client.fake_server import (
    CARD,
    FakeServer,
    SigningKey,
    Tweak,
    card_status,
    pinned,
    problem,
    reject,
    setting,
)
from tests.support.client.local_http import forged, serving
from tests.support.tables import for_each

URL = "https://example.com/下载?v=1.10"
OTHER = "Z" * 32
BUSY = Response(504, b"")  # not retried, so that no test waits


@pytest.fixture
def program(tmp_path: Path, server: FakeServer, signing_key: SigningKey) -> Iterator[DeskProgram]:
    identity = pyrage.x25519.Identity.generate()
    server.data_key = str(identity)
    browser = tmp_path / "browser.py"  # notes what it was told to open
    browser.write_text("import pathlib, sys; pathlib.Path('browsed').write_text(sys.argv[1])")
    with serving(forged(server)) as local:
        settings = {
            "SERVER": local.url,
            "PUBLIC_KEYS": json.dumps(pinned(signing_key)),
            "HARDWARE": "machine-1",
            "VERSION": "1.9",
            "SELF_SERVICE": True,
            "HEARTBEAT_SECONDS": 3600,
        }
        made = DeskProgram(tmp_path, settings, pyrage.encrypt(CORE.read_bytes(), [identity.to_public()]))
        made.environment["BROWSER"] = f"{sys.executable} {browser} %s"
        yield made


def then(server: FakeServer, tweak: Tweak, *answers: Any) -> None:
    """Answer the first opening with this change of the claims, then as told, then genuinely."""

    def first(request: dict[str, Any]) -> Response:
        server.tweak, before = tweak, server.tweak
        answer = server.genuine(request)
        server.tweak = before
        return answer

    server.script = [first, *answers]


def test_a_card_is_typed_once_and_remembered_for_its_owner_alone(program: DeskProgram, server: FakeServer) -> None:
    server.tweak = setting(card_expires_at=None, notice="今晚\u3000维护\n\x1b[2J\u202e请保存")
    nonsense = ["广东", "火星 1", "广东 NaN", "广东 0", "广东 1e9", "广东 -1", "广东 many", "广东 1 2"]
    first = program.run(CARD, "广东 3.5", *nonsense, "导出")
    assert (first.returncode, first.stderr.splitlines()) == (0, [f"无法识别：{line}" for line in nonsense])
    for text in ("请输入卡密", "卡密有效，永久卡", "公告：今晚\u3000维护\n?[2J?请保存\n", "广东 3.5 kg：14 元"):
        assert text in first.stdout
    assert "新版本" not in first.stdout
    assert (program.working / "quotes.txt").read_text("utf-8") == "广东 3.5 kg：14 元\n"
    assert program.remembered.read_text() == f"{CARD}\n"
    assert stat.S_IMODE(program.remembered.stat().st_mode) == 0o600
    second = program.run("上海 1")
    assert (second.returncode, second.stderr) == (0, "")
    assert "请输入卡密" not in second.stdout
    assert "上海 1 kg：10 元" in second.stdout
    assert {(request["card_id"], request["version"]) for request in server.requests} == {(CARD, "1.9")}
    assert "导出报表" in [request["function"] for request in server.requests]


def test_a_refused_card_is_not_remembered_and_another_may_be_typed(program: DeskProgram, server: FakeServer) -> None:
    then(server, reject("CARD_FROZEN"))
    done = program.run(CARD)
    assert (done.returncode, done.stderr) == (1, "无法使用：卡密已被冻结，请联系卖家（参考号 REF45678）\n")
    assert not program.remembered.exists()
    then(server, reject("CARD_NOT_FOUND"))
    done = program.run("OLD-CARD", CARD, "上海 1", options=["--language", "en"])
    assert (done.returncode, done.stderr[:12], done.stderr.count("\n")) == (0, "Cannot run: ", 1)
    assert "上海 1 kg: CNY 10" in done.stdout
    assert program.remembered.read_text() == f"{CARD}\n"


def test_settings_or_core_data_of_another_kind_are_one_line(program: DeskProgram, server: FakeServer) -> None:
    recipient = pyrage.x25519.Identity.from_str(server.data_key).to_public()
    (program.source / "tariff.json.age").write_bytes(
        pyrage.encrypt(b'{"zones": {"X": {"first_kg": "dear"}}}', [recipient])
    )
    wrong = "程序配置有误，请联系卖家："
    done = program.run(CARD)
    assert (done.returncode, done.stderr) == (1, f"{wrong}the core data contains no table of rates\n")
    with (program.source / "shop.py").open("a", encoding="utf-8") as shop:
        shop.write('PUBLIC_KEYS = ""\n')
    done = program.run(CARD)
    assert (done.returncode, done.stderr.count("\n"), done.stderr[: len(wrong)]) == (1, 1, wrong)


def test_an_update_is_opened_where_the_customer_asks_and_only_by_https(
    program: DeskProgram, server: FakeServer
) -> None:
    browsed = program.working / "browsed"
    server.tweak = setting(latest_version="1.10", update_url=URL)
    assert f"有新版本 1.10：{URL}\n" in program.run(CARD).stdout
    assert not browsed.exists()
    program.run("更新")
    assert browsed.read_text() == URL
    browsed.unlink()
    server.tweak = reject("UPDATE_REQUIRED", latest_version="1.10", update_url=URL)
    required = program.run("是")
    assert (required.returncode, "REF45678" in required.stderr, URL in required.stdout) == (1, True, True)
    assert browsed.read_text() == URL
    browsed.unlink()
    claims = {"latest_version": "1.10", "update_url": "http://example.com/"}
    server.tweak = reject("UPDATE_REQUIRED", **claims)
    required = program.run("是", "是")
    server.tweak = setting(**claims)
    offered = program.run("更新")
    assert "有新版本 1.10，请联系卖家获取\n" in offered.stdout
    assert "http://example.com/" not in offered.stdout + required.stdout + required.stderr
    assert not browsed.exists()
    refused = ["HTTPS://a.example/", "file:///etc/passwd", "javascript:alert(1)", "C:\\calc.exe"]
    refused += [" https://a.example/", "https://a.example/ --flag", "https://a.example/\u202e", "https://a.example/\n"]
    code = f"import updates; print(*map(updates.is_web_page, {[URL, None, *refused]}))"
    program.command = [sys.executable, "-c", code]
    program.environment["PYTHONPATH"] += f":{program.source}"
    assert program.run().stdout.split() == ["True", *["False"] * (len(refused) + 1)]


def test_a_card_is_renewed_after_a_confirmation_and_verified_again(program: DeskProgram, server: FakeServer) -> None:
    then(server, reject("CARD_EXPIRED"), problem(403, "RENEW_NOT_ALLOWED", reason="second_card_permanent"))
    assert "永久卡不能用来续费" in program.run(CARD, OTHER, "是").stderr
    then(server, reject("CARD_EXPIRED"), card_status())
    done = program.run(CARD, OTHER, "是", "广东 1")
    assert done.returncode == 0
    assert done.stderr.startswith("无法使用：卡密已过期")
    assert "广东 1 kg：8 元" in done.stdout
    assert program.remembered.read_text() == f"{CARD}\n"
    server.requests.clear()
    then(server, setting(), card_status())
    done = program.run("续费", OTHER, "是")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"卡密 {OTHER} 将全部用于续费并作废" in done.stdout
    assert server.requests[1] == {"card_id": CARD, "with_card_id": OTHER}
    assert server.requests[2]["function"] == "续费"
    assert done.stdout.count("卡密有效，有效期至") == 2


def test_without_a_confirmation_nothing_is_sent(program: DeskProgram, server: FakeServer) -> None:
    done = program.run(CARD, "续费", "", "续费", OTHER, "no", "解绑", "no", "unbind", "nein", "广东 1")
    assert "广东 1 kg：8 元" in done.stdout
    assert server.paths == ["/v1/verify"]
    assert program.remembered.exists()


@for_each("answer, done", [(card_status(), True), (BUSY, False), (Response(200, b"<html>"), False)])
def test_after_an_unbinding_done_or_lost_the_program_ends_without_a_further_request(
    answer: Response, program: DeskProgram, server: FakeServer, *, done: bool
) -> None:
    """A beat would bind the card to this machine again."""
    server.paths.clear()
    program.remembered.unlink(missing_ok=True)
    then(server, setting(), answer)
    ended = program.run(CARD, "unbind", "yes", "广东 1", options=["--language", "en"])
    assert server.paths == ["/v1/verify", "/v1/self/unbind"]
    assert (ended.returncode, ended.stderr.count("\n")) == ((0, 0) if done else (1, 1))
    assert ("Unbound" in ended.stdout, "CNY" in ended.stdout) == (done, False)
    assert program.remembered.exists() is not done


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    found: dict[str, Any] = {}
    exec((DESK / "texts.py").read_text("utf-8"), found)  # noqa: S102 - our own file
    chinese, english = found["TEXTS"]["zh"], found["TEXTS"]["en"]
    assert chinese.keys() == english.keys()
    assert all(text.count("{") == english[name].count("{") for name, text in chinese.items())
