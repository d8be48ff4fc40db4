"""The conformance kit: the SDK passes, and a client that omits a check fails exactly the cases for that check."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kadun_conformance.__main__ import main
from kadun_conformance.cases import FORGED, GENUINE
from kadun_conformance.client_under_test import python_sdk, with_limit
from kadun_conformance.forger import Vendor
from kadun_conformance.runner import ACCEPTED, HABITS, REFUSED, Limits, Result, Runner
from kadun_conformance.server import serving

from tests.support.client.faulty_client import Crowd, FaultyClient
from tests.support.processes import is_alive
from tests.support.tables import for_each

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kadun_conformance.case import Case
    from kadun_conformance.client_under_test import ClientUnderTest, Finished
    from kadun_conformance.server import CaseServer

ROOT = Path(__file__).resolve().parents[3]
QUICK = [case for case in FORGED if not case.group.endswith("bounds")]
STALLING = [case for case in FORGED if case not in QUICK and case.expected == "unreachable"]
ERRORS = {"untrusted": "UntrustedAnswer: ", "unreachable": "ServerUnreachable: ", "rejected": "CardRejected: "}
LONG_SECONDS = 120.0
Kit = "Callable[..., subprocess.CompletedProcess[str]]"
KIT = [sys.executable, "-m", "kadun_conformance"]
SOURCES = os.pathsep.join(str(ROOT / name / "src") for name in ("conformance", "client"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": SOURCES, "PYTHONUTF8": "1"}


def kit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KIT, *arguments], env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=120, check=False
    )


@pytest.fixture
def kit_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kit:
    """The kit's command line in this process."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "*")  # the kit sets them itself; put back at the end

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            status = main(arguments)
        except SystemExit as usage:
            status = int(usage.code or 0)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, told.out, told.err)

    return run


def tried(
    client: ClientUnderTest,
    folder: Path,
    forged: Iterable[Case],
    *,
    genuine: Iterable[Case] = GENUINE,
    client_seconds: float = LONG_SECONDS,
    limit_seconds: float = LONG_SECONDS,
) -> dict[str, Result]:
    """Run cases in this process, with limits that no load of the machine reaches, unless a case needs shorter ones."""
    runner = Runner(Vendor(), client, folder, Limits(client_seconds, limit_seconds))
    return {result.name: result for result in runner.run_all(genuine, forged, jobs=8)}


class CrowdRunner(Runner):
    """Runs cases against a crowd."""

    def __init__(self, crowd: Crowd, folder: Path) -> None:
        super().__init__(Vendor(), crowd, folder, Limits(LONG_SECONDS, LONG_SECONDS))
        self._crowd = crowd
        self.failures: dict[str, dict[str, str]] = defaultdict(dict)
        """By the client's name and the case's."""

    def _outcome(self, case: Case, finished: Finished, server: CaseServer) -> tuple[str, str]:
        for name, its in self._crowd.finished[server.url].items():
            outcome, _ = super()._outcome(case, its, server)
            if outcome != (ACCEPTED if case.genuine else REFUSED):
                self.failures[name][case.name] = outcome
        return super()._outcome(case, finished, server)


def failures(results: dict[str, Result]) -> dict[str, str]:
    return {name: result.outcome for name, result in results.items() if not result.passed}


def test_the_sdk_refuses_every_forged_response_with_the_expected_error(tmp_path: Path) -> None:
    """All but those that stall until a time-out, in 5 seconds each."""
    results = tried(python_sdk(), tmp_path, [case for case in FORGED if case not in STALLING])
    assert len(results) == len(FORGED) - len(STALLING) + len(GENUINE) + len(HABITS) >= 300
    assert_refused(results)


@pytest.mark.nightly
def test_the_sdk_gives_up_what_stalls_with_the_expected_error(tmp_path: Path) -> None:
    results = tried(python_sdk(), tmp_path, STALLING, genuine=(), client_seconds=5)
    assert set(results) >= {case.name for case in STALLING}
    assert_refused(results)


def assert_refused(results: dict[str, Result]) -> None:
    assert [result for result in results.values() if not result.passed or result.outcome == "untested"] == []
    forged = [case for case in FORGED if case.name in results]
    assert [case.name for case in forged if not results[case.name].note.startswith(ERRORS[case.expected])] == []


