"""`POST /v1/execute` with both services running: the gate, the vendor's code, and what the client learns of it."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from kadun import CardRejected, Client, FunctionFailed, FunctionNotFound, FunctionTimeout, RequestRefused
from kadun.retries import RetryPolicy

from app.domain.cards import REFERENCE_LENGTH
from app.functions.call import MAX_DETAIL
from app.services.licence import TOKEN_SECONDS
from app.storage.database import Database
from app.storage.journal import REFUSALS_A_MINUTE
from app.storage.models import Card, Event, Usage
from app.storage.models import Client as ClientRow
from tests.integration.conftest import with_keys
from tests.integration.test_hostile_input import MALFORMED
from tests.support.functions_service import FunctionsService
from tests.support.service import OPEN, Response, Service, question, wait_for

SECRET = "hunter2-" + "q" * 20
KEY_CLAIMS = {"KERNAL_DATA_KEY", "KERNAL_DATA_KEY_SEALED"}
ONCE = RetryPolicy(tries=1)


@pytest.fixture(scope="module")
def _pair(migrated_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = with_keys(tmp_path_factory.mktemp("executing"))
    settings = {"KADUN_FUNCTION_SECONDS": "2"}
    with FunctionsService(folder, **settings).with_shop(), Service(folder, migrated_url, **settings) as service:
        yield service


@pytest.fixture
def service(_pair: Service, database_url: str) -> Service:
    """A service whose functions may run for 2 s."""
    return _pair


def execute(service: Service, card_id: str, function: str, arguments: Any, **more: Any) -> Response:
    headers = {"Content-Type": "application/json", "Accept-Language": "en"}
    asked = question(card_id, function=function, arguments=arguments, **more)
    answer = service.request("POST", "/v1/execute", json.dumps(asked).encode(), headers)
    if "token" in answer.body:
        verified = claims(service, answer)
        assert [verified[name] for name in ("sub", "nonce", "function")] == [card_id, asked["nonce"], function]
        assert verified["code"] == answer.body["code"]
        assert not KEY_CLAIMS & set(verified)
    return answer


def claims(service: Service, answer: Response) -> dict[str, Any]:
    """The token's claims, signature and all checked."""
    keys = {key["kid"]: key for key in service.get("/.well-known/jwks.json").body["keys"]}
    key = jwt.PyJWK(keys[jwt.get_unverified_header(answer.body["token"])["kid"]])
    return jwt.decode(answer.body["token"], key, ["EdDSA"], audience="kadun-client", issuer="kadun")


def journalled(service: Service, answer: Response) -> dict[str, Any]:
    """The rejection that the vendor finds under the answer's reference."""
    reference = answer.claims["jti"][-REFERENCE_LENGTH:]
    assert f"(reference: {reference})" in answer.body["message"]
    events = json.loads(service.cardctl("events", "--reference", reference, "--format", "json").stdout)
    (rejected,) = [event for event in events if event["kind"] == "rejected"]
    return dict(rejected)


def test_a_good_card_gets_the_result_in_a_signed_verdict(service: Service) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "求和", {"a": 2, "b": 40})
    verified = claims(service, answer)
    assert answer.status == 200
    assert (verified["accepted"], verified["result"], verified["activated"]) == (True, {"sum": 42}, True)
    assert verified["card_expires_at"] - verified["card_activated_at"] == 30 * 86_400
    again = execute(service, card_id, "求和", {"a": 1, "b": 1})
    assert (again.claims["result"], again.claims["activated"]) == ({"sum": 2}, False)


@pytest.mark.parametrize("value", [None, False, 0, -1.5, "", "卡 盾", [], {}, {"a": [1, {"b": None}]}, 2**64, 10**400])
def test_whatever_json_says_arrives_as_it_is(service: Service, value: Any) -> None:
    (card_id,) = service.issue()
    assert execute(service, card_id, "原样", {"value": value}).claims["result"] == value


