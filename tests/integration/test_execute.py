"""`POST /v1/execute`: the rules first, then the vendor's function, and what the client and the journal get of it."""

import json
import time

import pytest
from kadun import CardRejected, RequestRefused

from app.domain.cards import REFERENCE_LENGTH
from app.functions.call import MAX_DETAIL
from app.services.licence import TOKEN_SECONDS
from app.storage.journal import MAX_ENTRIES_PER_DAY
from app.storage.models import Card, Event, Usage
from app.storage.models import Client as ClientRow
from app.storage.usage import MAX_FUNCTIONS_PER_DAY, OTHER_FUNCTIONS
from tests.integration.test_hostile_input import MALFORMED
from tests.support.executing import FUNCTION_SECONDS, claims, client_of, execute, journalled
from tests.support.service import OPEN, Service, question, wait_for

SECRET = "hunter2-" + "q" * 20


def test_a_good_card_gets_the_result_in_a_signed_verdict(executing: Service) -> None:
    (card_id,) = executing.issue()
    answer = execute(executing, card_id, "求和", {"a": 2, "b": 40})
    verified = claims(executing, answer)
    assert answer.status == 200
    assert (verified["accepted"], verified["result"], verified["activated"]) == (True, {"sum": 42}, True)
    assert verified["card_expires_at"] - verified["card_activated_at"] == 30 * 86_400
    again = execute(executing, card_id, "求和", {"a": 1, "b": 1})
    assert (again.claims["result"], again.claims["activated"]) == ({"sum": 2}, False)
    assert [(row.function, row.count) for row in Usage.select()] == [("求和", 2)]


def test_every_json_value_arrives_unchanged(executing: Service) -> None:
    (card_id,) = executing.issue()
    for value in (None, False, 0, -1.5, "", "卡 盾", [], {}, {"a": [1, {"b": None}]}, 2**64, 10**400):
        assert execute(executing, card_id, "原样", {"value": value}).claims["result"] == value


def test_a_function_is_told_the_card_the_client_and_the_expiry(executing: Service) -> None:
    (card_id,) = executing.issue()
    spelled = f" {card_id[:8].lower()}-{card_id[8:]}"
    first = execute(executing, spelled, "来者", {}).claims["result"]
    bound = ClientRow.get()
    assert first == [card_id, bound.id, Card.get().expires_at.isoformat()]
    assert execute(executing, card_id, "来者", {}).claims["result"] == first
    (permanent,) = executing.issue(validity="permanent")
    assert execute(executing, permanent, "来者", {}, hardware="h2").claims["result"][2] is None


def test_the_rules_come_first(executing: Service) -> None:
    frozen, other = executing.issue(2)
    executing.cardctl("card", "freeze", frozen)
    assert execute(executing, frozen, "没有的", {}).body["code"] == "CARD_FROZEN"
    assert execute(executing, "0" * 32, "下单", {"amount": "no"}).body["code"] == "CARD_NOT_FOUND"
    assert Usage.select().count() == 0
    assert ClientRow.select().count() == 0
    assert execute(executing, other, "求和", {"a": 1, "b": 1}).status == 200


def test_a_function_that_is_not_installed(executing: Service) -> None:
    (card_id,) = executing.issue()
    answer = execute(executing, card_id, "没有的", {})
    assert (answer.status, answer.body["code"]) == (404, "FUNCTION_NOT_FOUND")
    assert (answer.claims["accepted"], answer.claims["activated"]) == (False, True)
    assert "result" not in answer.claims
    event = journalled(executing, answer)
    assert (event["kind"], event["code"], event["card_id"]) == ("rejected", "FUNCTION_NOT_FOUND", card_id)
    assert (event["function"], event["hardware"], event["ip"]) == ("没有的", "machine-1", "127.0.0.1")


def test_usage_counts_no_function_that_does_not_exist(executing: Service) -> None:
    (card_id,) = executing.issue()
    for _ in range(3):
        assert executing.verify(question(card_id, "machine-1", OPEN)).status == 200
    for function in ("没有的", "没有的", "没有的", OPEN):
        assert execute(executing, card_id, function, {}).body["code"] == "FUNCTION_NOT_FOUND"
    assert execute(executing, card_id, "求和", {"a": 1, "b": 1}).status == 200
    assert {row.function: row.count for row in Usage.select()} == {OPEN: 3, "求和": 1}


def test_a_missing_function_after_too_many_others_is_taken_back_from_these(executing: Service) -> None:
    (card_id,) = executing.issue()
    assert executing.verify(question(card_id, "machine-1", OPEN)).status == 200
    today, last = Usage.get().day, Usage.get().last_at
    for number in range(MAX_FUNCTIONS_PER_DAY):
        Usage.insert(card=card_id, day=today, function=f"f{number}", count=1, last_at=last).execute()
    assert executing.verify(question(card_id, "machine-1", "one more")).status == 200
    for _ in range(2):
        assert execute(executing, card_id, "没有的", {}).body["code"] == "FUNCTION_NOT_FOUND"
    counted = {row.function: row.count for row in Usage.select()}
    assert (counted[OTHER_FUNCTIONS], "没有的" in counted) == (1, False)


def test_the_function_that_earns_the_key_is_not_a_core_function(executing: Service) -> None:
    (card_id,) = executing.issue()
    for more in ({}, {"client_public_key": "Seq_yzYzYRF-V57CdMFBAnFifijk-ho8SJ3Mmt_yfWY"}):
        answer = execute(executing, card_id, OPEN, {}, **more)
        assert (answer.status, answer.body["code"]) == (404, "FUNCTION_NOT_FOUND")


