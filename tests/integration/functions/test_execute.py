"""`POST /v1/execute` and `cardctl function …`: the rules, the vendor's function, and how many calls run at once."""
# Owns functions-execute.

import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest

from app.domain.cards.cards import REFERENCE_LENGTH
from app.functions.call import MAX_DETAIL
from app.runtime.clock import utc_now
from app.services.licence.licence import TOKEN_SECONDS
from app.storage.database import Database
from app.storage.models import Card, Client, Event, Usage
from app.storage.models import Client as ClientRow
from tests.support.licence.bound_cards import CardState, write
from tests.support.services.functions_service import FUNCTION_SECONDS, WELL, FunctionsService, Rendezvous, write_wheel
from tests.support.services.service import OPEN, Response, Service, question, wait_for

SECRET = "hunter2-" + "q" * 20


def execute(
    service: Service, card_id: str, function: str, arguments: Any, *, address: str | None = None, **more: Any
) -> Response:
    """Ask for a function, and check the verdict; `address` is the client address that the proxy reports."""
    headers = {"Content-Type": "application/json", "Accept-Language": "en"}
    if address is not None:
        headers["X-Real-IP"] = address
    asked = question(card_id, function=function, arguments=arguments, **more)
    body = json.dumps(asked).encode()
    answer = service.request("POST", "/v1/execute", body, headers)
    if token := answer.body.get("token"):
        keys = {key["kid"]: key for key in service.get("/.well-known/jwks.json").body["keys"]}
        key = jwt.PyJWK(keys[jwt.get_unverified_header(token)["kid"]])
        verified = jwt.decode(token, key, ["EdDSA"], audience="kadun-client", issuer="kadun")
        assert [verified[name] for name in ("sub", "nonce", "function")] == [card_id, asked["nonce"], function]
        assert verified["code"] == answer.body["code"]
        assert verified["request_sha256"] == hashlib.sha256(body).hexdigest()  # the arguments included
        assert not {"KERNAL_DATA_KEY", "KERNAL_DATA_KEY_SEALED"} & set(verified)
    return answer


def journalled(service: Service, answer: Response) -> dict[str, Any]:
    """Return the journal entry of the rejection that an answer refers to."""
    reference = answer.claims["jti"][-REFERENCE_LENGTH:]
    assert f"(reference {reference})" in answer.body["message"]
    events = service.cardctl_json("events", "--reference", reference)
    (rejected,) = [event for event in events if event["kind"] == "rejected"]
    return dict(rejected)


class Held:
    """Calls that have begun and wait to be told to go on."""

    def __init__(self, service: Service) -> None:
        self._service, self._rendezvous, self._threads = service, Rendezvous(), ThreadPoolExecutor(8)
        self.calls: list[Future[Response]] = []

    def call(self, card_id: str, hardware: str = "machine-1", address: str | None = None) -> None:
        """Begin one and wait until it runs."""
        asked = (self._service, card_id, "等待", {"port": self._rendezvous.port})
        self.calls.append(self._threads.submit(execute, *asked, hardware=hardware, address=address))
        self._rendezvous.wait()

    def release(self) -> list[Response]:
        self._rendezvous.close()
        answers = [call.result() for call in self.calls]
        self._threads.shutdown()
        return answers


def test_a_good_card_gets_the_result_in_a_signed_verdict(executing: Service) -> None:
    (card_id,) = executing.issue()
    answer = execute(executing, card_id, "求和", {"a": 2, "b": 40})
    assert (answer.status, answer.claims["result"]) == (200, {"sum": 42})
    assert (answer.claims["accepted"], answer.claims["activated"]) == (True, True)
    assert answer.claims["card_expires_at"] - answer.claims["card_activated_at"] == 30 * 86_400
    again = execute(executing, card_id, "求和", {"a": 1, "b": 1})
    assert (again.claims["result"], again.claims["activated"]) == ({"sum": 2}, False)
    assert [(row.function, row.count) for row in Usage.select()] == [("求和", 2)]
    value = [None, False, 0, -1.5, "", "卡 盾", [], {}, {"a": [1, {"b": None}]}, 2**64, 10**400]
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


