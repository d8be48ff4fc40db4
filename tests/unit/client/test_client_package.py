"""The package as a vendor's program sees it, its guide, and `python -m kadun seal`.

Every block of code in docs/client.md runs, and every command there exists; tests/unit/system/test_documents.py compares
it with its Chinese twin.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kadun
import pyrage
import pytest
from kadun import Secret
from kadun.__main__ import main
from kadun.sealing import unseal

from app.cli.main import cardctl
from tests.support.client import fakes
from tests.support.client.fakes import CARD, CORE, FakeServer, SigningKey, card_status, full_disk, left_in, pinned
from tests.support.client.local_http import Handler, forged, serving
from tests.support.services.pki import Issued

SOURCE = Path(kadun.__file__).parent
ROOT = Path(__file__).resolve().parents[3]
IDENTITY = pyrage.x25519.Identity.generate()


def test_every_error_is_a_kadun_error() -> None:
    errors = [value for value in vars(kadun).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(errors) >= 7
    assert all(issubclass(error, kadun.KadunError) for error in errors)


@pytest.mark.parametrize("platform", ["win32", pytest.param("darwin", marks=pytest.mark.nightly)])
def test_its_types_hold_on_every_platform(platform: str, tmp_path: Path) -> None:
    # With a cache of its own: mypy throws away what it knows whenever the platform changes.
    command = [sys.executable, "-m", "mypy", "--platform", platform, "--cache-dir", str(tmp_path), str(SOURCE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def core(tmp_path: Path) -> Path:
    path = tmp_path / "核心.dat"
    path.write_bytes(CORE)
    return path


def seal(source: Path, target: Path, recipient: str = f" {IDENTITY.to_public()}\n") -> int:
    """The exit status of the command line in this process."""
    try:
        return main(["seal", str(source), "-o", str(target), "--recipient", recipient])
    except SystemExit as usage:
        return int(usage.code or 0)


def test_what_it_seals_opens_with_the_key_and_replaces_an_older_output(
    core: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "核心.dat.age"
    target.write_bytes(b"old")
    assert seal(core, target) == 0
    sealed = target.read_bytes()
    assert sealed.startswith(b"age-encryption.org/v1\n")
    assert CORE not in sealed
    assert unseal(sealed, Secret(str(IDENTITY))) == CORE
    assert target.stat().st_mode & 0o777 == 0o644
    core.write_bytes(bytes(200_000))
    with full_disk(65_536):
        assert seal(core, target) == 1
    assert re.fullmatch("失败 / failed: .*File too large.*\n", capsys.readouterr().err)
    assert target.read_bytes() == sealed
    assert left_in(tmp_path) == [core.name, target.name]


def test_it_does_not_seal_onto_the_source_to_what_is_no_recipient_or_where_files_cannot_be_used(
    core: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, link, symlink = tmp_path / "out", tmp_path / "link", tmp_path / "symlink"
    os.link(core, link)
    symlink.symlink_to(core)
    before = left_in(tmp_path)
    for target in (core, link, symlink):
        assert seal(core, target) == 2, target
        assert "same file" in capsys.readouterr().err
    for text in ("", "age1", "age1xyz", "ssh-ed25519 AAAA", "卡密", str(IDENTITY)):
        assert seal(core, out, text) == 2, text
        errors = capsys.readouterr().err
        assert ("age1…" in errors, "SECRET" in errors) == (True, text == str(IDENTITY))
        assert str(IDENTITY)[20:] not in errors  # logs and screens keep what is printed
    for source, target in ((tmp_path / "missing", out), (tmp_path, out), (core, out / "below"), (core, tmp_path)):
        assert seal(source, target) == 1, (source, target)
        assert re.fullmatch("失败 / failed: .*\n", capsys.readouterr().err)
    assert core.read_bytes() == CORE
    assert left_in(tmp_path) == before


DOCUMENT = ROOT / "docs" / "client.md"
README = ROOT / "client" / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODEL, RATES = b"the model", {"USD": "712.00"}
URL = "https://example.com/下载?v=1.10"


class Scene:
    """The vendor's server, with all that the document asks it for."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.addresses: dict[str, str] = {}
        self.names: dict[str, Any] = {
            "__file__": str(Path.cwd() / "program.py"),
            "input": lambda _prompt: CARD,
            "run_the_program": lambda: None,
        }
        server.data_key = str(IDENTITY)
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
            claims["result"] = RATES

    def respond(self, handler: Handler, body: bytes) -> None:
        """Answer as the fake server, with the one file that it offers, and self-service."""
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
    Path("core.dat.age").write_bytes(pyrage.encrypt(CORE, [IDENTITY.to_public()]))
    with serving(scene.respond) as plain, serving(scene.respond, tmp_path / "server.pem") as private:
        scene.addresses = {"https://card.example.com": plain.url, "https://192.0.2.10": private.url}
        yield scene
    sys.modules.pop("pinned", None)


@pytest.mark.parametrize("document", [DOCUMENT, README], ids=lambda path: path.name)
def test_all_the_python_runs(document: Path, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.run(document)
    assert scene.names["core"] == CORE
    asked = [request["function"] for request in scene.server.requests]
    assert "导出报表" in asked
    if document is README:
        return
    assert scene.names["rates"] == RATES
    assert Path("model.bin").read_bytes() == MODEL
    for latest, offer in (("1.3", ""), ("1.4.0", ""), ("1.10", f"新版本 1.10：{URL}\n")):  # newer ones only
        capsys.readouterr()
        scene.server.tweak = fakes.setting(notice="今晚维护", latest_version=latest, update_url=URL)
        scene.run(document, "except UpdateRequired")
        assert capsys.readouterr().out == f"今晚维护\n{offer}"
    for code, block, shown in (
        ("UPDATE_REQUIRED", "except UpdateRequired", URL),
        ("CARD_EXPIRED", "sys.exit(failure.message)", "卡密已过期"),
    ):
        scene.server.tweak = fakes.reject(code, update_url=URL)
        with pytest.raises(SystemExit, match=re.escape(shown)):
            scene.run(document, block)


def test_every_command_exists(scene: Scene) -> None:
    text = DOCUMENT.read_text("utf-8")
    lines = [line for language, block in FENCE.findall(text) if language == "sh" for line in block.splitlines()]
    Path("core.dat").write_bytes(CORE)
    for line in {*lines, *re.findall(r"`(scripts/cardctl [^`…]+)", text)}:
        words = shlex.split(line.replace("age1…", str(IDENTITY.to_public())))
        if words[0] == "scripts/cardctl":
            command: Any = cardctl
            del words[0]
            while isinstance(command, click.Group) and not words[0].startswith("-"):
                command = command.get_command(click.Context(command), words.pop(0))
            options = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= options, line
        elif words[:3] == ["python", "-m", "kadun"]:
            assert main(words[3:]) == 0
            assert pyrage.decrypt(Path("core.dat.age").read_bytes(), [IDENTITY]) == CORE


def test_both_languages_of_the_example_have_the_same_texts_with_the_same_values() -> None:
    found: dict[str, Any] = {}
    exec((ROOT / "examples/desk/texts.py").read_text("utf-8"), found)  # noqa: S102 - our own file
    chinese, english = found["TEXTS"]["zh"], found["TEXTS"]["en"]
    assert chinese.keys() == english.keys()
    assert all(text.count("{") == english[name].count("{") for name, text in chinese.items())
