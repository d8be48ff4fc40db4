"""The HTTP API of the functions service, on a fake library."""

import json
from typing import TYPE_CHECKING, Any

import pytest
from falcon import testing

from app.domain.calls import CallLimits
from app.functions.api import create_app
from app.functions.concurrency import Slot
from app.functions.generation import RawResult
from app.functions.library import NotLoadedError
from app.functions.messages import BrokenModule, FunctionInfo, Listing
from app.functions.supervisor import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

CALL: dict[str, Any] = {
    "function": "名",
    "arguments": {},
    "caller": {"card_id": "card", "client_id": "client", "expires_at": "2027-01-01T00:00:00+00:00"},
}


class Shelf:
    """Has one function, once it is loaded."""

    def __init__(self) -> None:
        self.is_loaded = True
        self.requests: list[bytes] = []
        self.slots: list[int] = []
        self.while_reloading: Callable[[], object] = lambda: None

    def listing(self) -> Listing:
        if not self.is_loaded:
            raise NotLoadedError("the reason")
        return Listing(
            [FunctionInfo("名", "module", None, "")], [BrokenModule("other", "why")], 3, loading=False, sha256="0" * 64
        )

    def reload(self) -> Listing:
        self.while_reloading()
        return self.listing()

    def call(self, function: str, request: bytes, slot: Slot) -> RawResult | None:
        if not self.is_loaded:
            raise NotLoadedError("the reason")
        self.requests.append(request)
        self.slots.append(slot.number)
        return RawResult(b'{"outcome":"ok","result":1}', b"\xff") if function == "名" else None


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def service(shelf: Shelf) -> testing.TestClient:
    return testing.TestClient(create_app(shelf, CallLimits(2, 1, 2)))  # type: ignore[arg-type]


def test_health(service: testing.TestClient) -> None:
    assert service.simulate_get("/healthz").json == {"status": "ok"}


@pytest.mark.parametrize(("method", "path"), [("GET", "/functions"), ("POST", "/reload")])
def test_a_listing(service: testing.TestClient, method: str, path: str) -> None:
    assert service.simulate_request(method, path).json == {
        "functions": [{"name": "名", "module": "module", "schema": None, "doc": ""}],
        "broken": [{"module": "other", "error": "why"}],
        "generation": 3,
        "loading": False,
        "sha256": "0" * 64,
    }


@pytest.mark.parametrize(("method", "path"), [("GET", "/functions"), ("POST", "/reload"), ("POST", "/call")])
def test_the_service_is_unavailable_while_nothing_is_loaded(
    service: testing.TestClient, shelf: Shelf, method: str, path: str
) -> None:
    shelf.is_loaded = False
    answer = service.simulate_request(method, path, body=json.dumps(CALL))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"
    assert answer.json == {"error": "the reason"}


def test_two_reloads_may_wait_at_once(service: testing.TestClient, shelf: Shelf) -> None:
    others: list[int] = []
    shelf.while_reloading = lambda: others.append(service.simulate_post("/reload").status_code)
    assert service.simulate_post("/reload").status_code == 200
    assert others == [503, 200]  # the innermost first
    shelf.while_reloading = lambda: None
    assert service.simulate_post("/reload").status_code == 200


def test_a_call_is_passed_on_unchanged(service: testing.TestClient, shelf: Shelf) -> None:
    body = json.dumps(CALL)
    answer = service.simulate_post("/call", body=body).json
    assert answer == {"outcome": {"outcome": "ok", "result": 1}, "printed": "\ufffd"}
    assert shelf.requests == [body.encode()]
    assert shelf.slots == [0]
    assert service.simulate_post("/call", json={**CALL, "function": "none"}).json == {
        "outcome": {"outcome": "not_found"},
        "printed": "",
    }


def test_a_call_without_a_free_slot_is_refused_in_both_languages(shelf: Shelf) -> None:
    answer = testing.TestClient(create_app(shelf, CallLimits(0, 1, 2))).simulate_post("/call", json=CALL)  # type: ignore[arg-type]
    assert answer.status_code == 503
    assert answer.json == {"error": "名额已满，请稍后重试 / all slots are taken: try again later"}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{",
        b"\xff",
        "[" * 100_000,
        json.dumps({**CALL, "more": 1}),
        json.dumps({**CALL, "arguments": []}),
        json.dumps({**CALL, "caller": {"card_id": "card", "client_id": "client"}}),
        json.dumps({**CALL, "caller": {**CALL["caller"], "expires_at": "2027-01-01T00:00:00"}}),
    ],
)
def test_an_invalid_call_is_a_bad_request(service: testing.TestClient, shelf: Shelf, body: str | bytes) -> None:
    assert service.simulate_post("/call", body=body).status_code == 400
    assert shelf.requests == []


def test_a_large_body_is_refused(service: testing.TestClient) -> None:
    assert service.simulate_post("/call", body="x" * (MAX_REQUEST_BYTES + 1)).status_code == 413
