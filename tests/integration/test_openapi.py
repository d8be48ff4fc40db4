"""The OpenAPI document: it says what the service is, and the service is what it says."""

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jsonschema_rs
import pytest
from falcon.inspect import inspect_routes

from app.console import card_query, journal
from app.console.page import Access
from app.console.rendering import CSRF_FIELD
from app.domain.codes import Code, EventKind
from app.domain.operators import Scope
from app.factory import create_app
from app.http import schemas, shop_schemas
from app.http.openapi import DOCUMENT
from app.http.problems import ProblemCode
from app.settings import Settings
from app.storage.database import Database
from app.storage.journal import Entry, append
from app.storage.models import Card, Event
from tests.integration.conftest import with_keys
from tests.support import openapi_contract as contract
from tests.support.console import Browser, add_operator
from tests.support.console_scene import csrf_of, furnish, paths
from tests.support.functions_service import FunctionsService
from tests.support.openapi_contract import is_console
from tests.support.service import ROOT, Service
from tests.support.shop import Shop

EXAMPLE = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # the card of the document's examples
CONSOLES_EXAMPLE = EXAMPLE[::-1]  # that of the console's forms: frozen there, it would be refused elsewhere
MOMENT = "2026-11-11T12:00:00.250000+00:00"

# What a schema cannot say makes valid requests of its making wrong ones: which public keys there are, durations up to
# 100 years, what is printable, that a key that was used for one order is for no other. The console's forms and queries
# are for browsers: they pass over what they do not know, and what their fields may say stands in the pages.
SCHEMATHESIS = """
[auth.openapi]
shop.bearer = "${SHOP_TOKEN}"
console.api_key = "${CONSOLE_SESSION}"

[checks]
positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422, 403]

[[operations]]
include-operation-id = ["verify", "offerFiles", "execute", "issueCards", "extendCards"]
checks.positive_data_acceptance.enabled = false

[[operations]]
include-tag = "console"
checks.positive_data_acceptance.enabled = false
checks.negative_data_rejection.enabled = false
generation.max-examples = 3

[[operations]]
include-operation-id = ["consoleOverview", "consoleSharing"]  # htmx is led to the log-in by a 204
checks.ignored_auth.enabled = false

[[operations]]
include-operation-id = "consoleLogOut"  # it would end the session that all others are sent with
enabled = false
"""


def test_the_document_has_the_services_routes_and_no_others(service: Service) -> None:
    app = create_app(Settings.from_env(service.environment))
    served = {
        (route.path, method.method) for route in inspect_routes(app) for method in route.methods if not method.internal
    }
    documented = {
        (path, method.upper()) for path, operations in contract.OPENAPI["paths"].items() for method in operations
    }
    answering_head = {(path, "HEAD") for path, method in documented if method == "GET" and not is_console(path)}
    assert served == documented | answering_head


def test_the_document_says_who_may_ask_what_of_the_console() -> None:
    security = {Access.PUBLIC: None, Access.OPERATOR: [{"console": []}], Access.OWNER: [{"console": ["owner"]}]}
    documented = {
        path: {method.upper(): operation.get("security") for method, operation in operations.items()}
        for path, operations in contract.OPENAPI["paths"].items()
        if is_console(path)
    }
    held = {path: {method: security[who] for method, who in access.items()} for path, access in paths().items()}
    assert documented == held


def test_the_document_has_the_fields_that_the_consoles_queries_and_forms_have(database: Database) -> None:
    add_operator("olga")
    scene = furnish(["plain"])
    queries = {path: set(query) for path, query in scene.queries.items()}
    queries |= {"/admin/cards/export": {*card_query.FIELDS, "chosen"}, "/admin/journal/export": {*journal.FIELDS}}
    missing = []
    for path, names in queries.items():
        operations = contract.OPENAPI["paths"][path]
        parameters = map(contract.resolved, (operations.get("get") or operations["post"])["parameters"])
        missing += [(path, name) for name in names - {parameter["name"] for parameter in parameters}]
    for path, form in scene.forms.items():
        operation = contract.OPENAPI["paths"][path]["post"]
        ((_kind, body),) = operation["requestBody"]["content"].items()
        fields = contract.resolved(body["schema"])["properties"].keys()
        missing += [(path, name) for name in form.keys() - fields]
        assert (CSRF_FIELD in fields) == ("security" in operation), path
    assert missing == []


