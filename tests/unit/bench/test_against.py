"""What an older commit must have in common with this checkout to be measured beside it."""

from pathlib import Path

import pytest

from bench import against
from bench.errors import BenchError
from bench.subject import MORE_CONNECTIONS
from trial.environment import CHECKOUT

MIGRATIONS = "app/storage/migrations"


def checkout(folder: Path, *migrations: str) -> Path:
    (folder / MIGRATIONS).mkdir(parents=True)
    for name in (*migrations, *(file.name for file in (CHECKOUT / MIGRATIONS).glob("*.py"))):
        (folder / MIGRATIONS / name).touch()
    return folder


def test_the_same_migrations_are_the_same_tables(tmp_path: Path) -> None:
    against.require_same_tables("v1.0.0", checkout(tmp_path))


def test_a_commit_with_other_migrations_is_refused_and_they_are_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"v2 has other tables than this checkout \(0099_more\.py\)"):
        against.require_same_tables("v2", checkout(tmp_path, "0099_more.py"))


def test_a_commit_that_lacks_migrations_is_refused(tmp_path: Path) -> None:
    folder = checkout(tmp_path)
    next((folder / MIGRATIONS).glob("0001*")).unlink()
    with pytest.raises(BenchError, match="0001_initial"):
        against.require_same_tables("v0", folder)


def test_this_python_serves_a_commit_that_requires_no_other_packages() -> None:
    older = "falcon==4.4.0 \\\n    --hash=sha256:00\n    # via -r requirements.in\npeewee==4.5.3 \\\n"
    newer = f"{older}gevent==26.9.0 \\\n"
    assert against.pins(older) == {"falcon==4.4.0", "peewee==4.5.3"}
    assert against.pins(older) < against.pins(newer)
    assert not against.pins(older.replace("4.5.3", "4.5.2")) < against.pins(newer)


def test_every_number_of_connections_has_an_aim() -> None:
    named = [f"1,000 bound cards, {connections:,} connections:" for connections in MORE_CONNECTIONS]
    assert [name for name in named if not any(aim.startswith(name) for aim in against.AIMS)] == []