@pytest.mark.nightly
@pytest.mark.usefixtures("unmeasured")
def test_a_client_with_every_check_passes(tmp_path: Path) -> None:
    assert failures(tried(FaultyClient(), tmp_path, QUICK)) == {}


def begins(*prefixes: str) -> set[str]:
    return {case.name for case in QUICK if case.name.startswith(prefixes)}


# The faults of a client, and every case that it then fails.
EXACTLY: dict[str, set[str]] = {
    "nonce": {*begins("nonce-"), "replayed-first-try", "no-nonce-other"},
    "request": {"request-other"},
    "sub": {*begins("sub-"), "no-sub-other"},
    "function hardware": begins("function-", "hardware-"),
    "aud iss": begins("aud-", "iss-"),
    # Infinity and NaN are not JSON.
    "exp parts": {*begins("exp-", "iat-"), "four-parts", "trailing-dot"} - {"exp-infinite", "exp-nan"},
    "code": {*begins("code-"), "accepted-false"},
    "accepted": {*begins("accepted-text", "accepted-1"), "accepted-list"},
    "typ": begins("typ-", "endorsed-typ-") - {"typ-text", "typ-html"},
    "alg": begins("alg-absent", "alg-name-case", "alg-case", "alg-es256", "alg-ed25519", "alg-list", "alg-none-signed"),
    "none": {*begins("alg-na", "alg-none"), "alg-absent", "endorsed-none", "no-unsigned"},
    "hs256": {"hs256-raw", "endorsed-hs256"},
    "kid": {*begins("kid-absent", "kid-n", "kid-proto"), "wrong-pinned-key", "endorsed-by-other-pinned"}
    - {"kid-no-thumbprint"},
    "jwk thumbprint": {"jwk-in-header", "jwk-without-kid", "kid-no-thumbprint", "kid-of-another"},
    "endorsed-aud clear": begins("endorsed-aud", "key-clear"),
    "endorsed-iss": {"endorsed-iss"},
    "words": begins("no-", "update-") - {"no-with-key", "no-said-as-yes", "update-with-key"},
}


# The same, of those that ask in another way.
EXACTLY_ASKING: dict[str, set[str]] = {
    "nonce same-key request": {*begins("nonce-", "replayed", "request-"), "no-nonce-other", "public-key-repeated"},
    "same-nonce": {"nonce-other", "replayed-first-try", "no-nonce-other", "nonce-repeated"},
    "redirects": {*begins("redirect-3"), "nonce-repeated"},
}
# Fundamental faults, and some of the many cases that a client with them fails.
AT_LEAST: dict[str, set[str]] = {
    "signature": {"wrong-key", "unsigned", "zero-signature", "spliced", "malleated", "endorsed-by-stranger"},
    "set": {"key-set-own", "endorsed-by-itself", "chain-broken-link", "chain-absent", "kid-pinned-replaced"},
    "json": {"twice-no-then-yes", "twice-nonce-last", "twice-alg", "endorsed-twice-jwk"},
    "base64": {"padded", "spare-bits", "endorsed-padded"},
    "crit": {"crit", "b64-false", "endorsed-crit"},
}


@pytest.mark.nightly
@pytest.mark.usefixtures("unmeasured")
def test_a_client_without_a_check_fails_exactly_its_cases(tmp_path: Path) -> None:
    runner = CrowdRunner(
        Crowd({faults: FaultyClient(*faults.split()) for faults in ["", *EXACTLY, *AT_LEAST]}), tmp_path
    )
    assert len(list(runner.run_all(GENUINE, QUICK, jobs=8))) > len(QUICK) >= 250
    for faults, cases in EXACTLY.items():
        assert runner.failures[faults] == dict.fromkeys(cases, ACCEPTED), faults
    for fault, some in AT_LEAST.items():
        assert some <= set(runner.failures[fault]), fault
    assert runner.failures[""] == {}


@pytest.mark.nightly
@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("faults", EXACTLY_ASKING)
def test_a_client_that_asks_wrongly_fails_exactly_its_cases(faults: str, tmp_path: Path) -> None:
    results = tried(FaultyClient(*faults.split()), tmp_path, QUICK)
    assert failures(results) == dict.fromkeys(EXACTLY_ASKING[faults], ACCEPTED)


