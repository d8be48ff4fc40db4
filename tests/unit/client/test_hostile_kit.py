"""The kit of lies: our own client believes none, and a client that leaves out a check is found out."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kadun.hostile import report
from kadun.hostile.catalog import CONTROLS, LIES
from kadun.hostile.runner import Limits, Result, Trial
from kadun.hostile.stage import playing
from kadun.hostile.subject import bounded
from kadun.hostile.world import Scenario, World

from tests.support.client.gullible import Gullible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kadun.hostile.subject import Subject

SOURCE = Path(__file__).resolve().parents[3] / "client" / "src"
QUICK = [lie for lie in LIES if not lie.group.endswith("bounds")]
KIT = [sys.executable, "-m", "kadun.hostile"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUTF8": "1"}


def kit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*KIT, *arguments], env=ENVIRONMENT, capture_output=True, encoding="utf-8", timeout=120, check=False
    )


def tried(subject: Subject, folder: Path, lies: Iterable[Scenario], limit: float = 5) -> dict[str, Result]:
    trial = Trial(World(), subject, folder, Limits(client=5, run=limit))
    return {result.name: result for result in trial.play_all(CONTROLS, lies, jobs=8)}


def not_fine(results: dict[str, Result]) -> dict[str, str]:
    return {name: result.outcome for name, result in results.items() if not result.fine}


def test_our_own_client_believes_no_lie_and_honours_every_honest_answer() -> None:
    done = kit("--format", "json", "--client-timeout", "2", "--timeout", "30", "--jobs", "8")
    found = json.loads(done.stdout)
    assert [row for row in found["results"] if row["outcome"] not in ("refused", "honoured")] == []
    assert found["summary"]["lies"] == len(LIES) + 2 > 270
    assert found["summary"]["honoured"] == len(CONTROLS)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_client_that_makes_every_check_passes(tmp_path: Path) -> None:
    assert not_fine(tried(Gullible(), tmp_path, QUICK)) == {}


def begins(*prefixes: str) -> set[str]:
    return {lie.name for lie in QUICK if lie.name.startswith(prefixes)}


# What a client leaves out or does amiss, and all that it then believes.
BELIEVED: dict[str, set[str]] = {
    "nonce": {*begins("nonce-"), "replayed-first-try", "no-nonce-other"},
    "nonce same-key": {*begins("nonce-", "replayed"), "no-nonce-other", "public-key-repeated"},
    "same-nonce": {"nonce-other", "replayed-first-try", "no-nonce-other", "nonce-repeated"},
    "sub": {*begins("sub-"), "no-sub-other"},
    "function hardware": begins("function-", "hardware-"),
    "aud iss": begins("aud-", "iss-"),
    # Infinity and NaN are no JSON.
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
    "redirects": {*begins("redirect-3"), "nonce-repeated"},
    "words": begins("no-") - {"no-with-key", "no-said-as-yes"},
}


@pytest.mark.parametrize("follies", BELIEVED)
def test_a_client_that_leaves_out_a_check_is_found_to_believe_exactly_those_lies(follies: str, tmp_path: Path) -> None:
    results = tried(Gullible(*follies.split()), tmp_path, QUICK)
    assert not_fine(results) == dict.fromkeys(BELIEVED[follies], "believed")


@pytest.mark.parametrize(
    ("folly", "some"),
    [
        ("signature", {"wrong-key", "unsigned", "zero-signature", "spliced", "malleated", "endorsed-by-stranger"}),
        ("set", {"key-set-own", "endorsed-by-itself", "chain-broken-link", "chain-absent", "kid-pinned-replaced"}),
        ("json", {"twice-no-then-yes", "twice-nonce-last", "twice-alg", "endorsed-twice-jwk"}),
        ("base64", {"padded", "spare-bits", "endorsed-padded"}),
        ("crit", {"crit", "b64-false", "endorsed-crit"}),
    ],
)
def test_a_client_without_a_check_on_which_much_rests_is_found_out(folly: str, some: set[str], tmp_path: Path) -> None:
    assert some <= set(not_fine(tried(Gullible(folly), tmp_path, QUICK)))


def test_a_client_without_bounds_is_found_to_read_on_and_to_hang(tmp_path: Path) -> None:
    lies = [lie for lie in LIES if lie.name in ("oversized", "drip-body", "half")]
    results = tried(Hanging(), tmp_path, lies, limit=4)
    assert not_fine(results) == {"oversized": "believed", "drip-body": "hung"}


class Hanging(Gullible):
    """Without bounds; and a test does not wait for what has no end."""

    def __init__(self) -> None:
        super().__init__("bounds")

    def __call__(self, settings: Any, limit_seconds: float) -> Any:
        return bounded(lambda: super(Hanging, self).__call__(settings, limit_seconds), limit_seconds)


def test_a_client_that_asks_for_the_key_in_clear_is_told_what_was_not_tried(tmp_path: Path) -> None:
    results = tried(Gullible("asks-clear"), tmp_path, QUICK)
    untried = {name for name, result in results.items() if result.outcome == "untried"}
    assert not_fine(results) == {}
    assert untried == {*begins("sealed-", "key-clear"), "public-key-repeated"}


def well_formed(**changes: Any) -> bytes:
    request = {"card_id": "x", "hardware": "x", "function": "x", "nonce": "A" * 16, **changes}
    return json.dumps(request).encode()


def command(code: str, *options: str) -> list[str]:
    return ["--only", "nonce-other", "--format", "json", *options, "--", sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("code", "outcomes", "note"),
    [
        ("raise SystemExit(0)", ["failed", "believed"], "it never asked"),
        ("raise SystemExit('no')", ["failed", "untried"], "it never asked"),
        ("import os; os.abort()", ["crashed", "crashed"], "signal 6"),
        (
            "import os, urllib.request as r; r.urlopen(os.environ['KADUN_URL'] + '/v1/verify', b'{}', timeout=5)",
            ["failed", "untried"],
            "card_id must be a string of 1 to 64 characters.",
        ),
    ],
)
def test_a_command_is_judged_by_how_it_ends(code: str, outcomes: list[str], note: str) -> None:
    done = kit(*command(code))
    rows = json.loads(done.stdout)["results"][:2]
    assert done.returncode == 1
    assert [row["outcome"] for row in rows] == outcomes
    assert note in rows[0]["note"]


def test_a_hanging_command_is_ended_with_its_children_and_reported(tmp_path: Path) -> None:
    noted = tmp_path / "child"
    code = (
        "import pathlib, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"pathlib.Path({str(noted)!r}).write_text(str(child.pid)); child.wait()"
    )
    done = kit("--only", "honest", *command(code, "--timeout", "2")[2:])
    rows = json.loads(done.stdout)["results"]
    assert done.returncode == 1
    assert [(row["outcome"], row["status"], row["note"]) for row in rows[:1]] == [
        ("hung", None, "still running after 2 s")
    ]
    stat = Path(f"/proc/{noted.read_text()}/stat")
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_a_command_gets_its_settings_as_arguments_and_as_variables(tmp_path: Path) -> None:
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
    assert (keys["iss"], len(keys["keys"]), core, state) == ("kadun-hostile", 2, "age-encryption.org/v1", [])


def test_our_own_client_passes_as_a_command_too() -> None:
    done = kit("--only", "nonce-other", "--", sys.executable, "-m", "kadun.hostile.adapter")
    assert (done.returncode, done.stderr) == (0, "")
    assert "相信 0" in done.stdout
    assert "3 lies: 0 believed" in done.stdout


def test_a_client_that_shows_the_core_data_has_believed_however_it_ends(tmp_path: Path) -> None:
    class Shy(Gullible):
        def __call__(self, settings: Any, limit_seconds: float) -> Any:
            finished = super().__call__(settings, limit_seconds)
            return type(finished)(1 if finished.output else finished.status, finished.output)

    results = tried(Shy("sub"), tmp_path, [lie for lie in LIES if lie.name.startswith("sub-")])
    assert set(not_fine(results)) == begins("sub-")


def test_a_client_that_says_it_opened_and_shows_nothing_has_failed(tmp_path: Path) -> None:
    class Boastful(Gullible):
        def __call__(self, settings: Any, limit_seconds: float) -> Any:
            finished = super().__call__(settings, limit_seconds)
            return type(finished)(finished.status, b"")

    failed = not_fine(tried(Boastful(), tmp_path, []))
    assert set(failed.values()) == {"failed"}
    assert set(failed) == {control.name for control in CONTROLS if control.expects == "opened"}


@pytest.mark.parametrize(
    "arguments", [["--only", "nonsense"], ["--serve", "nonsense"], ["--jobs", "0"], ["--", "/no/such/program"]]
)
def test_what_cannot_be_tried_is_usage(arguments: list[str]) -> None:
    done = kit(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"\xff", "the body is no JSON object in UTF-8."),
        (b"[]", "the body is no JSON object in UTF-8."),
        (well_formed(hardware=""), "hardware must be a string of 1 to 1024 characters."),
        (well_formed(function=1), "function must be a string of 1 to 64 characters."),
        (well_formed(nonce="short"), "nonce must be 16 to 64 characters of base64url."),
        (well_formed(extra=1), "unknown fields: 'extra'."),
        (well_formed(client_public_key="AA"), "client_public_key must be 43 characters of base64url"),
        (well_formed(client_public_key="A" * 43 + "="), "client_public_key must be 43 characters of base64url"),
    ],
)
def test_a_malformed_request_is_refused_as_the_real_server_would(body: bytes, complaint: str) -> None:
    with playing(World(), CONTROLS[0]) as stage:
        connection = http.client.HTTPConnection("127.0.0.1", stage.server_port, timeout=10)
        connection.request("POST", "/v1/verify", body)
        answer = connection.getresponse()
        problem = json.loads(answer.read())
        connection.close()
    assert (answer.status, problem["code"]) == (400, "INVALID_REQUEST")
    assert problem["detail"].startswith(complaint)
    assert (stage.requests, stage.complaints) == ([], [problem["detail"]])


def test_every_lie_has_its_words_in_both_languages() -> None:
    listed = kit("--list").stdout.splitlines()
    names = [scenario.name for scenario in (*CONTROLS, *LIES)]
    assert [line.split()[0] for line in listed] == names
    assert len(set(names)) == len(names)
    written = json.loads(Path(report.__file__).with_name("words.json").read_text("utf-8"))
    assert set(written) == {*names, "nonce-repeated", "public-key-repeated"}
    assert all(any("\u4e00" <= character <= "\u9fff" for character in chinese) for chinese, _ in written.values())


@pytest.mark.parametrize(("name", "status"), [("honest", 0), ("nonce-other", 1)])
def test_one_scenario_can_be_served_alone(name: str, status: int) -> None:
    with subprocess.Popen([*KIT, "--serve", name], env=ENVIRONMENT, stdout=subprocess.PIPE, encoding="utf-8") as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith(f"{name}: ")
        told = dict(server.stdout.readline().rstrip("\n").split("=", 1) for _ in range(8))
        assert told["KADUN_FUNCTION"] == "打开程序"
        adapter = [sys.executable, "-m", "kadun.hostile.adapter"]
        done = subprocess.run(adapter, env={**ENVIRONMENT, **told, "NO_PROXY": "*"}, capture_output=True, check=False)
        server.send_signal(signal.SIGINT)
        assert server.wait(10) == 0
    assert done.returncode == status, done.stderr
    assert done.stdout.startswith(b"kadun.hostile core data") is (status == 0)
