"""The OpenAPI document describes the public API, and the service answers as it says."""
# Owns http-openapi.

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from falcon.inspect import inspect_routes

from app.domain.codes import Code, EventKind
from app.domain.operators.operators import Scope
from app.factory import create_app
from app.http.openapi.paths import EXAMPLE_ID
from app.http.problems import ProblemCode
from app.runtime.settings import Settings
from app.storage.database import Database
from app.storage.models import Card, Event
from tests.integration.conftest import with_keys
from tests.support import openapi_contract as contract
from tests.support.self_service import ALLOWED, set_terms
from tests.support.services.functions_service import FunctionsService
from tests.support.services.service import ROOT, Service
from tests.support.shop import Shop

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


def test_the_document_has_the_routes_of_the_public_api_and_no_others(service: Service) -> None:
    app = create_app(Settings.from_env(service.environment))
    served = {
        (route.path, method.method)
        for route in inspect_routes(app)
        for method in route.methods
        if not method.internal and not route.path.startswith("/admin") and route.path not in {"/", "/card", "/metrics"}
    }
    documented = {(path, method.upper()) for path, methods in contract.OPENAPI["paths"].items() for method in methods}
    assert served == documented | {(path, "HEAD") for path, method in documented if method == "GET"}


def test_the_document_is_served_as_it_is(service: Service) -> None:
    answer = service.get("/v1/openapi.json")
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, "application/json", contract.OPENAPI)
    assert service.request("HEAD", "/v1/openapi.json").status == 200


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
