"""The client for Node.js: the test vectors, the conformance kit, and the real service behind nginx."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest

from tests.support.client.fakes import CARD, FakeServer, SigningKey, pinned, reject, setting
from tests.support.client.local_http import forged, serving
from tests.support.services.nginx import Gateway
from tests.support.services.service import ROOT
from tests.support.services.socket_service import SocketService

pytestmark = pytest.mark.long

CLIENT = ROOT / "examples" / "javascript"
AT = "example.com/get"
CORE = "核心数据：1 USD = 7.12 CNY\n"
Open = Callable[..., subprocess.CompletedProcess[str]]


def node() -> str:
    found = shutil.which("node")
    assert found, "node is missing; scripts/test.sh brings it"
    return found


def test_it_passes_the_test_vectors_and_its_own_tests() -> None:
    command = [node(), "--test", "--test-reporter", "tap", "test/vectors.test.mjs", "test/client.test.mjs"]
    done = subprocess.run(command, cwd=CLIENT, capture_output=True, encoding="utf-8", timeout=600, check=False)
    assert done.returncode == 0, done.stdout
    assert ("# fail 0" in done.stdout, "# skipped 0" in done.stdout) == (True, True)


def kit(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kadun_conformance", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "client" / "conformance" / "src"), "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )


def test_it_refuses_forged_responses_of_each_class_of_the_kit_and_accepts_genuine_ones() -> None:
    classes: dict[str, str] = {}
    for line in kit("--list").stdout.splitlines():
        name = line.split()[0]
        classes.setdefault(name.partition("-")[0], name)
    assert (len(classes) > 40, "honest" in classes.values()) == (True, True)
    judges_rightly(*(word for name in classes.values() for word in ("--only", name)))


@pytest.mark.nightly
def test_it_refuses_every_forged_response_of_the_kit_and_accepts_every_genuine_one() -> None:
    assert judges_rightly() > 110


def judges_rightly(*options: str) -> int:
    limits = ("--format", "json", "--client-timeout", "3", "--timeout", "40")
    done = kit(*limits, *options, "--", node(), str(CLIENT / "open.mjs"))
    found = json.loads(done.stdout)
    assert [row for row in found if not row["passed"]] == []
    # It refused because a check failed, not because it crashed: each refusal has a message for the customer.
    refusals = [row["note"] for row in found if row["outcome"] == "refused" and row["status"] is not None]
    assert [note for note in refusals if not any("\u4e00" <= letter <= "\u9fff" for letter in note)] == []
    assert done.returncode == 0
    return len(found)


def run_example(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "KADUN_KEYS": str(folder / "keys.json"),
        "KADUN_CORE": str(folder / "core.age"),
        "KADUN_CARD": CARD,
        "KADUN_HARDWARE": "node-1",
    } | settings
    command = [node(), str(CLIENT / "open.mjs")]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=300, check=False)


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    """The key of a stand-in for the server, which the example pins."""
    key = SigningKey()
    (tmp_path / "keys.json").write_text(json.dumps(pinned(key)), encoding="utf-8")
    return key


def test_what_the_vendor_tells_customers_is_shown_without_control_characters(tmp_path: Path, key: SigningKey) -> None:
    server, identity = FakeServer(key), pyrage.x25519.Identity.generate()
    server.data_key = str(identity)
    (tmp_path / "core.age").write_bytes(pyrage.encrypt(CORE.encode(), [identity.to_public()]))
    with serving(forged(server)) as local:
        for url, shown in (
            ("https://example.com/get", "更新: https://example.com/get"),
            ("http://example.com/get", ""),
        ):
            server.tweak = reject("UPDATE_REQUIRED", latest_version="2.0", update_url=url)
            done = run_example(tmp_path, KADUN_URL=local.url, KADUN_VERSION="1.4")
            first, _, rest = done.stderr.partition("\n")
            assert (done.returncode, done.stdout, rest.strip()) == (3, "", shown)
            assert first.startswith("程序版本过旧，请更新后再使用（参考号 ")
        assert server.requests[0]["version"] == "1.4"
        server.tweak = setting(notice="今晚\u3000维护\n\x1b[2J\u202e请保存👨\u200d👩\u2028")
        done = run_example(tmp_path, KADUN_URL=local.url)
    assert (done.returncode, done.stdout) == (0, CORE), done.stderr
    assert done.stderr == "今晚\u3000维护\n?[2J?请保存👨\u200d👩?\n"


@pytest.fixture
def opens(gateway: Gateway, service: SocketService, tmp_path: Path) -> Open:
    """Starts the example as a customer would, through nginx with its private CA."""
    (tmp_path / "keys.json").write_text(service.cardctl("key", "export").stdout, encoding="utf-8")
    (tmp_path / "core.txt").write_text(CORE, encoding="utf-8")
    service.cardctl("seal", str(tmp_path / "core.txt"), "-o", str(tmp_path / "core.age"))

    def start(card: str, hardware: str = "node-1", **changes: str) -> subprocess.CompletedProcess[str]:
        server = {
            "KADUN_URL": f"https://localhost:{gateway.https_port}",
            "KADUN_CA": str(gateway.certificates / "fullchain.pem"),
        }
        return run_example(tmp_path, **server | {"KADUN_CARD": card, "KADUN_HARDWARE": hardware} | changes)

    return start


def test_it_opens_with_a_card_of_the_real_service_and_unseals_the_core_data(
    opens: Open, service: SocketService
) -> None:
    card = service.new_card()
    first, second = opens(card), opens(f" {card} ")
    assert (first.returncode, first.stdout) == (0, CORE), first.stderr
    assert "卡密已激活" in first.stderr
    assert (second.returncode, second.stdout, second.stderr) == (0, CORE, "")


def test_a_no_of_the_real_service_comes_with_its_reference_and_in_english_where_asked(
    opens: Open, service: SocketService
) -> None:
    card = service.new_card()
    assert opens(card, "node-frozen").returncode == 0
    service.cardctl("card", "freeze", card)
    done = opens(card, "node-frozen")
    assert (done.returncode, done.stdout) == (3, "")
    reference = done.stderr.split("参考号 ")[1].split("）")[0]
    found = json.loads(service.cardctl("events", "--reference", reference, "--format", "json").stdout)
    assert [event["kind"] for event in found] == ["rejected"]
    unknown = opens("0" * 32, KADUN_LANGUAGE="en")
    assert unknown.returncode == 3
    assert unknown.stderr.startswith("There is no such card. Please check that it was typed correctly (reference ")


def test_a_certificate_of_nobody_is_refused_and_so_is_a_server_that_is_away(opens: Open, tmp_path: Path) -> None:
    unknown = opens("0" * 32, KADUN_CA="")
    away = opens("0" * 32, KADUN_URL="https://127.0.0.1:1")
    for done in (unknown, away):
        assert (done.returncode, done.stdout) == (1, "")
        assert "无法连接验证服务器" in done.stderr