def test_the_document_is_served_as_it_is(service: Service) -> None:
    answer = service.get("/v1/openapi.json")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/json", contract.OPENAPI)
    assert service.request("HEAD", "/v1/openapi.json").status == 200


def test_the_document_knows_every_code_and_every_scope() -> None:
    text = DOCUMENT.read_text("utf-8")
    unforeseen = {ProblemCode.INTERNAL_ERROR}
    missing = [code for code in {*Code, *ProblemCode} - unforeseen if not re.search(rf"\b{code}\b", text)]
    assert missing == []
    assert [scope for scope in Scope if f"Scope `{scope}`." not in text] == []


def test_the_document_has_the_fields_that_the_service_reads() -> None:
    for kind in (
        schemas.VerifyRequest,
        schemas.ExecuteRequest,
        shop_schemas.IssueRequest,
        shop_schemas.CardsRequest,
        shop_schemas.ExtendRequest,
    ):
        assert set(contract.OPENAPI["components"]["schemas"][kind.__name__]["properties"]) == set(
            kind.__struct_fields__
        )


def test_schemathesis_finds_no_500_and_no_undocumented_answer(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """As a shop, and in the console as an owner: each page's form with the session's own token."""
    functions = FunctionsService(tmp_path)
    shutil.copy(ROOT / "examples/functions/exchange_rates.py", functions.modules)
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(SCHEMATHESIS)
    with functions, Service(with_keys(tmp_path), database_url) as service:
        shop = Shop(service, database)
        furnish_examples()
        session = str(Browser(service).walk_in("olga").cookie("kadun_session"))
        command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(configuration), "run"]
        command += [f"http://127.0.0.1:{service.port}/v1/openapi.json", "--no-color", "--continue-on-failure"]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--generation-deterministic"]
        hooks = {
            "SCHEMATHESIS_HOOKS": str(ROOT / "tests/support/schemathesis_hooks.py"),
            "CONSOLE_CSRF": csrf_of(session),
        }
        environment = {**os.environ, **hooks, "SHOP_TOKEN": shop.token, "CONSOLE_SESSION": session}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        log = service.log.read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "unhandled error" not in log
    # It got through to the cards: its examples were done, not only refused.
    assert Event.select().where((Event.kind == EventKind.ACTIVATED) & (Event.card_id == EXAMPLE)).exists()
    assert done_by(f"shop:{shop.name}") >= {"issued", "frozen", "unfrozen", "extended"}
    assert done_by("console:olga") >= {"issued", "imported", "frozen", "extended", "exported"}


def furnish_examples() -> None:
    """Put what the document's examples name into the connected database, and olga, who does all in the console."""
    add_operator("olga")
    furnish(["xiaoli", "taobao"], operator="xiaoli")
    for card_id in (EXAMPLE, CONSOLES_EXAMPLE):
        Card.insert(id=card_id, validity=timedelta(days=30), created_at=datetime.now(UTC)).execute()
    issued = {"count": 1, "validity": "30d", "batch": None}
    append([Entry(datetime.fromisoformat(MOMENT), EventKind.ISSUED, actor="console:xiaoli", details=issued)])


def done_by(actor: str) -> set[str]:
    return {event.kind for event in Event.select().where(Event.actor == actor)}


@pytest.mark.parametrize(
    ("status", "content"),
    [(418, b'{"status": "ok"}'), (200, b'{"status": "well"}'), (200, b"{}")],
)
def test_an_answer_that_is_not_in_the_document_fails_a_test(status: int, content: bytes) -> None:
    headers = {"content-type": "application/json"}
    contract.check("GET", "/healthz?x=1", 200, headers, b'{"status": "ok", "more": 1}')
    with pytest.raises((AssertionError, jsonschema_rs.ValidationError)):
        contract.check("GET", "/healthz", status, headers, content)
    with pytest.raises(AssertionError, match="text/html"):
        contract.check("GET", "/healthz", 200, {"content-type": "text/html"}, content)


def test_so_does_an_answer_of_the_console() -> None:
    page, other = {"content-type": "text/html; charset=utf-8"}, {"content-type": "application/json"}
    contract.check("GET", "/admin/cards?q=x", 200, page, b"<p>")
    contract.check("HEAD", "/admin/cards", 405, page, b"")
    for status, headers in ((500, page), (303, {}), (200, other)):
        with pytest.raises(AssertionError):
            contract.check("GET", "/admin/cards", status, headers, b"<p>")
