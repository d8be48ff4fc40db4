"""The program's version, and what the vendor tells customers with a verdict: a notice, an update, a forced update."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from kadun import CardRejected, Client, DownloadFailed, ServerUnreachable, UntrustedAnswer, UpdateRequired

from tests.support.client.fake_server import NOW, REPORT, FakeServer, reject, setting
from tests.support.client.offline import MakeClient, at, refused, unplug
from tests.support.tables import for_each

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://example.com/下载?v=2"
REQUIRED = reject("UPDATE_REQUIRED", latest_version="2.0", update_url=URL)
TOLD = {"notice": "今晚 22:00 维护\n请提前保存", "latest_version": "1.10", "update_url": URL}


@for_each("version", ["1", "1.4", "2026.11.28", "0.0.0", "1" * 32, None])
def test_the_version_goes_with_every_question_about_the_card(
    version: str | None, make_client: MakeClient, server: FakeServer, tmp_path: Path
) -> None:
    server.requests.clear()
    server.paths.clear()
    server.tweak = setting(result=1, files=[])
    client = make_client(version=version)
    client.open()
    client.report(REPORT)
    client.execute(REPORT, {})
    with pytest.raises(DownloadFailed, match=r"model\.bin"):
        client.download("model.bin", tmp_path / "model.bin")
    assert server.paths == ["/v1/verify", "/v1/verify", "/v1/execute", "/v1/files"]
    assert [request.get("version", "none") for request in server.requests] == [version or "none"] * 4


@for_each("version", ["", " 1", "1.", ".1", "1..2", "v1", "1.4b", "1,4", "1.4\n", "\u0661.4", "1" * 33, 1.4, 2, ("1",)])
def test_another_version_is_refused_before_anything_is_sent(version: Any, make_client: MakeClient) -> None:
    with pytest.raises(ValueError, match=r'dotted numbers such as "1\.4", at most 32 characters; not '):
        make_client(version=version)


@for_each("told", [TOLD, dict.fromkeys(TOLD)])
def test_a_verdict_carries_notice_and_update_online_and_offline(
    told: dict[str, str | None], start: MakeClient, server: FakeServer
) -> None:
    def tweak(claims: dict[str, Any]) -> None:
        at(NOW)(claims)
        claims.update({name: text for name, text in told.items() if text is not None})

    server.script = []
    server.tweak = tweak
    assert not start().open().offline
    unplug(server)
    verdict = start().open()
    assert verdict.offline
    assert {name: getattr(verdict, name) for name in told} == told


@for_each("tweak", [setting(), REQUIRED])
@for_each("value", [None, "", 1, True, [URL], {"zh": "x"}])
@for_each("claim", TOLD)
def test_a_claim_of_another_type_is_untrusted(
    claim: str, value: Any, tweak: Any, client: Client, server: FakeServer
) -> None:
    def both(claims: dict[str, Any]) -> None:
        tweak(claims)
        claims[claim] = value

    server.tweak = both
    with pytest.raises(UntrustedAnswer, match=claim):
        client.open()


@for_each("told", [{}, {"latest_version": "2.0", "update_url": URL}])
@for_each("language", ["zh", "en"])
def test_an_update_that_the_vendor_requires_is_an_error_of_its_own(
    language: str, told: dict[str, str], make_client: MakeClient, server: FakeServer
) -> None:
    server.tweak = reject("UPDATE_REQUIRED", **told)
    with pytest.raises(UpdateRequired) as caught:
        make_client(language=language, version="1.4").open()
    error = caught.value
    assert isinstance(error, CardRejected)
    assert (error.code, error.reference) == ("UPDATE_REQUIRED", "REF45678")
    assert (error.latest_version, error.update_url) == (told.get("latest_version"), told.get("update_url"))
    assert "REF45678" in error.message
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert vars(copy) == vars(error)


def test_a_required_update_ends_offline_starts_until_the_program_is_updated(
    start: MakeClient, server: FakeServer
) -> None:
    server.tweak = at(NOW)
    start(version="1.4").open()
    server.tweak = REQUIRED
    refused(start(version="1.4"), UpdateRequired)
    unplug(server)
    refused(start(version="1.4"), ServerUnreachable)
    server.script = []
    server.tweak = at(NOW + 1)
    assert start(version="2.0").open().accepted
    unplug(server)
    assert start(version="2.0").open().offline
