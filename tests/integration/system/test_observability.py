"""What an operator sees of a service: metrics, log, health, the journal, and why it does not start."""
# Owns health.

import json
import re
import urllib.request
from pathlib import Path

from app.storage.database import Database
from app.storage.models import Operator
from app.storage.schema import expected_version
from app.tokens.sealing_key import SealingKey
from tests.support.console.console import add_operator
from tests.support.services.service import Response, Service, question, wait_for


def test_metrics_add_up_across_the_processes(own_service: Service) -> None:
    for _ in range(40):
        own_service.verify(question("0" * 32))
    with urllib.request.urlopen(f"http://127.0.0.1:{own_service.port}/metrics") as answer:
        text = answer.read().decode()
    assert re.findall(r'kadun_verdicts_total\{code="CARD_NOT_FOUND"\} ([0-9.]+)', text) == ["40.0"]


def test_a_request_is_one_line_of_json_whatever_its_path(service: Service) -> None:
    def logged(answer: Response) -> dict[str, object]:
        request_id = answer.headers["x-request-id"]
        # Not `splitlines`: a path in a line may hold what Unicode calls a line's end. The last may be on its way.
        found = wait_for(lambda: [each for each in service.log.read_text().split("\n")[:-1] if request_id in each])
        assert found[0].isprintable()
        return dict(json.loads(found[0]))

    line = logged(service.verify(question("0" * 32)))
    assert (line["message"], line["status"], line["code"]) == ("request", 404, "CARD_NOT_FOUND")
    assert logged(service.get("/%C2%9B31m%E2%80%AE"))["path"] == r"/\x9b31m\u202e"
    assert logged(service.get("/long-" + "x" * 3000))["path"] == "/long-" + "x" * 194
    assert logged(service.get("/" + "%07" * 300))["path"] == "/" + r"\x07" * 49 + r"\x0"


def test_the_health_check_asks_the_running_service_and_the_journal_is_filtered(service: Service) -> None:
    assert service.cardctl("healthcheck").returncode == 0
    (card_id,) = service.issue()
    for asked in (card_id, "0" * 32):
        answer = service.verify(question(asked), **{"Accept-Language": "en"})
    reference = answer.claims["jti"][-8:]
    assert answer.body["message"].endswith(f"(reference {reference})")
    dashed = "-".join([card_id[:16].lower(), card_id[16:]])
    for arguments, kinds in (
        ((), ["rejected", "activated", "issued"]),
        (("--kind", "CARD_NOT_FOUND", "--since", "7d"), ["rejected"]),
        (("--card", dashed), ["activated"]),
        (("--reference", reference.lower()), ["rejected"]),
    ):
        assert [event["kind"] for event in service.cardctl_json("events", *arguments)] == kinds
    assert "no such reference" in service.cardctl("events", "--reference", "00000000").stderr


def refused_start(service: Service) -> str:
    """Start what must not run; return the one line that says why."""
    service.log.write_text("")
    assert service.spawn().wait(60) == 1
    (line,) = [line for line in service.log.read_text().splitlines() if line.startswith("kadun: ")]
    assert "Traceback" not in service.log.read_text()
    return line


def test_a_wrong_setting_a_missing_secret_another_schema_or_another_sealing_key(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    assert "KADUN_THREADS is 'many'" in refused_start(Service(tmp_path, database_url, KADUN_THREADS="many"))
    missing = Service(tmp_path, database_url, KERNAL_DATA_KEY="", KERNAL_DATA_KEY_FILE=str(tmp_path / "none"))
    assert "KERNAL_DATA_KEY_FILE: cannot read" in refused_start(missing)
    database.execute_sql("UPDATE schema_migration SET name = '0000' WHERE name = %s", (expected_version(),))
    try:
        line = refused_start(Service(tmp_path, database_url))
        assert "schema is 0004_idempotency" in line
        assert expected_version() in line
    finally:
        database.execute_sql("UPDATE schema_migration SET name = %s WHERE name = '0000'", (expected_version(),))
    add_operator("olga")
    olga = Operator.get()
    Operator.update(totp_secret=SealingKey("a5" * 32).seal("operator", olga.id, "x")).execute()
    assert "does not open the secret of operator olga: put" in refused_start(Service(tmp_path, database_url))


def test_damaged_or_lost_signing_keys(own_service: Service, tmp_path: Path) -> None:
    service = own_service
    (card_id,) = service.issue()
    service.verify(question(card_id))
    service.stop()
    ring = tmp_path / "keys" / "keyring.json"
    ring.write_text("{")
    assert "damaged" in refused_start(service)
    ring.unlink()
    assert "put your copy of data/keys back" in refused_start(service)
