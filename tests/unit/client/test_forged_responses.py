"""The conformance kit: the SDK refuses its forged responses by the check that each names; its command; its vectors."""
# Owns token-verdict-check.

import base64
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kadun import CardRejected, Client, KadunError, Secret, ServerUnreachable, UnsealFailed, UntrustedAnswer
from kadun.keys import TrustedKeys
from kadun.request import OPEN, VerificationRequest
from kadun.responses import Response
from kadun.sealing import KeyPair, unseal
from kadun_conformance.__main__ import main
from kadun_conformance.cases import FORGED, GENUINE, Case
from kadun_conformance.forger import Forger, Vendor

from tests.support.client.fakes import NOW, REPORT, FakeServer, MakeClient, Tweak, claims_for, refused, reject, setting
from tests.support.services.processes import is_alive
from tests.support.services.service import wait_for
from tests.support.tables import for_each
from tests.vectors import generate
from tests.vectors.generate import FOR_CUSTOMERS

ERRORS: dict[str, type[KadunError]] = {
    "untrusted": UntrustedAnswer,
    "unreachable": ServerUnreachable,
    "rejected": CardRejected,
}
SPELLING = "a part of the token is not canonical base64url"
SIGNATURE = "the token's signature is wrong"
NO_VERDICT = "HTTP .* without a verdict"
UNTRUSTED = "the token is signed with a key that is neither pinned nor endorsed"
COMPARED = ("nonce", "sub", "function", "hardware_sha256", "request_sha256", "aud", "iss")
CLEAR = "the key is in clear, although it was requested sealed or not at all"
NOT_GRANTED = "the verdict contains a key that it does not grant"
# The error's whole detail, by the check that the table names.
DETAILS = {
    **{name: f"claim {name} is .*" for name in COMPARED},
    "exp": "claim exp is missing or not a time|claim exp is not within 300 seconds after iat",
    "accepted": "claim accepted is missing or not a boolean|claim accepted contradicts code",
    "json": "the token's (header|payload) is not a JSON object",
    "alg": f"the token's alg is not EdDSA|{SPELLING}",  # no signature: its empty part is refused first
    "typ": r"the token's typ is not (verdict|key)\+jwt",
    "crit": "the token's header has critical extensions",
    "kid": f"the token has no kid|{UNTRUSTED}",
    "signature": f"{SIGNATURE}|{SPELLING}",
    "format": f"the token is not a compact JWS|{SPELLING}|{NO_VERDICT}",
    "trust": UNTRUSTED,
    "thumbprint": f"the kid of a key is not its thumbprint|{SIGNATURE}",
    "endorsed key": "a key is not an Ed25519 key",
    "key set": "the key set has no endorsements",
    "sealed key": f"claim KERNAL_DATA_KEY_SEALED is missing or not a string|{NOT_GRANTED}|"
    "the sealed key is not a compact JWE for ECDH-ES|a part of the sealed key is not canonical base64url",
    "sealed header": "the sealed key's header is not alg ECDH-ES, enc A256GCM and epk|"
    "the sealed key's epk is not an X25519 public key",
    "decryption": "the sealed key does not decrypt with this program's key",
    "clear key": CLEAR,
    "no token": f"{NO_VERDICT}|{SIGNATURE}",
    "redirect": NO_VERDICT,
}


