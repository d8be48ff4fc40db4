"""What an older commit must have in common with this checkout to be measured beside it."""

from bench import against
from bench.subject import MORE_CONNECTIONS


def test_this_python_serves_a_commit_that_requires_no_other_packages() -> None:
    older = "falcon==4.4.0 \\\n    --hash=sha256:00\n    # via -r requirements.in\npeewee==4.5.3 \\\n"
    newer = f"{older}gevent==26.9.0 \\\n"
    assert against.pins(older) == {"falcon==4.4.0", "peewee==4.5.3"}
    assert against.pins(older) < against.pins(newer)
    assert not against.pins(older.replace("4.5.3", "4.5.2")) < against.pins(newer)


def test_every_number_of_connections_has_an_aim() -> None:
    named = [f"1,000 bound cards, {connections:,} connections:" for connections in MORE_CONNECTIONS]
    assert [name for name in named if not any(aim.startswith(name) for aim in against.AIMS)] == []