def test_a_function_knows_whom_it_serves(service: Service, database: Database) -> None:
    (card_id,) = service.issue()
    spelled = f" {card_id[:8].lower()}-{card_id[8:]}"
    first = execute(service, spelled, "来者", {}).claims["result"]
    bound = ClientRow.get()
    assert first == [card_id, bound.id, Card.get().expires_at.isoformat()]
    assert execute(service, card_id, "来者", {}).claims["result"] == first
    (permanent,) = service.issue(validity="permanent")
    assert execute(service, permanent, "来者", {}, hardware="h2").claims["result"][2] is None


def test_a_renewal_is_served_under_the_clients_old_id(service: Service, database: Database) -> None:
    old, new = service.issue(2)
    client_id = execute(service, old, "来者", {}).claims["result"][1]
    service.cardctl("card", "freeze", old)
    assert execute(service, new, "来者", {}).claims["result"][:2] == [new, client_id]


def test_requests_count_as_use_of_the_function(service: Service, database: Database) -> None:
    (card_id,) = service.issue()
    for _ in range(3):
        execute(service, card_id, "求和", {"a": 1, "b": 1})
    assert [(row.function, row.count) for row in Usage.select()] == [("求和", 3)]


def test_the_rules_come_first(service: Service, database: Database) -> None:
    frozen, other = service.issue(2)
    service.cardctl("card", "freeze", frozen)
    assert execute(service, frozen, "没有的", {}).body["code"] == "CARD_FROZEN"
    assert execute(service, "0" * 32, "下单", {"amount": "no"}).body["code"] == "CARD_NOT_FOUND"
    assert Usage.select().count() == 0
    assert ClientRow.select().count() == 0
    assert execute(service, other, "求和", {"a": 1, "b": 1}).status == 200


def test_a_function_that_nobody_installed(service: Service, database: Database) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "没有的", {})
    assert (answer.status, answer.body["code"]) == (404, "FUNCTION_NOT_FOUND")
    assert (answer.claims["accepted"], answer.claims["activated"]) == (False, True)
    assert "result" not in answer.claims
    event = journalled(service, answer)
    assert (event["kind"], event["code"], event["card_id"]) == ("rejected", "FUNCTION_NOT_FOUND", card_id)
    assert (event["function"], event["hardware"], event["ip"]) == ("没有的", "machine-1", "127.0.0.1")


def test_what_earns_the_key_is_no_core_function(service: Service) -> None:
    (card_id,) = service.issue()
    for more in ({}, {"client_public_key": "Seq_yzYzYRF-V57CdMFBAnFifijk-ho8SJ3Mmt_yfWY"}):
        answer = execute(service, card_id, OPEN, {}, **more)
        assert (answer.status, answer.body["code"]) == (404, "FUNCTION_NOT_FOUND")


def test_a_traceback_is_the_vendors_and_never_the_clients(service: Service) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "泄密", {"secret": SECRET})
    assert (answer.status, answer.body["code"]) == (502, "FUNCTION_FAILED")
    assert answer.claims["accepted"] is False
    assert SECRET not in json.dumps([answer.headers, answer.body, answer.claims])
    assert "Traceback" not in json.dumps([answer.body, answer.claims])
    detail = journalled(service, answer)["details"]["detail"]
    assert "Traceback" in detail
    assert f"ValueError: password {SECRET} refused" in detail
    assert SECRET not in service.log.read_text()
    shown = service.cardctl("events", "--reference", answer.claims["jti"][-REFERENCE_LENGTH:]).stdout
    assert "\nTraceback (most recent call last):\n" in shown
    assert SECRET in service.cardctl("events", "--card", card_id).stdout


def test_a_traceback_of_whatever_characters_is_kept(service: Service) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "怪话", {})
    assert (answer.status, answer.body["code"]) == (502, "FUNCTION_FAILED")
    assert "half a pair" in journalled(service, answer)["details"]["detail"]


@pytest.mark.parametrize("function", ["退出", "集合"])
def test_a_function_that_dies_or_returns_no_json_has_failed(service: Service, function: str) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, function, {})
    assert (answer.status, answer.body["code"]) == (502, "FUNCTION_FAILED")
    assert journalled(service, answer)["details"]["detail"]


