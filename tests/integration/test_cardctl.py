"""The operator's command line, as a program."""

import csv
import io
import json
import os
import pty
import select
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pyrage
import pytest

from app.storage.database import Database
from app.storage.models import Card, Client, Event
from tests.support.service import ROOT, Service, question

CONTROL = "\x1b[31mred\x1b[0m\u202eevil[bold]"


@pytest.fixture
def offline(database_url: str, tmp_path: Path) -> Service:
    """The service's settings with the command line alone; nothing listens."""
    return Service(tmp_path, database_url)


@pytest.fixture
def keyed(offline: Service, database: Database) -> Service:
    offline.environment["KERNAL_DATA_KEY"] = str(pyrage.x25519.Identity.generate())
    offline.cardctl("key", "create")
    return offline


def listed(service: Service, *arguments: str) -> list[dict[str, object]]:
    return list(json.loads(service.cardctl("card", "list", "--format", "json", *arguments).stdout))


def test_issued_cards_are_printed_as_json(offline: Service, database: Database) -> None:
    printed = json.loads(
        offline.cardctl(
            "card",
            "issue",
            "--validity",
            "30d",
            "--count",
            "3",
            "--batch",
            "春季",
            "--note",
            "n",
            "--format",
            "json",
        ).stdout
    )
    assert [(c["validity_seconds"], c["batch"], c["note"]) for c in printed] == [(2_592_000, "春季", "n")] * 3
    assert {c["id"] for c in printed} == {row.id for row in Card.select()}
    assert Event.get().details == {"count": 3, "batch": "春季", "validity": "30d"}


def test_a_permanent_card_has_no_seconds(offline: Service) -> None:
    printed = offline.cardctl("card", "issue", "--validity", "permanent", "--format", "json").stdout
    assert json.loads(printed)[0]["validity_seconds"] is None


@pytest.mark.parametrize("output_format", ["txt", "csv", "table"])
def test_a_hundred_thousand_cards_are_issued_whole(offline: Service, database: Database, output_format: str) -> None:
    printed = offline.cardctl("card", "issue", "--validity", "year", "--count", "100000", "--format", output_format)
    assert len(printed.stdout.splitlines()) == 100_000 + (output_format != "txt")
    assert Card.select().count() == 100_000
    assert Event.select().count() == 1


def test_an_interrupted_issue_leaves_no_card(offline: Service, database: Database) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "card", "issue", "--validity", "1d", "--count", "1000000"],
        cwd=ROOT,
        env=offline.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not database.execute_sql(
        "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY%%' AND pid <> pg_backend_pid()"
    ).fetchone():
        assert process.poll() is None
    process.send_signal(2)
    _, said = process.communicate(timeout=90)
    assert (process.returncode, len(said.strip().splitlines())) == (1, 1)
    assert "Traceback" not in said
    assert Card.select().count() == 0


def test_progress_is_shown_on_a_terminal(offline: Service) -> None:
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "app",
            "card",
            "issue",
            "--validity",
            "1d",
            "--count",
            "50000",
            "--format",
            "txt",
        ],
        cwd=ROOT,
        env={**offline.environment, "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=child,
    )
    os.close(child)
    seen = b""
    while select.select([parent], [], [], 20)[0]:
        try:
            chunk = os.read(parent, 65_536)
        except OSError:
            break
        seen += chunk
    os.close(parent)
    assert process.wait(20) == 0
    assert "发卡".encode() in seen


def test_a_card_is_shown_with_its_client(service: Service, database: Database) -> None:
    (card_id,) = service.issue()
    service.verify(question(card_id, hardware=CONTROL))
    document = json.loads(service.cardctl("card", "show", card_id.lower(), "--format", "json").stdout)
    card, client = document["card"], document["client"]
    assert {"id", "validity", "is_activated", "activated_at", "expires_at", "frozen_at", "batch"} <= set(card)
    assert set(client) == {"id", "card_id", "hardware", "hardware_sha256", "ip", "requested_at", "function"}
    assert (card["is_activated"], client["hardware"], client["ip"]) == (True, CONTROL, "127.0.0.1")
    assert datetime.fromisoformat(card["expires_at"]) == Card.get().expires_at
    assert card["expires_at"].endswith("+08:00")


