"""docs/client.md: every block of code runs, and every command exists.

tests/unit/system/test_documents.py compares its blocks with those of its Chinese twin.
"""

import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pyrage
import pytest
from kadun.__main__ import main

from app.cli.main import cardctl
from tests.support.client.fake_server import CARD, FakeServer, SigningKey, Tweak, card_status, pinned, reject, setting
from tests.support.client.local_http import Handler, forged, serving
from tests.support.services.pki import Issued

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs" / "client.md"
README = ROOT / "client" / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CORE, MODEL, RATES = b"the core data", b"the model", {"USD": "712.00"}
URL = "https://example.com/"


class Scene:
    """The vendor's server, with all that the document asks it for, and the customer's machine."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.identity = pyrage.x25519.Identity.generate()
        self.executing: Tweak = setting(result=RATES)
        self.addresses: dict[str, str] = {}
        self.names: dict[str, Any] = {
            "__file__": str(Path.cwd() / "program.py"),
            "input": lambda _prompt: CARD,
            "run_the_program": lambda: None,
        }
        server.data_key = str(self.identity)
        server.tweak = self.tweak

    def run(self, document: Path, containing: str = "") -> None:
        """Run the Python in the document, from its top to its end."""
        text = document.read_text("utf-8")
        chosen = [found for found in FENCE.finditer(text) if found[1] == "python" and containing in found[2]]
        assert chosen
        for block in chosen:
            # As many lines before it as in the document, so that a traceback names the right one.
            code = "\n" * (text.count("\n", 0, block.start()) + 1) + block[2]
            for written, actual in self.addresses.items():
                code = code.replace(written, actual)
            exec(compile(code, str(document), "exec"), self.names)  # noqa: S102 - our own documents

    def tweak(self, claims: dict[str, Any]) -> None:
        """Add what /v1/files and /v1/execute answer."""
        if self.server.paths[-1] == "/v1/files":
            digest = hashlib.sha256(MODEL).hexdigest()
            claims["files"] = [{"name": "model.bin", "size": len(MODEL), "sha256": digest, "url": "/v1/files/m"}]
        if self.server.paths[-1] == "/v1/execute":
            self.executing(claims)

    def respond(self, handler: Handler, body: bytes) -> None:
        """Answer as the forged server, with the one file that it offers, and self-service."""
        served = {"/v1/files/m": MODEL, **dict.fromkeys(("/v1/self/renew", "/v1/self/unbind"), card_status().body)}
        if handler.path in served:
            handler.send(200, served[handler.path])
        else:
            forged(self.server)(handler, body)


@pytest.fixture
def scene(
    server: FakeServer, signing_key: SigningKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Scene]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    issued, scene = Issued.make("127.0.0.1"), Scene(server)
    Path("server.pem").write_bytes(issued.key_bytes() + issued.pem)
    Path("ca.pem").write_bytes(issued.pem)
    Path("pinned.py").write_text(f"KEYS = {json.dumps(pinned(signing_key))!r}\n", encoding="utf-8")
    Path("core.dat.age").write_bytes(pyrage.encrypt(CORE, [scene.identity.to_public()]))
    with serving(scene.respond) as plain, serving(scene.respond, tmp_path / "server.pem") as private:
        scene.addresses = {"https://card.example.com": plain.url, "https://192.0.2.10": private.url}
        yield scene
    sys.modules.pop("pinned", None)


@pytest.mark.parametrize("document", [DOCUMENT, README], ids=lambda path: path.name)
def test_all_the_python_runs(document: Path, scene: Scene) -> None:
    scene.run(document)
    assert scene.names["core"] == CORE
    asked = [request["function"] for request in scene.server.requests]
    assert "导出报表" in asked
    if document is not README:
        assert scene.names["rates"] == RATES
        assert Path("model.bin").read_bytes() == MODEL
        assert asked.count("打开程序") >= 5


def test_what_the_program_meets_is_shown(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(containing: str) -> str:
        capsys.readouterr()
        scene.run(DOCUMENT, containing)
        return capsys.readouterr().out

    shown("from pinned import KEYS")
    scene.executing = reject("FUNCTION_FAILED")
    assert "FUNCTION_FAILED 服务器执行此功能时出错" in shown("except CoreFunctionError")
    verdict = scene.names["verdict"]
    scene.names["verdict"] = replace(verdict, offline=True, offline_until=verdict.issued_at, card_expires_at=None)
    assert re.fullmatch(r"永久卡\n离线使用，请在 .+ 前联网\n", shown("永久卡"))
    assert shown("except SelfServiceRefused") == "active\n已解绑\n"
    for latest, offer in (("1.3", ""), ("1.4.0", ""), ("1.10", f"新版本 1.10：{URL}\n")):  # newer ones only
        scene.server.tweak = setting(notice="今晚维护", latest_version=latest, update_url=URL)
        assert shown("except UpdateRequired") == f"今晚维护\n{offer}"
    scene.server.tweak = reject("UPDATE_REQUIRED", update_url=URL)
    with pytest.raises(SystemExit, match=re.escape(URL)):
        scene.run(DOCUMENT, "except UpdateRequired")
    scene.server.tweak = reject("CARD_EXPIRED")
    with pytest.raises(SystemExit, match="卡密已过期"):
        scene.run(DOCUMENT, "sys.exit(failure.message)")


def test_every_command_exists(scene: Scene) -> None:
    text = DOCUMENT.read_text("utf-8")
    lines = [line for language, block in FENCE.findall(text) if language == "sh" for line in block.splitlines()]
    Path("core.dat").write_bytes(CORE)
    for line in {*lines, *re.findall(r"`(scripts/cardctl [^`…]+)", text)}:
        words = shlex.split(line.replace("age1…", str(scene.identity.to_public())))
        if words[0] == "scripts/cardctl":
            command: Any = cardctl
            del words[0]
            while isinstance(command, click.Group) and not words[0].startswith("-"):
                command = command.get_command(click.Context(command), words.pop(0))
            options = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= options, line
        elif words[:3] == ["python", "-m", "kadun"]:
            assert main(words[3:]) == 0
            assert pyrage.decrypt(Path("core.dat.age").read_bytes(), [scene.identity]) == CORE
        else:  # tests/e2e does these
            assert words[0] == "pyinstaller" or words[:3] in (["python3", "-m", "venv"], ["pip", "install", "./client"])