def test_a_function_that_takes_too_long(service: Service) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "死循环", {})
    assert (answer.status, answer.body["code"]) == (504, "FUNCTION_TIMEOUT")
    assert journalled(service, answer)["code"] == "FUNCTION_TIMEOUT"


def test_what_a_function_printed_before_it_hung_is_in_the_journal(service: Service) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "唠叨", {"for ever": True})
    assert answer.body["code"] == "FUNCTION_TIMEOUT"
    detail = journalled(service, answer)["details"]["detail"]
    assert detail.endswith("x then\nhalf a thing \\x00\x1b[31m\n")
    assert len(detail) == MAX_DETAIL
    assert "half a thing" not in json.dumps([answer.body, answer.claims])


def test_a_verdicts_time_is_that_of_the_answer(service: Service) -> None:
    (card_id,) = service.issue()
    asked_at = time.time()
    late = claims(service, execute(service, card_id, "死循环", {}))  # it takes 2 s
    assert late["iat"] >= int(asked_at) + 2
    assert late["exp"] - late["iat"] == TOKEN_SECONDS


def test_a_results_time_is_that_of_the_answer_and_the_cards_that_of_the_judgement(
    with_one_slot: Service, tmp_path: Path
) -> None:
    (card_id,) = with_one_slot.issue()
    held = Held(with_one_slot, tmp_path)
    held.call(card_id)
    judged_by = int(time.time())
    wait_for(lambda: time.time() > judged_by + 1)
    (answer,) = held.release()
    assert answer.claims["card_activated_at"] <= judged_by < answer.claims["iat"]
    assert answer.claims["exp"] - answer.claims["iat"] == TOKEN_SECONDS


def test_the_largest_result_is_one_that_the_sdk_takes(service: Service) -> None:
    (card_id,) = service.issue()
    length = 256 * 1024 // 3 - 1  # three bytes each, and two quotation marks
    result = client_of(service, card_id).execute("多大", {"length": length})
    assert result == "核" * length
    assert execute(service, card_id, "多大", {"length": length + 1}).body["code"] == "FUNCTION_FAILED"


@pytest.mark.parametrize(("depth", "status"), [(60, 200), (900, 502), (990, 502), (2_000, 502), (100_000, 502)])
def test_a_result_nested_without_end_is_the_functions_fault(service: Service, depth: int, status: int) -> None:
    (card_id,) = service.issue()
    assert execute(service, card_id, "多深", {"depth": depth}).status == status


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"amount": "many"}, "arguments.amount"),
        ({"amount": 0}, "arguments.amount"),
        ({}, "arguments.amount"),
        ({"amount": 1, "size": 2}, "arguments.size"),
        ({"amount": 1, "to": None}, "arguments.to"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_fields_name(
    service: Service, arguments: dict[str, Any], field: str
) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "下单", arguments)
    assert (answer.status, answer.body["code"], answer.body["field"]) == (400, "INVALID_REQUEST", field)
    assert field in answer.body["detail"]


def test_a_refusal_does_not_send_back_whatever_was_sent(service: Service) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "下单", {"amount": 1, "x" * 50_000: 2})
    assert answer.status == 400
    assert len(json.dumps(answer.body)) < 2_000


def test_what_the_vendors_own_check_says_is_the_vendors_and_never_the_clients(service: Service) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "打折", {"discount": {"code": "a"}})
    assert (answer.status, answer.body["code"]) == (400, "INVALID_REQUEST")
    assert answer.body["field"] == "arguments.discount"
    assert answer.body["detail"] == "arguments.discount does not fit"
    assert "hunter" not in json.dumps(answer.body)
    (line,) = wait_for(
        lambda: [line for line in (service.folder / "functions.log").read_text().splitlines() if "打折" in line][-1:]
    )
    assert "in __post_init__" in json.loads(line)["printed"]
    assert "ValueError: a is none of hunter2" in json.loads(line)["printed"]


