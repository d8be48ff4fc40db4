"""The command line as a whole: exit status, messages, the journal, the health check."""

import pytest

from app.storage.models import Card
from tests.support.service import Service, question


def test_the_journal_is_filtered(service: Service) -> None:
    (card_id,) = service.issue()
    service.verify(question(card_id))
    service.verify(question("0" * 32))

    def kinds(*arguments: str) -> list[str]:
        return [event["kind"] for event in service.cardctl_json("events", *arguments)]

    assert kinds() == ["rejected", "activated", "issued"]
    assert kinds("--kind", "activated") == ["activated"]
    assert kinds("--kind", "CARD_NOT_FOUND", "--since", "7d") == ["rejected"]
    assert kinds("--card", "-".join([card_id[:16].lower(), card_id[16:]])) == ["activated"]
    assert kinds("--reference", "00000000") == []
    missed = service.cardctl("events", "--reference", "00000000")
    assert "no such reference" in missed.stderr
    assert service.cardctl("events", "--reference", "00000000", "--format", "json").stderr == ""
    assert "CARD_NOT_FOUND" in service.cardctl("events").stdout


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["card", "issue", "--validity", "0d"], 2),
        (["card", "issue", "--validity", "101y"], 2),
        (["card", "issue", "--validity", "30d", "--count", "0"], 2),
        (["card", "issue", "--validity", "30d", "--batch", "a\nb"], 1),
        (["card", "issue"], 2),
        (["card", "show", "nothing"], 1),
        (["card", "show", "0" * 32], 1),
        (["card", "freeze"], 2),
        (["card", "freeze", "0" * 32], 1),
        (["card", "extend", "0" * 32, "--by", "permanent"], 2),
        (["card", "list", "--search", "\udcff"], 1),
        (["events", "--kind", "sometimes"], 2),
        (["events", "--reference", "\udcff"], 1),
        (["events", "--since", "yesterday"], 2),
        (["key", "create"], 1),
        (["seal", "/nowhere/at-all", "-o", "/nowhere/else"], 1),
        (["frobnicate"], 2),
        (["healthcheck"], 1),
    ],
)
def test_a_failure_is_reported_on_stderr_and_nothing_is_printed(
    keyed: Service, arguments: list[str], status: int
) -> None:
    done = keyed.cardctl(*arguments, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert status == 2 or len(done.stderr.strip().splitlines()) == 1
    assert Card.select().count() == 0


def test_an_unavailable_database_is_one_line(keyed: Service) -> None:
    keyed.environment["DATABASE_URL"] = "postgresql://kadun:x@127.0.0.1:1/kadun"
    assert "数据库不可用" in keyed.refusal("card", "list")
    assert "数据库不可用" in keyed.refusal("events", "--follow")


def test_the_health_check_asks_the_running_service(service: Service) -> None:
    assert service.cardctl("healthcheck").returncode == 0
