"""The example with notice, updates, renewing and unbinding: what its customers read, and what is never opened."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pyrage
import pytest
from kadun.responses import Response

from tests.support.client.desk_program import CORE, DESK, DeskProgram
from tests.support.client.fake_server import CARD, FakeServer, SigningKey, pinned, reject, setting
from tests.support.client.local_http import forged, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

URL = "https://example.com/下载?v=1.10"
OTHER = "Z" * 32
NEWER = {"latest_version": "1.10", "update_url": URL}
DONE = Response(
    200,
    b'{"status": "active", "expires_at": null, "bound": true, "unbinds_left": 1, "next_unbind_at": null}',
    content_type="application/json",
)
NOT_TO_BE_OPENED = [
    "http://example.com/",
    "HTTPS://example.com/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "C:\\Windows\\calc.exe",
    " https://example.com/",
    "https://example.com/ --flag",
    "https://example.com/\u202e",
    "https://example.com/\n",
]


@pytest.fixture
def browsed(tmp_path: Path) -> Path:
    """What the browser was told to open; absent if it was not started."""
    return tmp_path / "browsed"


@pytest.fixture
def program(tmp_path: Path, server: FakeServer, signing_key: SigningKey, browsed: Path) -> Iterator[DeskProgram]:
    identity = pyrage.x25519.Identity.generate()
    server.data_key = str(identity)
    browser = tmp_path / "browser.py"
    browser.write_text(f"import pathlib, sys\npathlib.Path({str(browsed)!r}).write_text(sys.argv[1])\n")
    with serving(forged(server)) as local:
        settings = {
            "SERVER": local.url,
            "PUBLIC_KEYS": json.dumps(pinned(signing_key)),
            "HARDWARE": "machine-1",
            "VERSION": "1.9",
            "SELF_SERVICE": True,
        }
        made = DeskProgram(tmp_path, settings, pyrage.encrypt(CORE.read_bytes(), [identity.to_public()]))
        made.environment["BROWSER"] = f"{sys.executable} {browser} %s"
        yield made


def refusal(code: str, **members: Any) -> Response:
    body = json.dumps({"code": code, "status": 403, **members}).encode()
    return Response(403, body, content_type="application/problem+json")


def after_openings(count: int, *answers: Any) -> Callable[[FakeServer], None]:
    """Answer genuinely for a while, then as told, in order."""

    def script(server: FakeServer) -> None:
        server.script = [*[server.genuine] * count, *answers]

    return script


def test_it_sends_its_version_and_shows_the_notice_as_text(program: DeskProgram, server: FakeServer) -> None:
    server.tweak = setting(notice="今晚\u3000维护\n\x1b[2J\u202e请保存")
    done = program.run(CARD)
    assert (done.returncode, done.stderr) == (0, "")
    assert "公告：今晚\u3000维护\n?[2J?请保存\n" in done.stdout
    assert "新版本" not in done.stdout
    assert server.requests[0]["version"] == "1.9"


def test_an_update_is_offered_and_opened_where_the_customer_asks(
    program: DeskProgram, server: FakeServer, browsed: Path
) -> None:
    server.tweak = setting(**NEWER)
    done = program.run(CARD)
    assert f"有新版本 1.10：{URL}\n" in done.stdout
    assert not browsed.exists()
    assert program.run("更新").returncode == 0
    assert browsed.read_text() == URL


def test_a_card_is_renewed_after_a_confirmation_and_verified_again(program: DeskProgram, server: FakeServer) -> None:
    after_openings(1, DONE)(server)
    done = program.run(CARD, "续费", OTHER, "是")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"卡密 {OTHER} 将全部用于续费并作废" in done.stdout
    assert server.requests[1] == {"card_id": CARD, "with_card_id": OTHER}
    assert server.requests[2]["function"] == "续费"
    assert done.stdout.count("卡密有效，有效期至") == 2


def test_unbinding_ends_the_program_and_forgets_the_card(program: DeskProgram, server: FakeServer) -> None:
    after_openings(1, DONE)(server)
    done = program.run(CARD, "解绑", "是", "广东 1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("已解绑，现在可以在另一台电脑上使用这张卡密\n")
    assert server.paths == ["/v1/verify", "/v1/self/unbind"]  # nothing after it, which would bind the card again
    assert not program.remembered.exists()


@pytest.mark.parametrize("lost", [Response(504, b""), Response(200, b"<html>")], ids=["unreachable", "untrusted"])
def test_after_a_lost_answer_to_an_unbinding_the_program_ends_without_a_further_request(
    lost: Response, program: DeskProgram, server: FakeServer
) -> None:
    after_openings(1, lost)(server)
    done = program.run(CARD, "unbind", "yes", "广东 1", options=["--language", "en"])
    assert done.returncode == 1
    assert done.stderr.startswith("Cannot run: ")
    assert done.stderr.count("\n") == 1
    assert "Unbound" not in done.stdout
    assert "CNY" not in done.stdout
    assert server.paths == ["/v1/verify", "/v1/self/unbind"]  # a beat would bind the card again
    assert program.remembered.exists()


def test_both_languages_have_the_same_texts_with_the_same_values() -> None:
    found: dict[str, Any] = {}
    exec((DESK / "texts.py").read_text("utf-8"), found)  # noqa: S102 - our own file
    chinese, english = found["TEXTS"]["zh"], found["TEXTS"]["en"]
    assert chinese.keys() == english.keys()
    assert all(text.count("{") == english[name].count("{") for name, text in chinese.items())


def test_an_address_that_is_not_https_is_never_opened_nor_shown(
    program: DeskProgram, server: FakeServer, browsed: Path
) -> None:
    code = "import json, sys, updates; print([updates.is_web_page(url) for url in json.load(sys.stdin)])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=program.source,
        env=program.environment,
        input=json.dumps([URL, None, *NOT_TO_BE_OPENED]),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout == f"{[True] + [False] * (len(NOT_TO_BE_OPENED) + 1)}\n"
    claims = {"latest_version": "1.10", "update_url": "http://example.com/"}
    server.tweak = setting(**claims)
    offered = program.run(CARD, "更新")
    assert "有新版本 1.10，请联系卖家获取\n" in offered.stdout
    server.tweak = reject("UPDATE_REQUIRED", **claims)
    required = program.run("是", "是")
    assert required.returncode == 1
    assert "http://example.com/" not in offered.stdout + required.stdout + required.stderr
    assert not browsed.exists()


def test_a_required_update_is_shown_with_its_address_and_ends_the_program(
    program: DeskProgram, server: FakeServer, browsed: Path
) -> None:
    server.tweak = reject("UPDATE_REQUIRED", **NEWER)
    done = program.run(CARD, "是")
    assert done.returncode == 1
    assert "REF45678" in done.stderr
    assert URL in done.stdout
    assert browsed.read_text() == URL
    assert not program.remembered.exists()


def test_without_a_confirmation_nothing_is_sent(program: DeskProgram, server: FakeServer) -> None:
    done = program.run(CARD, "续费", "", "续费", OTHER, "no", "解绑", "no", "unbind", "nein", "广东 1")
    assert "广东 1 kg：8 元" in done.stdout
    assert server.paths == ["/v1/verify"]
    assert program.remembered.exists()


def test_an_expired_card_can_be_renewed_at_the_start(program: DeskProgram, server: FakeServer) -> None:
    server.tweak = reject("CARD_EXPIRED")

    def renewed(_request: object) -> Response:
        server.tweak = setting()
        return DONE

    after_openings(1, refusal("RENEW_NOT_ALLOWED", reason="second_card_permanent"))(server)
    assert "永久卡不能用来续费" in program.run(CARD, OTHER, "是").stderr
    after_openings(1, renewed)(server)
    done = program.run(CARD, OTHER, "是", "广东 1")
    assert done.returncode == 0
    assert done.stderr.startswith("无法使用：卡密已过期")
    assert "广东 1 kg：8 元" in done.stdout
    assert program.remembered.read_text() == f"{CARD}\n"