@pytest.mark.parametrize("arguments", [None, [], "x", 1])
def test_arguments_that_are_no_object_are_refused_before_the_rules(service: Service, arguments: Any) -> None:
    answer = execute(service, "0" * 32, "求和", arguments)
    assert (answer.status, answer.body["field"]) == (400, "arguments")


def test_nobody_floods_the_journal_with_functions_that_fail(service: Service, database: Database) -> None:
    (card_id,) = service.issue()
    for number in range(REFUSALS_A_MINUTE + 5):
        assert execute(service, card_id, "没有的", {"number": number}).status == 404
    assert Event.select().where(Event.kind == "rejected").count() == REFUSALS_A_MINUTE


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_refused_as_everywhere(service: Service, body: bytes) -> None:
    refused = service.request("POST", "/v1/execute", body, {"Content-Type": "application/json"})
    assert (refused.status, refused.body["code"]) == (400, "INVALID_REQUEST")


# --- The SDK.


def client_of(service: Service, card_id: str) -> Client:
    keys = service.cardctl("key", "export").stdout
    address = f"http://127.0.0.1:{service.port}"
    return Client(
        address,
        keys,
        card_id,
        hardware="machine-1",
        state_dir=None,
        language="en",
        timeout_seconds=40,
        retry_policy=ONCE,
    )


def test_the_sdk_hands_out_the_result(service: Service) -> None:
    (card_id,) = service.issue()
    assert client_of(service, card_id).execute("求和", {"a": 1.5, "b": 1}) == {"sum": 2.5}


@pytest.mark.parametrize(
    ("function", "error"), [("没有的", FunctionNotFound), ("泄密", FunctionFailed), ("死循环", FunctionTimeout)]
)
def test_the_sdk_tells_what_came_of_a_function(service: Service, function: str, error: type[Exception]) -> None:
    (card_id,) = service.issue()
    with pytest.raises(error) as failure:
        client_of(service, card_id).execute(function, {"secret": SECRET})
    assert SECRET not in str(failure.value)


def test_the_sdk_tells_a_bad_card_and_bad_arguments_apart(service: Service) -> None:
    (card_id,) = service.issue()
    with pytest.raises(RequestRefused, match=r"arguments\.amount"):
        client_of(service, card_id).execute("下单", {"amount": "many"})
    service.cardctl("card", "freeze", card_id)
    with pytest.raises(CardRejected):
        client_of(service, card_id).execute("下单", {"amount": "many"})


# --- Calls that take their time.


class Held:
    """Calls that have begun and wait to be told to go on."""

    def __init__(self, service: Service, folder: Path) -> None:
        self._service = service
        self.folder = folder
        self._threads = ThreadPoolExecutor(8)
        self.calls: list[Future[Response]] = []

    def call(self, card_id: str, hardware: str = "machine-1") -> None:
        """Begin one and wait until it runs."""
        arguments = {"folder": str(self.folder)}
        self.calls.append(self._threads.submit(execute, self._service, card_id, "等待", arguments, hardware=hardware))
        wait_for(lambda: len(list(self.folder.glob("begun-*"))) == len(self.calls))

    def release(self) -> list[Response]:
        (self.folder / "go").touch()
        answers = [call.result() for call in self.calls]
        self._threads.shutdown()
        return answers


@pytest.fixture
def with_one_slot(database_url: str, tmp_path: Path) -> Iterator[Service]:
    """One process of three threads, of which one may wait for a function."""
    with (
        FunctionsService(tmp_path).with_shop(),
        Service(tmp_path, database_url, KADUN_WORKERS="1", KADUN_THREADS="3") as service,
    ):
        yield service


