"""The conformance kit: what a client prints, how it ends and asks for decide; and the test vectors of its table."""

import base64
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kadun import Secret, UnsealFailed
from kadun.keys import TrustedKeys
from kadun.request import OPEN, VerificationRequest
from kadun.sealing import KeyPair, unseal
from kadun_conformance.__main__ import main

from tests.support.services.processes import is_alive
from tests.support.services.service import wait_for
from tests.support.tables import for_each
from tests.vectors import generate

Kit = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


ROOT = Path(__file__).resolve().parents[3]
SOURCES = os.pathsep.join(str(ROOT / "client" / name) for name in ("src", "conformance/src"))
ADAPTER = "from kadun_conformance import adapter; adapter.main(); sys.stdout.flush()"
REQUEST = {"card_id": "x", "hardware": "x", "function": "x", "nonce": "A" * 16, "client_public_key": "A" * 43}


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    """The kit's command line in this process: its exit status, and its results by name."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")  # the kit sets them itself; put back at the end
    monkeypatch.setenv("PYTHONPATH", SOURCES)

    def run(*arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
        status = main(["--format", "json", *arguments])
        return status, {row["name"]: row for row in json.loads(capsys.readouterr().out)}

    return run


def posting(request: object, then: str) -> str:
    url = "os.environ['KADUN_URL'] + '/v1/verify'"
    return f"import os, urllib.request as r; r.urlopen({url}, {json.dumps(request).encode()!r}, timeout=60); {then}"


@for_each(
    "code, outcomes, note",
    [
        ("raise SystemExit('no')", ["refused", "refused"], "no request arrived"),
        ("import os; os.abort()", ["crashed", "crashed"], "signal 6"),
        (posting([], ""), ["refused", "refused"], "the body is not a JSON object in UTF-8"),
        (posting({**REQUEST, "nonce": "short"}, ""), ["refused", "refused"], "nonce must be a string"),
        (posting({**REQUEST, "client_public_key": None}, ""), ["refused", "refused"], "client_public_key must be a"),
        (posting({**REQUEST, "extra": 1}, ""), ["refused", "refused"], "'extra' is no field of a request"),
        (posting(REQUEST, "raise SystemExit('no')"), ["refused", "refused"], "no"),
        (posting(REQUEST, ""), ["refused", "accepted"], "the unsealed core data was not printed"),
        (posting(REQUEST, "raise SystemExit(3)"), ["refused", "accepted"], ""),
        (f"import sys; {ADAPTER}; sys.exit(1)", ["accepted", "refused"], ""),  # it showed the core data
    ],
)
def test_the_exit_status_the_output_and_the_requests_of_a_command_decide(
    code: str, outcomes: list[str], note: str, kit: Kit
) -> None:
    _status, rows = kit("--only", "nonce-other", "--", sys.executable, "-c", code)
    assert [rows[name]["outcome"] for name in ("honest", "nonce-other")] == outcomes
    assert note in rows["honest"]["note"]
    repeated = code.startswith(posting(REQUEST, ""))  # the same nonce and key in each request
    assert [rows[f"{name}-repeated"]["passed"] for name in ("nonce", "public-key")] == [not repeated] * 2


def test_a_hanging_command_is_killed_with_its_children_and_reported(tmp_path: Path, kit: Kit) -> None:
    noted = tmp_path / "child"
    script = f"sleep 600 & echo $! > '{noted}'; wait"
    status, rows = kit("--only", "honest", "--timeout", "3", "--", "/bin/sh", "-c", script)
    assert (status, rows["honest"]["outcome"], rows["honest"]["status"]) == (1, "hung", None)
    wait_for(lambda: not is_alive(int(noted.read_text())))  # init collects it


def test_a_command_receives_its_settings_as_arguments_and_as_variables(tmp_path: Path, kit: Kit) -> None:
    noted = tmp_path / "noted.json"
    code = (
        "import json, os, pathlib, sys\n"
        "files = json.load(open(sys.argv[2])), open(sys.argv[6], 'rb').read(21).decode(), os.listdir(sys.argv[7])\n"
        f"pathlib.Path({str(noted)!r}).write_text(json.dumps([sys.argv[1:], dict(os.environ), files]))"
    )
    names = ("url", "keys", "card", "function", "hardware", "core", "state", "timeout_seconds")
    placeholders = [*(f"{{{name}}}" for name in names), "{other}", "--card={card}"]
    kit("--only", "honest", "--", sys.executable, "-c", code, *placeholders)
    arguments, environment, (keys, core, state) = json.loads(noted.read_text())
    told = {name: environment[f"KADUN_{name.upper()}"] for name in names}
    assert arguments == [*told.values(), "{other}", f"--card={told['card']}"]
    assert told["url"].startswith("http://127.0.0.1:")
    assert (told["function"], told["timeout_seconds"]) == ("打开程序", "5")
    assert (keys["iss"], len(keys["keys"]), core, state) == ("kadun-conformance", 2, "age-encryption.org/v1", [])


def test_the_sdk_passes_and_one_case_can_be_served(kit: Kit, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("honest-no-card-frozen", "replayed", "redirect-307", "no-by-stranger")
    status, rows = kit(*(word for name in names for word in ("--only", name)))
    assert (status, len(rows)) == (0, len(names) + 3)  # with `honest` and the two habits
    assert main(["--only", "honest"]) == 0
    assert "2 forged responses: 0 not refused; 1 genuine responses: 0 not accepted" in capsys.readouterr().out
    served = [sys.executable, "-m", "kadun_conformance", "--serve", "honest"]
    with subprocess.Popen(served, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("honest: ")
        told = dict(server.stdout.readline().rstrip("\n").split("=", 1) for _ in range(8))
        adapter = [sys.executable, "-m", "kadun_conformance.adapter"]
        opened = subprocess.run(adapter, env={**os.environ, **told}, capture_output=True, check=False)
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert opened.stdout.startswith(b"kadun_conformance core data"), opened.stderr


def test_invalid_options_exit_with_2() -> None:
    for arguments in (["--only", "nonsense"], ["--serve", "nonsense"], ["--", "/no/such/program"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)


FROZEN = {
    "age-files.json": "139725229a497c3b519746ef33678cdd24592257fb6adb40c7b2c06faad8c312",
    "keys.json": "b2906ee3d7bd03544b9b7de5a8ae6581fa6831282a5fdeb5f91ae47db5e46e44",
    "requests.json": "eaffeadc2f7fde8ae591f819280bbbe78fe56b7b7dbdaa46c2bd04d9280c4583",
    "sealed-keys.json": "de782ec286dae0bc9e6ae05a1a2377a99057a761698029a107abd94325e9ec7e",
}
Vector = dict[str, Any]


def read(name: str) -> Any:
    return json.loads((generate.FOLDER / name).read_text("utf-8"))


def test_the_files_are_what_the_table_of_cases_makes() -> None:
    for name, text in generate.documents().items():
        assert (generate.FOLDER / name).read_text("utf-8") == text, f"run python -m tests.vectors.generate: {name}"
    for name, digest in FROZEN.items():
        assert hashlib.sha256((generate.FOLDER / name).read_bytes()).hexdigest() == digest, name


def test_keys_and_hardware_strings_have_the_digests_of_the_vectors() -> None:
    for vector in read("keys.json"):
        assert vector["thumbprint"] in TrustedKeys({"iss": "kadun", "keys": [vector["jwk"]]}), vector
    for vector in read("requests.json"):
        request = VerificationRequest("card", vector["hardware"], OPEN, "nonce", None)
        assert request.hardware_sha256 == vector["hardware_sha256"], vector


@for_each("vector", read("sealed-keys.json"))
def test_a_sealed_key_opens(vector: Vector) -> None:
    secret = Secret(json.dumps({"x": vector["client_public_key"], "d": vector["client_private_key"]}))
    key_pair = KeyPair.from_secret(secret)
    assert key_pair is not None
    assert key_pair.public_key == vector["client_public_key"]
    assert key_pair.open(vector["jwe"]).reveal() == vector["plaintext"]


@for_each("vector", read("age-files.json"))
def test_an_age_file_opens_or_is_refused(vector: Vector) -> None:
    sealed, key = base64.b64decode(vector["file_base64"]), Secret(vector["data_key"])
    if vector["expected"] == "refused":
        with pytest.raises(UnsealFailed):
            unseal(sealed, key)
    else:
        core = unseal(sealed, key)
        digest = hashlib.sha256(core).hexdigest()
        assert (len(core), digest) == (vector["plaintext_bytes"], vector["plaintext_sha256"])