@pytest.mark.nightly
def test_a_client_without_limits_reads_everything_and_hangs(tmp_path: Path) -> None:
    endless = [case for case in FORGED if case.name == "drip-body"]
    finite = [case for case in FORGED if case.name in ("oversized", "half")]
    assert failures(tried(Hanging(), tmp_path, finite)) == {"oversized": "accepted"}
    results = tried(Hanging(), tmp_path, endless, genuine=(), limit_seconds=2)
    assert failures(results) == {"drip-body": "hung"}


class Hanging(FaultyClient):
    """Without limits; the kit has to give it up."""

    def __init__(self) -> None:
        super().__init__("bounds")

    def __call__(self, settings: Any, limit_seconds: float) -> Any:
        return with_limit(lambda: super(Hanging, self).__call__(settings, limit_seconds), limit_seconds)


@pytest.mark.nightly
@pytest.mark.usefixtures("unmeasured")
def test_cases_that_forge_the_sealed_key_are_untested_if_the_client_asks_for_it_in_clear(tmp_path: Path) -> None:
    results = tried(FaultyClient("asks-clear"), tmp_path, QUICK)
    untried = {name for name, result in results.items() if result.outcome == "untested"}
    assert failures(results) == {}
    assert untried == {*begins("sealed-", "key-clear"), "public-key-repeated"}


def well_formed(**changes: Any) -> bytes:
    request = {"card_id": "x", "hardware": "x", "function": "x", "nonce": "A" * 16, **changes}
    return json.dumps(request).encode()


def command(code: str, *options: str) -> list[str]:
    return ["--only", "nonce-other", "--format", "json", *options, "--", sys.executable, "-c", code]


@for_each(
    "code, outcomes, note",
    [
        ("raise SystemExit(0)", ["refused", "accepted"], "no request arrived"),
        ("raise SystemExit('no')", ["refused", "untested"], "no request arrived"),
        ("import os; os.abort()", ["crashed", "crashed"], "signal 6"),
        (
            "import os, urllib.request as r; r.urlopen(os.environ['KADUN_URL'] + '/v1/verify', b'{}', timeout=5)",
            ["refused", "untested"],
            "card_id must be a string of 1 to 64 characters.",
        ),
    ],
)
def test_the_exit_status_of_a_command_decides(code: str, outcomes: list[str], note: str, kit_here: Kit) -> None:
    done = kit_here(*command(code))
    found = json.loads(done.stdout)
    rows = found["results"][:2]
    assert done.returncode == 1
    assert (found["summary"]["forged"], found["summary"]["genuine"]) == (3, 1)
    assert [row["outcome"] for row in rows] == outcomes
    assert note in rows[0]["note"]


@pytest.mark.nightly
def test_a_hanging_command_is_killed_with_its_children_and_reported(tmp_path: Path) -> None:
    noted = tmp_path / "child"
    script = f"sleep 600 & echo $! > '{noted}'; wait"
    done = kit("--only", "honest", "--format", "json", "--timeout", "5", "--", "/bin/sh", "-c", script)
    row = json.loads(done.stdout)["results"][0]
    assert done.returncode == 1
    assert (row["outcome"], row["status"], row["note"]) == ("hung", None, "still running after 5 s")
    assert not is_alive(int(noted.read_text()))


def test_a_command_receives_its_settings_as_arguments_and_as_variables(tmp_path: Path) -> None:
    noted = tmp_path / "noted.json"
    code = (
        "import json, os, pathlib, sys\n"
        "files = json.load(open(sys.argv[2])), open(sys.argv[6], 'rb').read(21).decode(), os.listdir(sys.argv[7])\n"
        f"pathlib.Path({str(noted)!r}).write_text(json.dumps([sys.argv[1:], dict(os.environ), files]))"
    )
    names = ("url", "keys", "card", "function", "hardware", "core", "state", "timeout_seconds")
    kit("--only", "honest", *command(code)[2:], *(f"{{{name}}}" for name in names), "{other}", "--card={card}")
    arguments, environment, (keys, core, state) = json.loads(noted.read_text())
    told = {name: environment[f"KADUN_{name.upper()}"] for name in names}
    assert arguments == [*told.values(), "{other}", f"--card={told['card']}"]
    assert told["url"].startswith("http://127.0.0.1:")
    assert (told["function"], told["timeout_seconds"]) == ("打开程序", "5")
    assert (keys["iss"], len(keys["keys"]), core, state) == ("kadun-conformance", 2, "age-encryption.org/v1", [])


