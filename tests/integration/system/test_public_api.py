"""What anybody reaches: the API as its OpenAPI document says, malformed and forged requests, and `/` and `/card`."""
# Owns http-problems, http-openapi.

import base64
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from falcon.inspect import inspect_routes

from app.domain.codes import Code, EventKind
from app.domain.operators.operators import Scope
from app.factory import create_app
from app.http.openapi.paths import EXAMPLE_ID
from app.http.problems import ProblemCode
from app.runtime.settings import Settings
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.integration.conftest import with_keys
from tests.support import openapi_contract as contract
from tests.support.console.console import Browser, Seen, add_operator
from tests.support.services.functions_service import FunctionsService
from tests.support.services.raw_http import RawConnection, posting
from tests.support.services.service import ROOT, Response, Service, question
from tests.support.shop import ALLOWED, Customers, Shop, set_terms


def changed(**fields: Any) -> bytes:
    return json.dumps(question("0" * 32, **fields)).encode()


def is_problem(answer: Response, status: int, code: str) -> None:
    assert (answer.status, answer.body.get("code")) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "token" not in answer.body
    assert answer.body["status"] == status


def test_malformed_bodies_and_wrong_fields_are_refused_before_the_rules(service: Service) -> None:
    """tests/unit/licence/test_schemas.py has them all, but for a public key of low order."""
    low_order = changed(client_public_key="A" * 43)
    for field, body in ((None, b"[" * 30_000), ("client_public_key", low_order), ("extra", changed(extra=1))):
        answer = service.post(body)
        assert answer.body.get("field") == field, body[:100]
        is_problem(answer, 400, "INVALID_REQUEST")
    assert Event.select().count() == 0


def is_refused(service: Service, sent: bytes, *, ends: bool = False) -> None:
    """Send what is no request, perhaps to its end: a problem answers, the service closes, and nothing fails."""
    begun = len(service.log.read_bytes())
    with RawConnection(service.port) as connection:
        connection.send(sent)
        if ends:
            connection.socket.shutdown(socket.SHUT_WR)
        answer = connection.answer()
        problem = answer.json()
        assert (answer.status, problem["status"], problem["code"]) == (400, 400, "INVALID_REQUEST"), sent
        assert answer.headers["content-type"] == "application/problem+json", sent
        assert answer.headers["x-request-id"] == problem["request_id"], sent
        assert connection.is_closed(), sent
    assert "Traceback" not in service.log.read_bytes()[begun:].decode(), sent


def test_malformed_chunks_are_no_request_and_end_the_connection(service: Service, database: Database) -> None:
    headers = (f"Authorization: Bearer {Shop(service, database).token}", "Idempotency-Key: k")
    for path in ["/v1/verify", "/v1/shop/cards"]:
        for body in [
            *(b"zz\r\n\r\n", b"-1\r\n", b"2 \r\n{}\r\n0\r\n\r\n", b"f" * 20 + b"\r\n"),
            *(b"2\r\n{}0\r\n\r\n", b"2\n{}\n0\n\n", b"9\r\n{"),
        ]:
            is_refused(service, posting(path, body, *headers, "Transfer-Encoding: chunked"), ends=True)


def test_what_is_no_http_is_answered_with_a_problem(service: Service) -> None:
    for sent in [
        b"GET  /healthz\r\n\r\n",
        b"get /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 9_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"POST /v1/verify HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/verify HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/verify HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/verify HTTP/1.1\r\nExpect: a miracle\r\n\r\n",
    ]:
        is_refused(service, sent)