def test_calls_beyond_a_processs_share_are_turned_away_and_all_else_is_served(
    with_one_slot: Service, tmp_path: Path
) -> None:
    service = with_one_slot
    first, second, frozen = service.issue(3)
    service.cardctl("card", "freeze", frozen)
    held = Held(service, tmp_path)
    held.call(first)
    busy = execute(service, second, "求和", {"a": 1, "b": 1}, hardware="machine-2")
    assert (busy.status, busy.body["code"]) == (503, "UNAVAILABLE")
    assert int(busy.headers["retry-after"]) > 0
    assert execute(service, frozen, "求和", {}, hardware="machine-3").body["code"] == "CARD_FROZEN"
    for _ in range(20):
        assert service.verify(question(first)).status == 200
    assert not held.calls[0].done()
    assert [answer.claims["result"] for answer in held.release()] == ["done"]
    assert execute(service, second, "求和", {"a": 1, "b": 1}, hardware="machine-2").status == 200


def test_a_card_that_holds_its_share_of_a_process_holds_up_no_other(database_url: str, tmp_path: Path) -> None:
    settings = {"KADUN_WORKERS": "1", "KADUN_THREADS": "4"}
    with (
        FunctionsService(tmp_path, KADUN_FUNCTION_CONCURRENCY="16").with_shop(),
        Service(tmp_path, database_url, **settings) as service,
    ):
        greedy, modest = service.issue(2)
        held = Held(service, tmp_path)
        held.call(greedy)
        assert execute(service, greedy, "求和", {"a": 1, "b": 1}).status == 503
        assert execute(service, modest, "求和", {"a": 1, "b": 1}, hardware="machine-2").status == 200
        assert [answer.claims["result"] for answer in held.release()] == ["done"]


def test_half_of_the_threads_may_wait_for_functions_where_these_have_so_many_places(
    database_url: str, tmp_path: Path
) -> None:
    with (
        FunctionsService(tmp_path, KADUN_FUNCTION_CONCURRENCY="16").with_shop(),
        Service(tmp_path, database_url, KADUN_WORKERS="1", KADUN_THREADS="12") as service,
    ):
        *cards, late = service.issue(7)
        held = Held(service, tmp_path)
        for number, card_id in enumerate(cards):
            held.call(card_id, f"machine-{number}")
        assert execute(service, late, "求和", {"a": 1, "b": 1}, hardware="machine-late").status == 503
        assert service.verify(question(cards[0], hardware="machine-0")).status == 200
        assert [answer.claims["result"] for answer in held.release()] == ["done"] * 6


def test_one_card_does_not_take_all_the_places(database_url: str, tmp_path: Path) -> None:
    settings = {"KADUN_WORKERS": "1", "KADUN_THREADS": "32"}
    with (
        FunctionsService(tmp_path, KADUN_FUNCTION_CONCURRENCY="2").with_shop(),
        Service(tmp_path, database_url, **settings) as service,
    ):
        greedy, modest, late = service.issue(3)
        held = Held(service, tmp_path)
        held.call(greedy)
        assert execute(service, greedy, "求和", {"a": 1, "b": 1}).status == 503
        held.call(modest, "machine-2")
        assert execute(service, late, "求和", {"a": 1, "b": 1}, hardware="machine-3").status == 503
        assert [answer.claims["result"] for answer in held.release()] == ["done"] * 2


def test_a_call_under_way_holds_no_transaction(with_one_slot: Service, database: Database, tmp_path: Path) -> None:
    service = with_one_slot
    (card_id,) = service.issue()
    held = Held(service, tmp_path)
    held.call(card_id)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"
    assert database.execute_sql(sessions).fetchone()[0] == 0
    service.cardctl("card", "freeze", card_id)
    (answer,) = held.release()
    assert answer.claims["result"] == "done"


def test_while_the_functions_service_is_away_cards_are_judged_and_calls_are_told_to_come_again(
    own_service: Service,
) -> None:
    service = own_service
    (card_id,) = service.issue()
    answer = execute(service, card_id, "求和", {"a": 1, "b": 1})
    assert (answer.status, answer.body["code"]) == (503, "UNAVAILABLE")
    assert "retry-after" in answer.headers
    assert execute(service, "0" * 32, "求和", {}).body["code"] == "CARD_NOT_FOUND"
    assert service.verify(question(card_id)).status == 200
