"""The conformance kit: what a client prints, how it ends and what it asks for decide; the SDK passes.

That the SDK refuses each case by its check, and that a client without a check fails, is in test_forged_responses.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from kadun_conformance.__main__ import main
from kadun_conformance.cases import GENUINE
from kadun_conformance.forger import Vendor
from kadun_conformance.server import serving

from tests.support.client.timing import LONG_SECONDS
from tests.support.processes import is_alive
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable

    Kit = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).resolve().parents[3]
SOURCES = os.pathsep.join(str(ROOT / "client" / name) for name in ("src", "conformance/src"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCES, "PYTHONUTF8": "1", "NO_PROXY": "*"}


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    """The kit's command line in this process."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")  # the kit sets them itself; put back at the end
    monkeypatch.setenv("PYTHONPATH", SOURCES)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            status = main(arguments)
        except SystemExit as usage:
            status = int(usage.code or 0)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, told.out, told.err)

    return run


def results(kit: Kit, code: str, *options: str) -> dict[str, dict[str, Any]]:
    """What the kit says of a client: of `honest`, `nonce-other` and the habits, which it must not pass all."""
    done = kit("--only", "nonce-other", "--format", "json", *options, "--", sys.executable, "-c", code)
    assert done.returncode == 1
    return {row["name"]: row for row in json.loads(done.stdout)}


def well_formed(**changes: Any) -> bytes:
    fields = {"card_id": "x", "hardware": "x", "function": "x", "nonce": "A" * 16, "client_public_key": "A" * 43}
    return json.dumps({**fields, **changes}).encode()


def posting(body: bytes, then: str) -> str:
    url = "os.environ['KADUN_URL'] + '/v1/verify'"
    return f"import os, urllib.request as r; r.urlopen({url}, {body!r}, timeout=60); {then}"


@for_each(
    "code, outcomes, note",
    [
        ("raise SystemExit('no')", ["refused", "refused"], "no request arrived"),
        ("import os; os.abort()", ["crashed", "crashed"], "signal 6"),
        (posting(b"{}", ""), ["refused", "refused"], "card_id must be a string"),
        (posting(well_formed(), "raise SystemExit('no')"), ["refused", "refused"], "no"),
        (posting(well_formed(), ""), ["refused", "accepted"], "the unsealed core data was not printed"),
        (posting(well_formed(), "raise SystemExit(3)"), ["refused", "accepted"], ""),
    ],
)
def test_the_exit_status_and_the_requests_of_a_command_decide(
    code: str, outcomes: list[str], note: str, kit: Kit
) -> None:
    rows = results(kit, code)
    assert [rows[name]["outcome"] for name in ("honest", "nonce-other")] == outcomes
    assert note in rows["honest"]["note"]


def test_a_client_that_repeats_its_nonce_and_its_key_fails_the_habits(kit: Kit) -> None:
    rows = results(kit, posting(well_formed(), "raise SystemExit('no')"))
    assert [rows[name]["passed"] for name in ("nonce-repeated", "public-key-repeated")] == [False, False]


def test_a_client_that_shows_the_core_data_has_opened_whatever_its_exit_status(kit: Kit) -> None:
    shy = "import sys; from kadun_conformance import adapter; adapter.main(); sys.stdout.flush(); sys.exit(1)"
    done = kit("--only", "honest", "--", sys.executable, "-c", shy)
    assert done.returncode == 0, done.stdout


def test_a_hanging_command_is_killed_with_its_children_and_reported(tmp_path: Path, kit: Kit) -> None:
    noted = tmp_path / "child"
    script = f"sleep 600 & echo $! > '{noted}'; wait"
    done = kit("--only", "honest", "--format", "json", "--timeout", "3", "--", "/bin/sh", "-c", script)
    row = json.loads(done.stdout)[0]
    assert (row["outcome"], row["status"]) == ("hung", None)
    assert not is_alive(int(noted.read_text()))


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


def test_the_sdk_passes_and_one_case_can_be_served() -> None:
    kit = [sys.executable, "-m", "kadun_conformance"]
    adapter = [sys.executable, "-m", "kadun_conformance.adapter"]
    names = ("honest-no-card-frozen", "replayed", "redirect-307", "no-by-stranger")
    command = [*kit, *(word for name in names for word in ("--only", name))]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 forged responses: 0 not refused; 2 genuine responses: 0 not accepted" in done.stdout
    with subprocess.Popen([*kit, "--serve", "honest"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("honest: ")
        told = dict(server.stdout.readline().rstrip("\n").split("=", 1) for _ in range(8))
        opened = subprocess.run(adapter, env={**ENVIRONMENT, **told}, capture_output=True, check=False)
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert opened.stdout.startswith(b"kadun_conformance core data"), opened.stderr


@for_each("arguments", [["--only", "nonsense"], ["--serve", "nonsense"], ["--", "/no/such/program"]])
def test_invalid_options_exit_with_2(arguments: list[str], kit: Kit) -> None:
    done = kit(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@for_each(
    "body, complaint",
    [
        (b"\xff", "the body is not a JSON object in UTF-8"),
        (b"[]", "the body is not a JSON object in UTF-8"),
        (well_formed(hardware=""), "hardware must be a string"),
        (well_formed(nonce="short"), "nonce must be a string"),
        (well_formed(extra=1), "'extra' is no field of a request"),
        (well_formed(version="v1"), "version must be a string"),
        (well_formed(client_public_key=None), "client_public_key must be a string"),
    ],
)
def test_a_malformed_request_is_refused(body: bytes, complaint: str) -> None:
    with serving(Vendor(), GENUINE[0]) as server:
        answer = requests.post(f"{server.url}/v1/verify", body, timeout=LONG_SECONDS)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert answer.json()["detail"].startswith(complaint)
    assert (server.requests, server.problems) == ([], [answer.json()["detail"]])