def test_another_media_type_and_odd_paths_are_refused_whatever_the_accept_header(service: Service) -> None:
    answer = service.request("POST", "/v1/verify", changed(), {"Content-Type": "text/plain"})
    is_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")
    for path in ["/v1", "/v1/", "/v1/verify/", "/V1/verify", "/v1/verify%00", "/%ff%fe", "/..%2f..%2fetc/passwd"]:
        is_problem(service.request("GET", path), 404, "NOT_FOUND")
    for accept in ["text/html", "application/xml", "*/*", "image/png", "nonsense"]:
        is_problem(service.request("GET", "/nothing", headers={"Accept": accept}), 404, "NOT_FOUND")
    for path in ("/healthz", "/readyz", "/.well-known/jwks.json", "/v1/openapi.json"):
        assert service.request("HEAD", path).status == service.get(path).status == 200
    assert service.request("HEAD", "/v1/verify").status == 405


FORGED = ("X-Forwarded-For", "Forwarded", "CF-Connecting-IP", "True-Client-IP")


def test_without_a_proxy_the_address_is_the_peers(service: Service) -> None:
    (card_id,) = service.issue()
    forged = dict.fromkeys((*FORGED, "X-Real-IP"), "203.0.113.7")
    assert service.verify(question(card_id, ip="203.0.113.7"), **forged).status == 200
    assert Client.get().ip == "127.0.0.1"
    event = Event.get(Event.kind == "activated")
    assert (event.ip, event.claimed_ip) == ("127.0.0.1", "203.0.113.7")


def test_behind_a_proxy_the_address_is_that_of_its_header_and_metrics_are_not_served(proxied: Service) -> None:
    (card_id,) = proxied.issue()
    assert proxied.verify(question(card_id), address="198.51.100.1").status == 200
    forged = dict.fromkeys(FORGED, "198.51.100.1")
    asked = question(card_id, hardware="another", ip="198.51.100.1")
    assert proxied.verify(asked, address="203.0.113.7", **forged).claims["code"] == "CLIENT_MISMATCH"
    assert proxied.get("/metrics").status == 200
    is_problem(proxied.request("GET", "/metrics", headers={"X-Real-IP": "198.51.100.1"}), 404, "NOT_FOUND")


def test_an_invalid_or_repeated_address_from_the_proxy_is_a_fault_of_the_installation(proxied: Service) -> None:
    for seen in [None, "", "localhost", "1.2.3.4, 5.6.7.8", "fe80::1%eth0", "999.1.1.1"]:
        answer = proxied.verify(question("0" * 32), address=seen)
        is_problem(answer, 503, "UNAVAILABLE")
        assert answer.headers["retry-after"], seen
        assert "the installation is at fault" in proxied.log.read_text(), seen
    with RawConnection(proxied.port) as connection:
        connection.send(posting("/v1/verify", changed(), "X-Real-IP: 127.0.0.1"))  # a second one
        assert connection.answer().status == 503


# A schema cannot express which public keys are valid, which durations are up to 100 years, what is printable, or that
# an idempotency key was used before: some requests that the schemas allow are refused. Nor that an address may ask for
# self-service only once a second.
SCHEMATHESIS = """
[auth.openapi]
shop.bearer = "${SHOP_TOKEN}"

[checks]
positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422, 403]

[[operations]]
include-operation-id = [
    "verify", "offerFiles", "execute", "issueCards", "extendCards", "ownCard", "unbindOwnCard", "renewOwnCard",
]
checks.positive_data_acceptance.enabled = false
"""


def test_the_document_that_is_served_has_the_routes_of_the_public_api_and_no_others(service: Service) -> None:
    answer = service.get("/v1/openapi.json")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/json", contract.OPENAPI)
    app = create_app(Settings.from_env(service.environment))
    served = {
        (route.path, method.method)
        for route in inspect_routes(app)
        for method in route.methods
        if not method.internal and not route.path.startswith("/admin") and route.path not in {"/", "/card", "/metrics"}
    }
    documented = {(path, method.upper()) for path, methods in contract.OPENAPI["paths"].items() for method in methods}
    assert served == documented | {(path, "HEAD") for path, method in documented if method == "GET"}


