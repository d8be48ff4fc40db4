"""The OpenAPI document: it says what the service is, and the service is what it says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema_rs
import pytest
from falcon.inspect import inspect_routes

from app.domain.codes import Code
from app.domain.operators import Scope
from app.factory import create_app
from app.http import schemas, shop_schemas
from app.http.openapi import DOCUMENT
from app.http.problems import ProblemCode
from app.settings import Settings
from app.storage.database import Database
from app.storage.models import Card, Event
from tests import contract
from tests.functions_service import FunctionsService
from tests.integration.conftest import with_keys
from tests.service import ROOT, Service
from tests.shop import Shop

EXAMPLE = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # the card of the document's examples
BESIDE = ("/admin", "/metrics")
"""What is no part of the interface: pages for people, and what never leaves the machine."""

# What a schema cannot say makes valid requests of its making wrong ones: which public keys there are, durations up to
# 100 years, what is printable, that a key that was used for one order is for no other.
SCHEMATHESIS = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", 404, 409, 422, 403]

[[operations]]
include-operation-id = ["verify", "offerFiles", "execute", "issueCards", "extendCards"]
checks.positive_data_acceptance.enabled = false
"""


def test_the_document_has_the_services_routes_and_no_others(service: Service) -> None:
    app = create_app(Settings.from_env(service.environment))
    served = {
        (route.path, method.method)
        for route in inspect_routes(app)
        for method in route.methods
        if not method.internal and not route.path.startswith(BESIDE)
    }
    documented = {
        (path, method.upper()) for path, operations in contract.OPENAPI["paths"].items() for method in operations
    }
    answering_head = {(path, "HEAD") for path, method in documented if method == "GET"}
    assert served == documented | answering_head


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
    functions = FunctionsService(tmp_path)
    shutil.copy(ROOT / "examples/functions/exchange_rates.py", functions.modules)
    configuration = tmp_path / "schemathesis.toml"
    configuration.write_text(SCHEMATHESIS)
    with functions, Service(with_keys(tmp_path), database_url) as service:
        shop = Shop(service, database)
        database.execute_sql(
            "INSERT INTO card (id, validity, is_activated, created_at) VALUES (%s, '30 days', false, now())", (EXAMPLE,)
        )
        command = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(configuration), "run"]
        command += [f"http://127.0.0.1:{service.port}/v1/openapi.json", "--no-color", "--continue-on-failure"]
        command += ["--header", f"Authorization: Bearer {shop.token}"]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--generation-deterministic"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        log = service.log.read_text()
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "unhandled error" not in log
    # It got through to the cards: its examples were done, not only refused.
    assert {"activated", "issued", "frozen", "unfrozen", "extended"} <= {event.kind for event in Event.select()}
    assert Card.select().count() > 1


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