def test_an_unbound_card_has_no_client(offline: Service) -> None:
    (card_id,) = offline.issue()
    assert json.loads(offline.cardctl("card", "show", card_id, "--format", "json").stdout)["client"] is None
    assert card_id in offline.cardctl("card", "show", card_id).stdout


def test_what_a_client_sent_is_shown_escaped(service: Service) -> None:
    (card_id,) = service.issue()
    service.verify(question(card_id, hardware=CONTROL, function=CONTROL, ip=CONTROL))
    for command in (
        ["card", "show", card_id],
        ["card", "list"],
        ["card", "list", "--format", "csv"],
        ["events"],
        ["events", "--format", "json"],
        ["card", "show", card_id, "--format", "json"],
    ):
        printed = service.cardctl(*command).stdout
        assert "\x1b" not in printed
        assert "\u202e" not in printed
        assert "[bold]" in printed


def test_a_formula_from_a_client_is_no_formula_in_a_spreadsheet(service: Service) -> None:
    (card_id,) = service.issue()
    service.verify(question(card_id, hardware="=cmd|' /C calc'!A0"))
    (row,) = csv.DictReader(io.StringIO(service.cardctl("card", "list", "--format", "csv").stdout))
    assert row["hardware"].startswith("'=")


def test_cards_are_found_by_state_batch_and_text(service: Service, database: Database) -> None:
    first, second, third = service.issue(3)
    service.cardctl("card", "issue", "--validity", "1d", "--batch", "b", "--note", "给老王")
    service.verify(question(first, hardware="DISK-77"))
    service.cardctl("card", "freeze", second)
    assert [c["id"] for c in listed(service, "--status", "active")] == [first]
    assert [c["id"] for c in listed(service, "--status", "frozen")] == [second]
    assert len(listed(service, "--status", "unused")) == 2
    assert listed(service, "--status", "expired") == []
    assert [c["note"] for c in listed(service, "--batch", "b")] == ["给老王"]
    for text, expected in (
        ("老王", 1),
        ("DISK-7", 1),
        ("127.0", 1),
        (third[:9].lower(), 1),
        ("%", 0),
        ("nothing", 0),
    ):
        assert len(listed(service, "--search", text)) == expected, text


def test_an_export_is_the_list_as_a_file(service: Service) -> None:
    service.cardctl("card", "issue", "--validity", "30d", "--batch", "a")
    (kept,) = service.cardctl("card", "issue", "--validity", "30d", "--batch", "b", "--format", "txt").stdout.split()
    exported = service.cardctl("card", "export", "--batch", "b").stdout
    assert exported == service.cardctl("card", "list", "--batch", "b", "--format", "csv").stdout
    assert [row["id"] for row in csv.DictReader(io.StringIO(exported))] == [kept]
    assert service.cardctl("card", "export", "--status", "unused", "--format", "txt").stdout.count("\n") == 2
    assert service.cardctl("card", "export", "--format", "table", check=False).returncode == 2


def test_operators_actions_are_said_and_journalled(service: Service, database: Database) -> None:
    first, second = service.issue(2)
    service.verify(question(first))
    for action in (["freeze"], ["unfreeze"], ["unbind"], ["extend", "--by", "week"]):
        service.cardctl("card", action[0], first, second, *action[1:])
    service.cardctl("card", "delete", second)
    kinds = [e.kind for e in Event.select().where(Event.actor.is_null(is_null=False)).order_by(Event.id)]
    assert kinds == ["issued", *["frozen"] * 2, *["unfrozen"] * 2, "unbound", *["extended"] * 2, "deleted"]
    assert Event.get(Event.kind == "frozen").actor.startswith("cardctl:")
    assert Client.select().count() == 0


def test_whoever_revives_a_card_whose_machine_moved_on_is_told(service: Service) -> None:
    first, second = service.issue(2)
    service.verify(question(first))
    service.cardctl("card", "freeze", first)
    service.verify(question(second))
    assert first in service.cardctl("card", "unfreeze", first).stderr