def test_every_code_and_every_scope_belongs_to_an_operation() -> None:
    operations = [operation for methods in contract.OPENAPI["paths"].values() for operation in methods.values()]
    answers = [contract.resolved(answer) for operation in operations for answer in operation["responses"].values()]
    schemas = [kind["schema"] for answer in answers for kind in answer.get("content", {}).values() if "schema" in kind]
    codes = {code for schema in schemas for code in schema.get("properties", {}).get("code", {}).get("enum", ())}
    everywhere = {ProblemCode.METHOD_NOT_ALLOWED, ProblemCode.INTERNAL_ERROR}
    assert codes == {*Code, *ProblemCode} - everywhere
    described = " ".join(operation.get("description", "") for operation in operations)
    assert [scope for scope in Scope if f"Scope `{scope}`." not in described] == []


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "phases", ["examples,coverage", pytest.param("examples,coverage,fuzzing", marks=pytest.mark.nightly)]
)
def test_schemathesis_finds_no_fault(database: Database, database_url: str, tmp_path: Path, phases: str) -> None:
    functions = FunctionsService(tmp_path)
    shutil.copy(ROOT / "examples/functions/exchange_rates.py", functions.modules)
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(SCHEMATHESIS)
    with functions, Service(with_keys(tmp_path), database_url) as service:
        shop = Shop(service, database)
        set_terms(database, **ALLOWED)
        Card.insert(id=EXAMPLE_ID, validity=timedelta(days=30), created_at=datetime.now(UTC)).execute()
        command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(configuration), "run"]
        command += [f"http://127.0.0.1:{service.port}/v1/openapi.json", "--no-color", "--continue-on-failure"]
        command += ["--phases", phases, "--max-examples", "10", "--generation-deterministic"]
        environment = {**os.environ, "SHOP_TOKEN": shop.token}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        log = service.log.read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "unhandled error" not in log
    # The document's examples took effect: a card was activated, and the shop's orders were carried out.
    assert Event.select().where((Event.kind == EventKind.ACTIVATED) & (Event.card_id == EXAMPLE_ID)).exists()
    done_by_shop = {event.kind for event in Event.select().where(Event.actor == f"shop:{shop.name}")}
    assert done_by_shop >= {"issued", "frozen", "unfrozen", "extended"}


ADD = "scripts/cardctl admin add NAME"


