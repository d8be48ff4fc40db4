"""`cardctl card …`: issuing, showing, listing, exporting, and actions on cards."""
# Owns action-all-or-nothing, cardctl-cards.

import csv
import io
import shlex
import subprocess
import sys
from datetime import datetime
from typing import Any

from app.domain.codes import Code
from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.support.services.service import ROOT, Service, question, wait_for

CONTROL = "\x1b[31mred\x1b[0m\u202eevil[bold]"


def card_command(service: Service, command: str) -> Any:
    """Run `cardctl card …`, and return what it prints with `--format json`."""
    return service.cardctl_json("card", *command.split())


def test_issued_cards_are_printed_as_json(offline: Service) -> None:
    printed = card_command(offline, "issue --validity 30d --count 3 --batch 春季 --note n")
    assert [(c["validity_seconds"], c["batch"], c["note"]) for c in printed] == [(2_592_000, "春季", "n")] * 3
    assert {c["id"] for c in printed} == {row.id for row in Card.select()}
    assert Event.get().details == {"count": 3, "batch": "春季", "validity": "30d"}
    assert card_command(offline, "issue --validity 永久")[0]["validity_seconds"] is None


def test_an_interrupted_issue_leaves_no_card(offline: Service, database: Database) -> None:
    command = ("card", "issue", "--validity", "1d", "--count", "20000")
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with database.atomic():
        database.execute_sql("LOCK TABLE card IN SHARE MODE")
        process = offline.spawn_cardctl(*command, **output)
        # Its own statement: until that waits, Python may end by the signal in its own way.
        waiting = "SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid)) AND query LIKE %s"

        def inserts() -> bool:
            database.execute_sql("SELECT pg_stat_clear_snapshot()")
            return database.execute_sql(waiting, ('INSERT INTO "card"%',)).fetchone() is not None

        wait_for(inserts)
        process.send_signal(2)
    _, said = process.communicate(timeout=90)
    assert (process.returncode, len(said.strip().splitlines())) == (1, 1)
    assert "Traceback" not in said
    assert Card.select().count() == 0


def test_a_card_is_shown_with_its_client_whose_texts_are_escaped(service: Service) -> None:
    (card_id,) = service.issue()
    assert card_command(service, f"show {card_id}")["client"] is None
    assert card_id in service.cardctl("card", "show", card_id).stdout
    service.verify(question(card_id, hardware=CONTROL, function=CONTROL, ip=CONTROL))
    document = card_command(service, f"show {card_id.lower()}")
    card, client = document["card"], document["client"]
    assert {"id", "validity", "is_activated", "activated_at", "expires_at", "frozen_at", "batch"} <= set(card)
    assert set(client) == {"id", "card_id", "hardware", "hardware_sha256", "ip", "requested_at", "function"}
    assert (card["is_activated"], client["hardware"], client["ip"]) == (True, CONTROL, "127.0.0.1")
    assert datetime.fromisoformat(card["expires_at"]) == Card.get().expires_at
    assert card["expires_at"].endswith("+08:00")
    for command in (f"card show {card_id}", "card list", "card list --format csv", "events"):
        printed = service.cardctl(*command.split()).stdout
        assert not {"\x1b", "\u202e"} & set(printed), command
        assert "[bold]" in printed, command


def test_a_search_reads_messages_and_leads_to_a_refusal(service: Service) -> None:
    first, second = service.issue(2)
    service.cardctl("card", "freeze", first)
    service.verify(question(first))
    service.verify(question("VIP-0001"))
    refused, unknown = (Event.get(Event.code == code).reference for code in (Code.CARD_FROZEN, Code.CARD_NOT_FOUND))
    for text, hint in ((f"参考号 {refused}", True), (f"card {first} broken", False)):
        done = service.cardctl("card", "list", "--search", text, "--format", "txt")
        assert done.stdout.split() == [first]
        assert (f"cardctl events --reference {refused}" in done.stderr) is hint
    done = service.cardctl("card", "list", "--search", unknown, "--format", "txt")
    assert (done.stdout, f"cardctl events --reference {unknown}" in done.stderr) == ("", True)
    both = service.cardctl("card", "list", "--search", f"{first} {second} {'7' * 32}", "--format", "txt")
    assert sorted(both.stdout.split()) == sorted([first, second])
    assert f"No such cards: {'7' * 32}" in both.stderr