def test_a_traceback_is_in_the_journal_and_not_in_the_answer(executing: Service) -> None:
    (card_id,) = executing.issue()
    answer = execute(executing, card_id, "泄密", {"secret": SECRET})
    assert (answer.status, answer.body["code"]) == (502, "FUNCTION_FAILED")
    assert answer.claims["accepted"] is False
    assert SECRET not in json.dumps([answer.headers, answer.body, answer.claims])
    assert "Traceback" not in json.dumps([answer.body, answer.claims])
    detail = journalled(executing, answer)["details"]["detail"]
    assert "Traceback" in detail
    assert f"ValueError: password {SECRET} refused" in detail
    assert SECRET not in executing.log.read_text()
    shown = executing.cardctl("events", "--reference", answer.claims["jti"][-REFERENCE_LENGTH:]).stdout
    assert "\nTraceback (most recent call last):\n" in shown
    assert SECRET in executing.cardctl("events", "--card", card_id).stdout


def test_a_function_that_dies_or_returns_no_json_has_failed(executing: Service) -> None:
    (card_id,) = executing.issue()
    for function, said in [("退出", ""), ("集合", ""), ("怪话", "half a pair")]:
        answer = execute(executing, card_id, function, {})
        assert (answer.status, answer.body["code"]) == (502, "FUNCTION_FAILED"), (function, said)
        detail = journalled(executing, answer)["details"]["detail"]
        assert detail, (function, said)
        assert said in detail, "lone surrogates too"


def test_a_function_that_takes_too_long_is_a_rejection_of_that_time(executing: Service) -> None:
    (card_id,) = executing.issue()
    asked_at = time.time()
    answer = execute(executing, card_id, "唠叨", {"for ever": True})
    assert (answer.status, answer.body["code"]) == (504, "FUNCTION_TIMEOUT")
    assert answer.claims["iat"] >= int(asked_at) + FUNCTION_SECONDS
    assert answer.claims["exp"] - answer.claims["iat"] == TOKEN_SECONDS
    event = journalled(executing, answer)
    detail = event["details"]["detail"]
    assert event["code"] == "FUNCTION_TIMEOUT"
    assert detail.endswith("x then\nhalf a thing \\x00\x1b[31m\n")
    assert len(detail) == MAX_DETAIL
    assert "half a thing" not in json.dumps([answer.body, answer.claims])


def test_a_result_nested_too_deeply_is_a_failure_of_the_function(executing: Service) -> None:
    (card_id,) = executing.issue()
    for depth, status in ((60, 200), (900, 502), (990, 502), (2_000, 502), (100_000, 502)):
        assert execute(executing, card_id, "多深", {"depth": depth}).status == status, depth


def test_arguments_that_do_not_fit_are_refused_with_the_fields_name(executing: Service) -> None:
    (card_id,) = executing.issue()
    for field, arguments in (
        ("arguments.amount", {"amount": "many"}),
        ("arguments.amount", {"amount": 0}),
        ("arguments.amount", {}),
        ("arguments.size", {"amount": 1, "size": 2}),
        ("arguments.to", {"amount": 1, "to": None}),
    ):
        answer = execute(executing, card_id, "下单", arguments)
        assert (answer.status, answer.body["code"], answer.body["field"]) == (400, "INVALID_REQUEST", field)
        assert field in answer.body["detail"]


def test_a_refusal_quotes_what_was_sent_to_a_limit(executing: Service) -> None:
    (card_id,) = executing.issue()
    answer = execute(executing, card_id, "下单", {"amount": 1, "x" * 50_000: 2})
    assert answer.status == 400
    assert len(json.dumps(answer.body)) < 2_000


def test_the_vendors_own_check_is_in_the_log_and_not_in_the_answer(executing: Service) -> None:
    (card_id,) = executing.issue()
    answer = execute(executing, card_id, "打折", {"discount": {"code": "a"}})
    assert (answer.status, answer.body["code"]) == (400, "INVALID_REQUEST")
    assert answer.body["field"] == "arguments.discount"
    assert answer.body["detail"] == "arguments.discount does not fit"
    assert "hunter" not in json.dumps(answer.body)
    (line,) = wait_for(
        lambda: [line for line in (executing.folder / "functions.log").read_text().splitlines() if "打折" in line][-1:]
    )
    assert "in __post_init__" in json.loads(line)["printed"]
    assert "ValueError: a is none of hunter2" in json.loads(line)["printed"]


def test_arguments_that_are_not_an_object_are_refused_before_the_rules(executing: Service) -> None:
    answer = execute(executing, "0" * 32, "求和", [])
    assert (answer.status, answer.body["field"]) == (400, "arguments")


def test_the_sdk_tells_bad_arguments_from_a_bad_card(executing: Service) -> None:
    (card_id,) = executing.issue()
    with pytest.raises(RequestRefused, match=r"arguments\.amount"):
        client_of(executing, card_id).execute("下单", {"amount": "many"})
    executing.cardctl("card", "freeze", card_id)
    with pytest.raises(CardRejected):
        client_of(executing, card_id).execute("下单", {"amount": "many"})


def test_rejections_of_functions_are_journalled_to_a_limit(executing: Service) -> None:
    (card_id,) = executing.issue()
    for number in range(MAX_ENTRIES_PER_DAY + 5):
        assert execute(executing, card_id, "没有的", {"number": number}).status == 404
    assert Event.select().where(Event.kind == "rejected").count() == MAX_ENTRIES_PER_DAY


def test_malformed_requests_are_refused(executing: Service) -> None:
    for name, body in MALFORMED.items():
        refused = executing.request("POST", "/v1/execute", body, {"Content-Type": "application/json"})
        assert (refused.status, refused.body["code"]) == (400, "INVALID_REQUEST"), name
