"""The program's version, and what the vendor tells customers with a verdict: a notice, an update, a forced update."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pyrage
import pytest
from kadun import CardRejected, Client, DownloadFailed, ServerUnreachable, UnsealFailed, UntrustedAnswer, UpdateRequired

from tests.support.client.fake_server import (
    NOW,
    REPORT,
    FakeServer,
    SigningKey,
    claims_for,
    reject,
    setting,
    verdict_response,
)
from tests.support.client.offline import CORE, MakeClient, at, plug_in, refused, unplug
from tests.support.tables import for_each

if TYPE_CHECKING:
    from pathlib import Path

    from kadun.responses import Response

URL = "https://example.com/下载?v=2"
REQUIRED = reject("UPDATE_REQUIRED", latest_version="2.0", update_url=URL)
CLAIMS = ("notice", "latest_version", "update_url")


@pytest.mark.parametrize("version", ["1", "1.4", "2026.11.28", "0.0.0", "1" * 32])
def test_the_version_goes_with_every_question_about_the_card(
    version: str, make_client: MakeClient, server: FakeServer, tmp_path: Path
) -> None:
    server.tweak = setting(result=1, files=[])
    client = make_client(version=version)
    client.open()
    client.report(REPORT)
    client.execute(REPORT, {})
    with pytest.raises(DownloadFailed, match=r"model\.bin"):
        client.download("model.bin", tmp_path / "model.bin")
    assert server.paths == ["/v1/verify", "/v1/verify", "/v1/execute", "/v1/files"]
    assert [request["version"] for request in server.requests] == [version] * 4


def test_without_a_version_none_is_sent(client: Client, server: FakeServer) -> None:
    client.open()
    assert "version" not in server.requests[0]


@for_each("version", ["", " 1", "1.", ".1", "1..2", "v1", "1.4b", "1,4", "1.4\n", "\u0661.4", "1" * 33, 1.4, 2, ("1",)])
def test_another_version_is_refused_before_anything_is_sent(version: Any, make_client: MakeClient) -> None:
    with pytest.raises(ValueError, match=r'dotted numbers such as "1\.4", at most 32 characters; not '):
        make_client(version=version)


def test_a_verdict_carries_notice_and_update(client: Client, server: FakeServer) -> None:
    server.tweak = setting(notice="今晚 22:00 维护\n请提前保存", latest_version="1.10", update_url=URL)
    verdict = client.open()
    assert (verdict.notice, verdict.latest_version, verdict.update_url) == (
        "今晚 22:00 维护\n请提前保存",
        "1.10",
        URL,
    )


def test_a_verdict_without_them_has_none(client: Client) -> None:
    verdict = client.open()
    assert [verdict.notice, verdict.latest_version, verdict.update_url] == [None] * 3


@for_each("tweak", [setting(), REQUIRED])
@for_each("value", [None, "", 1, 1.4, True, [URL], {"zh": "x"}])
@for_each("claim", CLAIMS)
def test_a_claim_of_another_type_is_untrusted(
    claim: str, value: Any, tweak: Any, client: Client, server: FakeServer
) -> None:
    def both(claims: dict[str, Any]) -> None:
        tweak(claims)
        claims[claim] = value

    server.tweak = both
    with pytest.raises(UntrustedAnswer, match=claim):
        client.open()


@pytest.mark.parametrize("language", ["zh", "en"])
def test_an_update_that_the_vendor_requires_is_an_error_of_its_own(
    language: str, make_client: MakeClient, server: FakeServer
) -> None:
    server.tweak = REQUIRED
    with pytest.raises(UpdateRequired) as caught:
        make_client(language=language, version="1.4").open()
    error = caught.value
    assert isinstance(error, CardRejected)
    assert (error.code, error.reference) == ("UPDATE_REQUIRED", "REF45678")
    assert (error.latest_version, error.update_url) == ("2.0", URL)
    assert "REF45678" in error.message
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert vars(copy) == vars(error)


def test_an_update_without_an_address_has_none(client: Client, server: FakeServer) -> None:
    server.tweak = reject("UPDATE_REQUIRED")
    with pytest.raises(UpdateRequired) as caught:
        client.open()
    assert (caught.value.latest_version, caught.value.update_url) == (None, None)


def unsigned(request: dict[str, Any]) -> Response:
    """Demand an update without the server's key: its address would lead to another program."""
    claims = claims_for(request)
    REQUIRED(claims)
    claims["update_url"] = "https://attacker.example"
    return verdict_response(SigningKey().token(claims), 403)


def test_an_update_that_the_server_did_not_sign_is_untrusted(client: Client, server: FakeServer) -> None:
    server.script = [unsigned]
    with pytest.raises(UntrustedAnswer):
        client.open()


def test_a_required_update_ends_offline_starts(start: MakeClient, server: FakeServer) -> None:
    server.tweak = at(NOW)
    start(version="1.4").open()
    server.tweak = REQUIRED
    refused(start(version="1.4"), UpdateRequired)
    unplug(server)
    refused(start(version="1.4"), ServerUnreachable)


def test_an_offline_verdict_has_the_notice_and_the_update_of_the_last_online_start(
    start: MakeClient, server: FakeServer
) -> None:
    def tweak(claims: dict[str, Any]) -> None:
        at(NOW)(claims)
        claims.update(notice="今晚维护", latest_version="1.10", update_url=URL)

    server.tweak = tweak
    start().open()
    unplug(server)
    verdict = start().open()
    assert verdict.offline
    assert (verdict.notice, verdict.latest_version, verdict.update_url) == ("今晚维护", "1.10", URL)


def test_the_updated_program_opens_and_may_start_offline_again(start: MakeClient, server: FakeServer) -> None:
    server.tweak = REQUIRED
    refused(start(version="1.4"), UpdateRequired)
    server.tweak = at(NOW + 1)
    assert start(version="2.0").open().accepted
    unplug(server)
    assert start(version="2.0").open().offline
    plug_in(server)


def test_a_running_program_keeps_its_key_where_an_update_is_required(
    make_client: MakeClient, server: FakeServer, tmp_path: Path
) -> None:
    identity = pyrage.x25519.Identity.generate()
    server.data_key = str(identity)
    sealed = tmp_path / "core.age"
    sealed.write_bytes(pyrage.encrypt(CORE, [identity.to_public()]))
    client = make_client(version="1.4")
    client.open()
    server.tweak = REQUIRED
    with pytest.raises(UpdateRequired):
        client.execute(REPORT, {})
    assert client.unseal(sealed) == CORE
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected):
        client.report(REPORT)
    with pytest.raises(UnsealFailed):
        client.unseal(sealed)