class CaseTransport:
    """Sends a case of the table to a client, inside this process."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.vendor = Vendor(issuer="kadun")
        self.requests: list[dict[str, Any]] = []

    def exchange(self, _path: str, body: bytes | None, _language: str) -> Response:
        if body is None:
            reply = (self.case.key_set or Forger.key_set)(Forger(self.vendor))
        else:
            self.requests.append(json.loads(body))
            reply = self.case.answer(Forger(self.vendor, self.requests[-1], body))
        headers = reply.headers
        return Response(reply.status, reply.body, headers.get("Retry-After"), headers.get("Content-Type"))


def answered(case: Case, make_client: MakeClient) -> Client:
    transport = CaseTransport(case)
    return make_client(transport=transport, public_keys=transport.vendor.pinned)


@for_each("case", GENUINE)
def test_a_genuine_response_is_accepted(case: Case, make_client: MakeClient) -> None:
    client = answered(case, make_client)
    if case.expected == "opened":
        assert client.open().data_key is not None
    else:
        refused(client, CardRejected)


@for_each("case", [case for case in FORGED if not case.group.endswith("bounds")])
def test_a_forged_response_is_refused_by_its_check(case: Case, make_client: MakeClient) -> None:
    error = refused(answered(case, make_client), ERRORS[case.expected])
    if case.expected == "untrusted":
        assert re.fullmatch(DETAILS[case.check], error.detail), (case.check, error.detail)


def without(name: str, before: Tweak = lambda _claims: None) -> Tweak:
    def tweak(claims: dict[str, Any]) -> None:
        before(claims)
        del claims[name]

    return tweak


OFFLINE = "claim offline_until in a verdict that is not an accepted opening"
MALFORMED = (
    "claim [a-z_]+ is missing or not a (time|string|boolean)|claim code or jti is malformed|"
    f"claim activated contradicts code|{OFFLINE}|{CLEAR}"
)
# Claims that this SDK reads beyond what the protocol asks of every client.
STRICTER: dict[str, Tweak] = {
    "exp is true": setting(exp=True),
    "iat is null": setting(iat=None),
    "iat is negative": setting(iat=-1, exp=299),
    "activated is 1": setting(activated=1),
    **{f"{name} is {value!r}": setting(**{name: value}) for name in FOR_CUSTOMERS for value in (None, "", [1])},
    "card_expires_at is text": setting(card_expires_at="2030-01-01"),
    "card_activated_at is null": setting(card_activated_at=None),
    "offline_until is text": setting(offline_until="for ever"),
    **{f"jti is {jti!r}": setting(jti=jti) for jti in ("short", "reference\x1b[2J", 12345678, "x" * 129)},
    **{f"no {name}": without(name) for name in ("jti", "activated", "card_activated_at", "card_expires_at")},
    **{f"code is {code!r}": reject(code) for code in ("", "ok", "CARD FROZEN", "\u5361", "X" * 65, "CARD_FROZEN\x1b")},
    "a rejection that activates": reject("CARD_FROZEN", activated=True),
    "a rejection with offline_until": reject("CARD_FROZEN", offline_until=NOW),
    "a rejection with the key in clear": reject("CARD_FROZEN", KERNAL_DATA_KEY="the key"),
    "an expired card without card_expires_at": without("card_expires_at", reject("CARD_EXPIRED")),
}


@for_each("change", STRICTER)
def test_a_malformed_claim_is_refused(change: str, client: Client, server: FakeServer) -> None:
    server.tweak = STRICTER[change]
    assert re.fullmatch(MALFORMED, refused(client, UntrustedAnswer).detail)


@for_each("name", ["KERNAL_DATA_KEY", "KERNAL_DATA_KEY_SEALED", "offline_until"])
def test_a_report_grants_no_key_and_no_offline_starts(name: str, client: Client, server: FakeServer) -> None:
    server.tweak = setting(**{name: NOW})
    with pytest.raises(UntrustedAnswer, match=f"{CLEAR}|{NOT_GRANTED}|{OFFLINE}"):
        client.report(REPORT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CLAIMS = claims_for({"card_id": "x", "nonce": "x", "hardware": "x", "function": "f"})


@given(claim=st.sampled_from(sorted(CLAIMS)), value=json_values)
def test_a_claim_of_any_form_ends_in_a_verdict_or_a_kadun_error(
    claim: str, value: object, client: Client, server: FakeServer
) -> None:
    server.tweak = setting(**{claim: value})
    try:
        verdict = client.open()
    except KadunError:
        return
    assert verdict.accepted


@given(status=st.integers(200, 599), body=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_response_of_any_form_ends_in_a_kadun_error(
    status: int, body: bytes, client: Client, server: FakeServer
) -> None:
    server.script = [Response(status, body)] * 3
    with pytest.raises(KadunError):
        client.open()


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