def test_the_sdk_passes_as_a_command_too() -> None:
    done = kit("--only", "nonce-other", "--", sys.executable, "-m", "kadun_conformance.adapter")
    assert (done.returncode, done.stderr) == (0, "")
    assert "伪造响应 3 种：接受 0" in done.stdout
    assert "3 forged responses: 0 accepted" in done.stdout


@pytest.mark.nightly
def test_a_client_that_prints_the_core_data_has_accepted_whatever_its_exit_status(tmp_path: Path) -> None:
    class Shy(FaultyClient):
        def __call__(self, settings: Any, limit_seconds: float) -> Any:
            finished = super().__call__(settings, limit_seconds)
            return type(finished)(1 if finished.output else finished.status, finished.output)

    results = tried(Shy("sub"), tmp_path, [case for case in FORGED if case.name.startswith("sub-")])
    assert set(failures(results)) == begins("sub-")


@pytest.mark.nightly
def test_a_client_that_exits_with_0_and_prints_nothing_fails(tmp_path: Path) -> None:
    class Boastful(FaultyClient):
        def __call__(self, settings: Any, limit_seconds: float) -> Any:
            finished = super().__call__(settings, limit_seconds)
            return type(finished)(finished.status, b"")

    found = failures(tried(Boastful(), tmp_path, []))
    assert set(found.values()) == {"refused"}
    assert set(found) == {case.name for case in GENUINE if case.expected == "opened"}


@for_each("arguments", [["--only", "nonsense"], ["--serve", "nonsense"], ["--jobs", "0"], ["--", "/no/such/program"]])
def test_invalid_options_exit_with_2(arguments: list[str], kit_here: Kit) -> None:
    done = kit_here(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@for_each(
    "body, complaint",
    [
        (b"\xff", "the body is not a JSON object in UTF-8."),
        (b"[]", "the body is not a JSON object in UTF-8."),
        (well_formed(hardware=""), "hardware must be a string of 1 to 1024 characters."),
        (well_formed(function=1), "function must be a string of 1 to 64 characters."),
        (well_formed(nonce="short"), "nonce must be 16 to 64 characters of base64url."),
        (well_formed(extra=1), "unknown fields: 'extra'."),
        *[
            (well_formed(version=version), "version must be dotted numbers, at most 32 characters.")
            for version in ("", "1.", "v1", "1" * 33, 1.4)
        ],
        (well_formed(client_public_key="AA"), "client_public_key must be 43 characters of base64url"),
        (well_formed(client_public_key="A" * 43 + "="), "client_public_key must be 43 characters of base64url"),
    ],
)
def test_a_malformed_request_is_refused_as_by_the_genuine_server(body: bytes, complaint: str) -> None:
    with serving(Vendor(), GENUINE[0]) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        connection.request("POST", "/v1/verify", body)
        answer = connection.getresponse()
        problem = json.loads(answer.read())
        connection.close()
    assert (answer.status, problem["code"]) == (400, "INVALID_REQUEST")
    assert problem["detail"].startswith(complaint)
    assert (server.requests, server.problems) == ([], [problem["detail"]])


def test_every_case_has_a_description_in_both_languages(kit_here: Kit) -> None:
    cases = (*GENUINE, *FORGED)
    assert kit_here("--list").stdout.splitlines() == [f"{case.name:<28} {case.about}" for case in cases]
    assert len({case.name for case in cases}) == len(cases)
    assert all(any("\u4e00" <= letter <= "\u9fff" for letter in case.zh) and case.en for case in cases)


def test_the_old_command_says_where_the_kit_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kadun.hostile"], env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("python -m kadun_conformance") == 2


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "status"), [("honest", 0), ("nonce-other", 1)])
def test_one_case_can_be_served(name: str, status: int) -> None:
    with subprocess.Popen([*KIT, "--serve", name], env=ENVIRONMENT, stdout=subprocess.PIPE, encoding="utf-8") as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(f"{name}: ")
        told = dict(server.stdout.readline().rstrip("\n").split("=", 1) for _ in range(8))
        assert told["KADUN_FUNCTION"] == "打开程序"
        adapter = [sys.executable, "-m", "kadun_conformance.adapter"]
        done = subprocess.run(adapter, env={**ENVIRONMENT, **told, "NO_PROXY": "*"}, capture_output=True, check=False)
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    assert done.returncode == status, done.stderr
    assert done.stdout.startswith(b"kadun_conformance core data") is (status == 0)