def test_the_rules_come_first_and_an_unknown_function_is_a_rejection_and_no_usage(executing: Service) -> None:
    frozen, card_id = executing.issue(2)
    executing.cardctl("card", "freeze", frozen)
    assert execute(executing, frozen, "没有的", {}).body["code"] == "CARD_FROZEN"
    assert (Usage.select().count(), ClientRow.select().count()) == (0, 0)
    answer = execute(executing, card_id, "没有的", {})
    assert (answer.status, answer.body["code"]) == (404, "FUNCTION_NOT_FOUND")
    assert (answer.claims["accepted"], answer.claims["activated"]) == (False, True)
    assert "result" not in answer.claims
    event = journalled(executing, answer)
    assert (event["kind"], event["code"], event["card_id"]) == ("rejected", "FUNCTION_NOT_FOUND", card_id)
    assert (event["function"], event["hardware"], event["ip"]) == ("没有的", "machine-1", "127.0.0.1")
    assert executing.verify(question(card_id, "machine-1", OPEN)).status == 200
    for more in ({}, {"client_public_key": "Seq_yzYzYRF-V57CdMFBAnFifijk-ho8SJ3Mmt_yfWY"}):
        answer = execute(executing, card_id, OPEN, {}, **more)
        assert (answer.status, answer.body["code"]) == (404, "FUNCTION_NOT_FOUND"), "what earns the key is no function"
    assert {row.function: row.count for row in Usage.select()} == {OPEN: 1}


def test_a_traceback_is_in_the_journal_and_not_in_the_answer(executing: Service) -> None:
    (card_id,) = executing.issue()
    answer = execute(executing, card_id, "泄密", {"secret": SECRET})
    assert (answer.status, answer.body["code"]) == (502, "FUNCTION_FAILED")
    assert answer.claims["accepted"] is False
    told = json.dumps([answer.headers, answer.body, answer.claims])
    assert (SECRET in told, "Traceback" in told) == (False, False)
    detail = journalled(executing, answer)["details"]["detail"]
    assert "Traceback" in detail
    assert f"ValueError: password {SECRET} refused" in detail
    assert SECRET not in executing.log.read_text()
    shown = executing.cardctl("events", "--reference", answer.claims["jti"][-REFERENCE_LENGTH:]).stdout
    assert "\nTraceback (most recent call last):\n" in shown
    assert SECRET in executing.cardctl("events", "--card", card_id).stdout


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


def test_arguments_that_do_not_fit_are_refused(executing: Service) -> None:
    (card_id,) = executing.issue()
    answer = execute(executing, card_id, "下单", {"amount": 0, "x" * 50_000: 2})
    assert (answer.status, answer.body["code"], answer.body["field"]) == (400, "INVALID_REQUEST", "arguments.amount")
    assert len(json.dumps(answer.body)) < 2_000, "what was sent is quoted to a limit"
    answer = execute(executing, "0" * 32, "求和", [])
    assert (answer.status, answer.body["field"]) == (400, "arguments"), "before the rules"


@contextmanager
def beside_functions(folder: Path, database_url: str, slots: int, **more: str) -> Iterator[Service]:
    """A service of one process and one native thread beside a functions service with so many slots."""
    limit = {"KADUN_FUNCTION_SECONDS": "120"}
    settings = {"KADUN_WORKERS": "1", "KADUN_THREADS": "1", **limit, **more}
    with (
        FunctionsService(folder, KADUN_FUNCTION_CONCURRENCY=str(slots), **limit).with_shop(),
        Service(folder, database_url, **settings) as service,
    ):
        yield service


def test_beside_a_call_all_but_another_call_is_served(database_url: str, tmp_path: Path, database: Database) -> None:
    with beside_functions(tmp_path, database_url, slots=1) as service:
        first, second, frozen = service.issue(3)
        service.cardctl("card", "freeze", frozen)
        held = Held(service)
        held.call(first)
        decided_by = int(time.time())
        busy = execute(service, second, "求和", {"a": 1, "b": 1}, hardware="machine-2")
        assert (busy.status, busy.body["code"]) == (503, "UNAVAILABLE")
        assert int(busy.headers["retry-after"]) > 0
        assert execute(service, frozen, "求和", {}, hardware="machine-3").body["code"] == "CARD_FROZEN"
        for _ in range(20):
            assert service.verify(question(first)).status == 200
        sessions = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%%'"
        # Other services' are over in a moment. PostgreSQL would end the call's after 30 s, by the service's settings.
        wait_for(lambda: database.execute_sql(sessions).fetchone()[0] == 0, 10)
        service.cardctl("card", "freeze", first)
        wait_for(lambda: time.time() > decided_by + 1)
        assert not held.calls[0].done()
        (answer,) = held.release()
        assert answer.claims["result"] == "done"
        # The verdict's time is the answer's, and the activation's is the decision's.
        assert answer.claims["card_activated_at"] <= decided_by < answer.claims["iat"]
        assert answer.claims["exp"] - answer.claims["iat"] == TOKEN_SECONDS
        assert execute(service, second, "求和", {"a": 1, "b": 1}, hardware="machine-2").status == 200