def test_the_journal_is_filtered(service: Service) -> None:
    (card_id,) = service.issue()
    service.verify(question(card_id))
    service.verify(question("0" * 32))

    def kinds(*arguments: str) -> list[str]:
        return [e["kind"] for e in json.loads(service.cardctl("events", "--format", "json", *arguments).stdout)]

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
        (["events", "--kind", "sometimes"], 2),
        (["events", "--since", "yesterday"], 2),
        (["key", "create"], 1),
        (["seal", "/nowhere/at-all", "-o", "/nowhere/else"], 1),
        (["frobnicate"], 2),
        (["healthcheck"], 1),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr_and_nothing_is_printed(
    keyed: Service, database: Database, arguments: list[str], status: int
) -> None:
    done = keyed.cardctl(*arguments, check=False)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert status == 2 or len(done.stderr.strip().splitlines()) == 1
    assert Card.select().count() == 0


def test_a_database_that_is_away_is_one_line(keyed: Service) -> None:
    keyed.environment["DATABASE_URL"] = "postgresql://kadun:x@127.0.0.1:1/kadun"
    done = keyed.cardctl("card", "list", check=False)
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (1, 1)
    assert "数据库不可用" in done.stderr


def test_the_public_keys_are_exported_for_clients_to_pin(keyed: Service) -> None:
    exported = json.loads(keyed.cardctl("key", "export").stdout)
    assert (exported["iss"], len(exported["keys"])) == ("kadun", 2)
    assert all("d" not in key for key in exported["keys"])
    assert exported["keys"][0]["kid"] in keyed.cardctl("key", "list").stdout


def test_a_sealed_file_opens_with_the_key_only(keyed: Service, tmp_path: Path) -> None:
    (tmp_path / "core.dat").write_bytes(os.urandom(300_000))
    keyed.cardctl("seal", str(tmp_path / "core.dat"), "-o", str(tmp_path / "core.dat.age"))
    identity = pyrage.x25519.Identity.from_str(keyed.environment["KERNAL_DATA_KEY"])
    sealed = (tmp_path / "core.dat.age").read_bytes()
    assert sealed.startswith(b"age-encryption.org/v1\n")
    assert pyrage.decrypt(sealed, [identity]) == (tmp_path / "core.dat").read_bytes()
    assert keyed.cardctl("key", "recipient").stdout.strip() == str(identity.to_public())


def test_sealing_goes_through_pipes(keyed: Service) -> None:
    sealed = subprocess.run(
        [sys.executable, "-m", "app", "seal", "-", "-o", "-"],
        cwd=ROOT,
        env=keyed.environment,
        input=b"core",
        capture_output=True,
        check=True,
    ).stdout
    assert pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(keyed.environment["KERNAL_DATA_KEY"])]) == b"core"


def test_sealing_over_the_plain_file_is_refused_and_a_failure_leaves_nothing(keyed: Service, tmp_path: Path) -> None:
    plain = tmp_path / "core.dat"
    plain.write_bytes(b"core")
    assert keyed.cardctl("seal", str(plain), "-o", str(plain), check=False).returncode == 2
    assert keyed.cardctl("seal", str(tmp_path / "none"), "-o", str(tmp_path / "x.age"), check=False).returncode == 1
    keyed.environment["KERNAL_DATA_KEY"] = "a scheme of my own"
    refused = keyed.cardctl("seal", str(plain), "-o", str(tmp_path / "x.age"), check=False)
    assert (refused.returncode, "no age identity" in refused.stderr) == (1, True)
    assert (plain.read_bytes(), (tmp_path / "x.age").exists()) == (b"core", False)


def test_the_health_check_asks_the_running_service(service: Service) -> None:
    assert service.cardctl("healthcheck").returncode == 0


def test_a_reader_who_stops_early_is_no_error(offline: Service) -> None:
    offline.issue(20_000)
    command = f"{sys.executable} -m app card list --format txt | head -n 1"
    done = subprocess.run(command, shell=True, cwd=ROOT, env=offline.environment, capture_output=True, check=True)
    assert (len(done.stdout.strip()), done.stderr) == (32, b"")