def test_an_export_is_the_list_as_a_file(service: Service) -> None:
    service.issue()
    (kept,) = card_command(service, "issue --validity 30d --batch b")
    exported = service.cardctl("card", "export", "--batch", "b").stdout
    assert exported == service.cardctl("card", "list", "--batch", "b", "--format", "csv").stdout
    assert [row["id"] for row in csv.DictReader(io.StringIO(exported))] == [kept["id"]]
    assert service.cardctl("card", "export", "--format", "table", check=False).returncode == 2


def test_actions_are_reported_and_journalled(service: Service) -> None:
    first, second = service.issue(2)
    service.verify(question(first))
    for action, done in (
        ("freeze", "已冻结 2 张"),
        ("unfreeze", "已解冻 2 张"),
        ("unbind", "已解绑 1 张"),
        ("extend --by week", "已延期 2 张"),
    ):
        assert done in service.cardctl("card", *action.split(), first, second).stderr
    assert "已删除 1 张" in service.cardctl("card", "delete", second).stderr
    kinds = [e.kind for e in Event.select().where(Event.actor.is_null(is_null=False)).order_by(Event.id)]
    assert kinds == ["issued", *["frozen"] * 2, *["unfrozen"] * 2, "unbound", *["extended"] * 2, "deleted"]
    assert Event.get(Event.kind == "frozen").actor.startswith("cardctl:")
    assert Client.select().count() == 0
    assert "Shortened: 1" in service.cardctl("card", "shorten", first, "--by", "周卡").stderr
    assert "Changed: 1" in service.cardctl("card", "edit", first, "--batch", "b", "--note", "").stderr
    assert (Card.get().batch, Card.get().note) == ("b", None)
    Card.insert(id="7" * 32, renewed_card_id=first, created_at=Card.get().created_at).execute()
    assert f"freeze {first}" in service.cardctl("card", "show", "7" * 32).stderr, "to stop a card used to renew another"


def test_a_reader_who_stops_early_is_not_an_error(offline: Service) -> None:
    offline.issue(4_000)  # more than a pipe holds
    command = f"{shlex.quote(sys.executable)} -m app card list --format txt | head -n 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, env=offline.environment, capture_output=True, check=True)
    assert (len(done.stdout.strip()), done.stderr) == (32, b"")


def test_a_failure_of_any_command_is_on_stderr_and_nothing_is_printed(keyed: Service) -> None:
    nobody = "0" * 32
    for command, status in {
        ("card", "issue", "--validity", "0d"): 2,
        ("card", "issue", "--validity", "30d", "--batch", "a\nb"): 1,
        ("card", "show", nobody): 1,
        ("card", "freeze"): 2,
        ("card", "edit", nobody): 2,
        ("card", "freeze", nobody): 1,
        ("card", "list", "--search", "\udcff"): 1,
        ("card", "import", "/nonexistent.csv"): 1,
        ("events", "--reference", "\udcff"): 1,
        ("events", "--since", "yesterday"): 2,
        ("key", "create"): 1,
        ("seal", "/nowhere/at-all", "-o", "/nowhere/else"): 1,
        ("healthcheck",): 1,
    }.items():
        done = keyed.cardctl(*command, check=False)
        assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (status, "", False), command
        assert status == 2 or len(done.stderr.strip().splitlines()) == 1
        assert done.stderr.strip()
    assert Card.select().count() == 0
    keyed.environment["DATABASE_URL"] = "postgresql://kadun:x@127.0.0.1:1/kadun"
    assert "数据库不可用" in keyed.refusal("card", "list")
    assert "数据库不可用" in keyed.refusal("events", "--follow")
