"""The conformance kit: the SDK passes, and a client with a fault fails exactly the cases of that fault."""

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
from kadun.tokens import Claims
from kadun_conformance.__main__ import main
from kadun_conformance.cases import FORGED, GENUINE
from kadun_conformance.client_under_test import Finished, python_sdk
from kadun_conformance.forger import Vendor
from kadun_conformance.runner import ACCEPTED, HABITS, REFUSED, Limits, Result, Runner
from kadun_conformance.server import serving

from tests.support.client.timing import LONG_SECONDS
from tests.support.processes import is_alive
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kadun_conformance.case import Case
    from kadun_conformance.client_under_test import ClientUnderTest, Settings

    Kit = Callable[..., subprocess.CompletedProcess[str]]

ROOT = Path(__file__).resolve().parents[3]
STALLING = [case for case in FORGED if case.group.endswith("bounds") and case.expected == "unreachable"]
NOTES = {"untrusted": "UntrustedAnswer: ", "unreachable": "ServerUnreachable: ", "rejected": "CardRejected: "}
SOURCES = os.pathsep.join(str(ROOT / name / "src") for name in ("conformance", "client"))
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


def tried(
    folder: Path,
    forged: Iterable[Case],
    client: ClientUnderTest,
    genuine: Iterable[Case] = GENUINE[:1],
    vendor: Vendor | None = None,
) -> dict[str, Result]:
    """Run cases in this process, with limits that no load of the machine reaches."""
    runner = Runner(vendor or Vendor(), client, folder, Limits(LONG_SECONDS, LONG_SECONDS))
    return {result.name: result for result in runner.run_all(genuine, forged, jobs=8)}


def failures(results: dict[str, Result]) -> dict[str, str]:
    return {name: result.outcome for name, result in results.items() if not result.passed}


def test_the_sdk_refuses_every_forged_response_with_the_expected_error(tmp_path: Path) -> None:
    """All but those that stall until a time-out: test_client_faults has these."""
    forged = [case for case in FORGED if case not in STALLING]
    results = tried(tmp_path, forged, python_sdk(), GENUINE)
    assert len(results) == len(forged) + len(GENUINE) + len(HABITS) >= 300
    assert [result for result in results.values() if not result.passed or result.outcome == "untested"] == []
    assert [case.name for case in forged if not results[case.name].note.startswith(NOTES[case.expected])] == []


COMPARED = ("nonce", "sub", "function", "hardware_sha256", "request_sha256", "aud", "iss")