def front(service: Service, **headers: str) -> Seen:
    seen = Browser(service, language="en").get("/", headers)
    assert (seen.status, seen.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Licence server" in seen.words
    assert "卡密验证服务" in seen.words
    return seen


def style_digest(seen: Seen) -> str:
    style = seen.text.partition("<style>")[2].partition("</style>")[0]
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def test_a_browser_sees_what_this_server_is_and_who_asks_for_json_gets_a_problem(service: Service) -> None:
    for accept in ("text/html,application/xhtml+xml,*/*;q=0.8", "*/*", "application/json" + ";" * 500):
        seen = front(service, Accept=accept)
        assert f"style-src 'sha256-{style_digest(seen)}';" in seen.headers["content-security-policy"], accept
        assert not re.search(r"[0-9]+\.[0-9]+\.[0-9]", seen.words), "a version is of use to an attacker"
    for accept in ("application/json", "application/problem+json, text/html;q=0.5"):
        answer = service.request("GET", "/", headers={"Accept": accept})
        assert (answer.status, answer.body["code"]) == (404, "NOT_FOUND")
    assert service.request("HEAD", "/").status == 200
    assert service.request("POST", "/", b"{}").status == 405


def test_the_front_page_and_the_consoles_paths_say_how_to_open_it_until_there_is_an_operator(service: Service) -> None:
    seen = front(service)
    assert (ADD in seen.words, "/admin" in seen.text) == (True, False)
    for path in ("/admin", "/admin/login", "/admin/nothing"):
        seen = Browser(service).get(path)
        assert (seen.status, ADD in seen.words, "stylesheet" in seen.text) == (404, True, False)
    add_operator("olga")
    seen = front(service)
    assert (ADD in seen.words, seen.text.count('href="/admin/"')) == (False, 2)


def test_behind_the_proxy_the_console_is_named_only_to_whom_the_proxy_says_so(proxied: Service) -> None:
    def tells(**headers: str) -> tuple[bool, bool]:
        seen = front(proxied, **{"X-Real-IP": "192.0.2.1"}, **headers)
        return "/admin" in seen.text, ADD in seen.words

    welcome, unwelcome = {"X-Kadun-Admin-Stranger": "0"}, {"X-Kadun-Admin-Stranger": "1"}
    assert [tells(**welcome), tells(**unwelcome), tells()] == [(False, True), (False, False), (False, False)]
    add_operator("olga")
    assert [tells(**welcome), tells(**unwelcome), tells()] == [(True, False), (False, False), (False, False)]


def offers(page: Seen) -> list[str]:
    """What the page's buttons do."""
    return [button[1] for form in page.forms for button in form.buttons]


@pytest.fixture
def customers(proxied: Service, database: Database) -> Customers:
    return Customers(proxied, database, **ALLOWED, contact="QQ 10001")


def test_the_page_offers_only_what_is_possible(customers: Customers) -> None:
    service, customer = customers.service, Browser(customers.service, address="203.0.113.50")

    def press(do: str, card_id: str) -> Seen:
        return customer.post("/card", {"card_id": card_id, "do": do, "lang": "en"}, csrf="")

    (unused,), (permanent,) = service.issue(), service.issue(validity="permanent")
    assert service.verify(question(permanent), address="192.0.2.1").status == 200
    assert [offers(press("look", card_id)) for card_id in (unused, permanent)] == [["renew"], ["unbind"]]
    assert "Cost none" in press("unbind", permanent).words
    customers.allow(self_renew="", self_unbind_per_30_days="")
    assert offers(press("look", permanent)) == []
    refused = press("unbind", permanent)
    assert (refused.status, "cannot be unbound now" in refused.words) == (403, True)


def test_what_is_mistyped_or_unknown_is_told_and_kept(customers: Customers) -> None:
    customer = Browser(customers.service, address="203.0.113.50")
    for typed, status in (("", 400), ("x" * 65, 400), ("<b>no card</b>", 404), ("\u202e", 404)):
        seen = customer.post("/card", {"card_id": typed, "lang": "en"}, csrf="")
        assert (seen.status, "<b>" in seen.text, 'role="alert"' in seen.text) == (status, False, True), typed
        assert ("QQ 10001" in seen.words, "look" in offers(seen), seen.cookies) == (True, True, ()), typed
    for fields, status in (({"card_id": "x", "with_card_id": "", "do": "renew"}, 400), ({"card_id": "x" * 5000}, 413)):
        assert customer.post("/card", fields, csrf="").status == status
    seen = customer.send("POST", "/card", b"{}", {"Content-Type": "application/json"})
    assert (seen.status, seen.headers["content-type"]) == (415, "text/html; charset=utf-8")


def test_the_page_needs_no_other_file_is_kept_nowhere_and_is_linked_while_it_is_there(customers: Customers) -> None:
    browser = Browser(customers.service, address="203.0.113.55")
    seen = browser.get("/card?lang=en")
    style, rest = f"style-src 'sha256-{style_digest(seen)}'", "frame-ancestors 'none'; base-uri 'none'"
    assert seen.headers["content-security-policy"] == f"default-src 'none'; {style}; form-action 'self'; {rest}"
    assert (seen.headers["referrer-policy"], seen.headers["cache-control"]) == ("no-referrer", "no-store")
    assert not re.search(r"<(script|link|img|iframe)|src=|style=|/admin", seen.text)
    assert {(form.method, form.action) for form in seen.forms} == {("post", "/card")}
    assert [link for link in browser.get("/").links if "/card" in link] == ["/card?lang=zh", "/card?lang=en"]
    customers.allow(self_service="")
    assert not [link for link in browser.get("/").links if "/card" in link]