def test_a_card_has_one_call_and_an_address_two_and_none_takes_a_thread(database_url: str, tmp_path: Path) -> None:
    with beside_functions(tmp_path, database_url, slots=4, KADUN_BEHIND_PROXY="true") as proxied:
        cards = proxied.issue(3)

        def status(card: int, address: str) -> int:
            asked = (proxied, cards[card], "求和", {"a": 1, "b": 1})
            return execute(*asked, hardware=f"machine-{card}", address=address).status

        held = Held(proxied)
        held.call(cards[0], "machine-0", "2001:db8::1")
        assert status(0, "192.0.2.1") == 503, "the card's second call"
        held.call(cards[1], "machine-1", "2001:db8::2")
        assert status(2, "2001:db8::3") == 503, "the third call of one /64"
        assert status(2, "2001:db8:0:1::3") == 200
        assert proxied.verify(question(cards[2], hardware="machine-2"), address="2001:db8::3").status == 200
        assert [answer.claims["result"] for answer in held.release()] == ["done"] * 2
        assert status(0, "2001:db8::1") == 200


def test_without_the_functions_service_calls_are_unavailable_and_cards_are_still_verified(service: Service) -> None:
    (card_id,) = service.issue()
    answer = execute(service, card_id, "求和", {"a": 1, "b": 1})
    assert (answer.status, answer.body["code"]) == (503, "UNAVAILABLE")
    assert "retry-after" in answer.headers
    assert execute(service, "0" * 32, "求和", {}).body["code"] == "CARD_NOT_FOUND"
    assert service.verify(question(card_id)).status == 200


SETTINGS = {"KADUN_FUNCTION_SECONDS": str(FUNCTION_SECONDS)}


@pytest.fixture(scope="module")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsService]:
    with FunctionsService(tmp_path_factory.mktemp("shop"), **SETTINGS).with_shop() as running:
        yield running


@pytest.fixture
def shop(_shop: FunctionsService, database_url: str) -> Service:
    """An installation of which only the functions service runs."""
    return Service(_shop.modules.parent, database_url, **SETTINGS)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[FunctionsService]:
    """A functions service for a test that changes it."""
    with FunctionsService(tmp_path) as running:
        yield running


@pytest.fixture
def commands(running: FunctionsService, database_url: str) -> Service:
    """An installation of which only the functions service runs."""
    return Service(running.modules.parent, database_url, KADUN_FUNCTIONS_DIR=str(running.modules))


def test_functions_are_listed_with_their_arguments(shop: Service) -> None:
    listed = json.loads(shop.cardctl("function", "list", "--format", "json").stdout)
    by_name = {function["name"]: function for function in listed["functions"]}
    assert by_name["求和"]["module"] == by_name["下单"]["module"] == "shop"
    assert listed["broken"] == []
    assert listed["folder"] == "data/functions"  # on the host, as with containers
    (line,) = [line for line in shop.cardctl("function", "list").stdout.splitlines() if "下单" in line]
    assert "amount: integer, [to: string], [note: string | null]" in line
    assert "Say that it has begun" in shop.cardctl("function", "list").stdout


def test_a_broken_module_is_listed_with_its_error(commands: Service, running: FunctionsService) -> None:
    (running.with_shop().modules / "tax.py").write_text("import no_such_package\n")
    told = commands.cardctl("function", "reload", check=False)
    assert told.returncode == 1
    assert "\n无法加载 / broken: tax: ModuleNotFoundError: No module named 'no_such_package'\n" in told.stdout
    assert "求和" in told.stdout
    assert told.stderr.strip().endswith(": tax")
    assert told.stderr.count("\n") == 1
    in_full = commands.cardctl("function", "list", "--format", "json", check=False)
    assert in_full.returncode == 1
    (broken,) = json.loads(in_full.stdout)["broken"]
    assert "Traceback" in broken["error"]