@for_each("claim", COMPARED)
def test_a_client_that_does_not_compare_a_claim_fails_exactly_its_cases(
    claim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = Claims.require
    cases = [case for case in FORGED if case.check in COMPARED]
    expected = {case.name for case in cases if case.check == claim} - {"replayed"}  # sealed to an earlier key
    with monkeypatch.context() as patched:
        patched.setattr(Claims, "require", lambda self, name, value: name == claim or genuine(self, name, value))
        found = failures(tried(tmp_path, cases, python_sdk()))
    assert found == dict.fromkeys(expected, ACCEPTED)


def test_a_client_that_repeats_its_nonce_fails_the_habits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kadun.request.secrets.token_urlsafe", lambda _bytes: "A" * 32)
    assert failures(tried(tmp_path, [], python_sdk(), GENUINE))["nonce-repeated"] == ACCEPTED


def test_what_a_client_prints_counts_beside_its_exit_status(tmp_path: Path) -> None:
    sdk, vendor = python_sdk(), Vendor()

    def shy(settings: Settings, limit_seconds: float) -> Finished:
        sdk(settings, limit_seconds)
        return Finished(1, vendor.core)

    def boastful(settings: Settings, limit_seconds: float) -> Finished:
        return Finished(sdk(settings, limit_seconds).status, b"")

    nonce = [case for case in FORGED if case.name == "nonce-other"]
    assert failures(tried(tmp_path, nonce, shy, vendor=vendor)) == {"nonce-other": ACCEPTED}
    opened = {case.name: REFUSED for case in GENUINE if case.expected == "opened"}
    assert failures(tried(tmp_path, [], boastful, GENUINE)) == opened


def well_formed(**changes: Any) -> bytes:
    fields = {"card_id": "x", "hardware": "x", "function": "x", "nonce": "A" * 16, **changes}
    return json.dumps(fields).encode()


def posting(body: bytes) -> str:
    url = "os.environ['KADUN_URL'] + '/v1/verify'"
    return f"import os, urllib.request as r; r.urlopen({url}, {body!r}, timeout=60); raise SystemExit('no')"


@for_each(
    "code, outcomes, note",
    [
        ("raise SystemExit(0)", ["refused", "accepted"], "no request arrived"),
        ("raise SystemExit('no')", ["refused", "untested"], "no request arrived"),
        ("import os; os.abort()", ["crashed", "crashed"], "signal 6"),
        (posting(b"{}"), ["refused", "untested"], "card_id must be a string of 1 to 64 characters."),
        (posting(well_formed()), ["refused", "untested"], ""),  # it asks for the key in clear
    ],
)
def test_the_exit_status_and_the_requests_of_a_command_decide(
    code: str, outcomes: list[str], note: str, kit: Kit
) -> None:
    done = kit("--only", "sealed-absent", "--format", "json", "--", sys.executable, "-c", code)
    rows = json.loads(done.stdout)["results"][:2]
    assert done.returncode == 1
    assert [row["outcome"] for row in rows] == outcomes
    assert note in rows[0]["note"]


def test_a_hanging_command_is_killed_with_its_children_and_reported(tmp_path: Path, kit: Kit) -> None:
    noted = tmp_path / "child"
    script = f"sleep 600 & echo $! > '{noted}'; wait"
    done = kit("--only", "honest", "--format", "json", "--timeout", "3", "--", "/bin/sh", "-c", script)
    row = json.loads(done.stdout)["results"][0]
    assert (row["outcome"], row["status"], row["note"]) == ("hung", None, "still running after 3 s")
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


def test_the_sdk_passes_as_a_command_and_one_case_can_be_served() -> None:
    kit = [sys.executable, "-m", "kadun_conformance"]
    adapter = [sys.executable, "-m", "kadun_conformance.adapter"]
    command = [*kit, "--only", "nonce-other", "--", *adapter]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 forged responses: 0 accepted" in done.stdout
    with subprocess.Popen([*kit, "--serve", "honest"], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("honest: ")
        told = dict(server.stdout.readline().rstrip("\n").split("=", 1) for _ in range(8))
        opened = subprocess.run(adapter, env={**ENVIRONMENT, **told}, capture_output=True, check=False)
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert opened.stdout.startswith(b"kadun_conformance core data"), opened.stderr


@for_each("arguments", [["--only", "nonsense"], ["--serve", "nonsense"], ["--jobs", "0"], ["--", "/no/such/program"]])
def test_invalid_options_exit_with_2(arguments: list[str], kit: Kit) -> None:
    done = kit(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@for_each(
    "body, complaint",
    [
        (b"\xff", "the body is not a JSON object in UTF-8."),
        (b"[]", "the body is not a JSON object in UTF-8."),
        (well_formed(hardware=""), "hardware must be a string of 1 to 1024 characters."),
        (well_formed(nonce="short"), "nonce must be 16 to 64 characters of base64url."),
        (well_formed(extra=1), "unknown fields: 'extra'."),
        (well_formed(version="v1"), "version must be dotted numbers, at most 32 characters."),
        (well_formed(client_public_key="A" * 43 + "="), "client_public_key must be 43 characters of base64url"),
    ],
)
def test_a_malformed_request_is_refused_as_by_the_genuine_server(body: bytes, complaint: str) -> None:
    with serving(Vendor(), GENUINE[0]) as server:
        answer = requests.post(f"{server.url}/v1/verify", body, timeout=LONG_SECONDS)
    assert (answer.status_code, answer.json()["code"]) == (400, "INVALID_REQUEST")
    assert answer.json()["detail"].startswith(complaint)
    assert (server.requests, server.problems) == ([], [answer.json()["detail"]])
