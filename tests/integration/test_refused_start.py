"""A start that must not succeed ends with one line that says why."""

from pathlib import Path

from app.storage.database import Database
from app.storage.schema import expected_version
from tests.support.service import Service, question


def refused_start(service: Service) -> str:
    process = service.spawn()
    assert process.wait(60) == 1
    (line,) = [line for line in service.log.read_text().splitlines() if line.startswith("kadun: ")]
    assert "Traceback" not in service.log.read_text()
    return line


def test_a_wrong_setting(database_url: str, tmp_path: Path) -> None:
    assert "KADUN_THREADS is 'many'" in refused_start(Service(tmp_path, database_url, KADUN_THREADS="many"))


def test_a_missing_secret(database_url: str, tmp_path: Path) -> None:
    missing = Service(tmp_path, database_url, KERNAL_DATA_KEY="", KERNAL_DATA_KEY_FILE=str(tmp_path / "none"))
    assert "KERNAL_DATA_KEY_FILE: cannot read" in refused_start(missing)


def test_another_schema(database: Database, database_url: str, tmp_path: Path) -> None:
    database.execute_sql("INSERT INTO schema_migration (name, applied) VALUES ('9999_future', now())")
    try:
        line = refused_start(Service(tmp_path, database_url))
        assert "9999_future" in line
        assert expected_version() in line
    finally:
        database.execute_sql("DELETE FROM schema_migration WHERE name = '9999_future'")


def test_lost_signing_keys(own_service: Service, tmp_path: Path) -> None:
    service = own_service
    (card_id,) = service.issue()
    service.verify(question(card_id))
    service.stop()
    (tmp_path / "keys" / "keyring.json").unlink()
    service.log.write_text("")
    assert "put your copy of data/keys back" in refused_start(service)


def test_damaged_signing_keys(own_service: Service, tmp_path: Path) -> None:
    service = own_service
    service.stop()
    (tmp_path / "keys" / "keyring.json").write_text("{")
    service.log.write_text("")
    assert "damaged" in refused_start(service)