def test_the_result_of_a_function_is_printed(shop: Service, tmp_path: Path) -> None:
    ran = shop.cardctl("function", "run", "求和", "--arguments", '{"a": 1, "b": 2}')
    assert (json.loads(ran.stdout), ran.stderr) == ({"sum": 3}, "")
    text, source = '{"a": "卡", "b": "盾"}', tmp_path / "arguments.json"
    source.write_text(text, "utf-8")
    for name in (str(source), "-"):
        ran = shop.cardctl("function", "run", "求和", "--arguments-file", name, text=text)
        assert json.loads(ran.stdout) == {"sum": "卡盾"}, name


def test_invalid_arguments_and_unknown_cards_are_refused(shop: Service) -> None:
    for arguments in ["", "x", "[]", "null", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 100_000]:
        told = shop.cardctl("function", "run", "求和", "--arguments", arguments, check=False)
        assert (told.returncode, told.stdout) == (2, ""), arguments
    twice = ["--arguments", "{}", "--arguments-file", "-"]
    assert shop.cardctl("function", "run", "求和", *twice, check=False).returncode == 2
    assert "there is no card" in shop.refusal("function", "run", "来者", "--card", "Z" * 32)


def test_a_function_can_be_run_as_a_given_card(shop: Service, database: Database) -> None:
    (card_id,) = write([CardState(hardware="machine-1")], utc_now())
    ran = json.loads(shop.cardctl("function", "run", "来者", "--card", card_id.lower()).stdout)
    assert ran == [card_id, Client.get().id, Card.get().expires_at.isoformat()]
    assert Usage.select().count() == 0  # not counted as usage
    nobody = json.loads(shop.cardctl("function", "run", "来者").stdout)
    assert nobody == ["0" * 32, "0" * 32, None]


def test_a_failure_is_explained_and_its_reason_is_the_last_line(shop: Service, database: Database) -> None:
    for name, arguments, said, last in [
        ("没有的", "{}", "", "There is no function 没有的"),
        ("唠叨", '{"for ever": true}', "half a thing", f"longer than {FUNCTION_SECONDS} s"),
        ("下单", '{"amount": "many"}', "", "arguments.amount: "),
        ("怪话", "{}", "\\x1b[31mred", "The function failed"),
    ]:
        told = shop.cardctl("function", "run", name, "--arguments", arguments, check=False)
        assert (told.returncode, told.stdout) == (1, ""), name
        assert said in told.stderr, name
        assert told.stderr.count("half a thing") <= 1, "what was printed before the time-out is shown once"
        assert last in told.stderr.splitlines()[-1], name
        assert "\x1b" not in told.stderr, name
    assert Event.select().where(Event.kind == "rejected").count() == 0


def test_requirements_are_installed_and_loaded_without_secrets(commands: Service, running: FunctionsService) -> None:
    running.with_module("pay", f"import tiny\n{WELL}".replace("return arguments", "return tiny.VERSION"))
    commands.cardctl("function", "reload", check=False)
    write_wheel(running.modules, "1.0")
    (running.modules / "requirements.txt").write_text("./tiny-1.0-py3-none-any.whl\n")
    settings, secret = commands.environment, {"DATABASE_URL", "KERNAL_DATA_KEY"}
    commands.environment = {name: value for name, value in settings.items() if name not in secret}
    done = commands.run_cardctl("function", "install")
    commands.environment = settings
    assert ("Installed into" in done.stderr, "well" in done.stdout) == (True, True)
    assert json.loads(commands.cardctl("function", "run", "well").stdout) == "1.0"


def test_what_is_missing_or_not_loaded_yet_is_one_line(commands: Service, running: FunctionsService) -> None:
    running.stop()
    for command in (("list",), ("reload",), ("run", "求和")):
        assert "The functions service is unavailable" in commands.refusal("function", *command)
    (running.modules / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    running.spawn()
    wait_for(lambda: "no answer" not in commands.cardctl("function", "list", check=False).stderr, 30)
    expected = f"cardctl: 功能尚在加载 / the functions are not loaded yet ({running.modules})\n"
    assert commands.refusal("function", "list") == expected
    assert "requirements.txt: nothing to install" in commands.refusal("function", "install")
    del commands.environment["KADUN_FUNCTIONS_DIR"]
    assert commands.refusal("function", "install") == "cardctl: KADUN_FUNCTIONS_DIR is not set\n"
