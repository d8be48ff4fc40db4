"""Several programs where people meet them: what is chosen is all that is shown, and the console alone ships one."""
# Owns programs-chosen.

import json
from urllib.parse import urlencode

import pyrage
import pytest
from kadun import CardRejected, Client

from app.domain.operators.operators import Role
from app.storage.database import Database
from app.storage.models import Card, Program
from tests.support import downloads
from tests.support.console.console import OWN, Browser, add_operator
from tests.support.licence.in_force import wait_in_force
from tests.support.services.service import Service, question

PAGES = ("/admin/", "/admin/cards", "/admin/usage", "/admin/journal", "/admin/sharing", "/admin/blocks", "/admin/files")
COMMANDS = ("card list", "card export --format csv", "report abuse")


def furnish(service: Service, database: Database) -> dict[str, set[str]]:
    """Sell cards of two programs, each used, refused, blocked and with a file; return what tells each by."""
    service.cardctl("program", "add", "b", "--name", "Quotes")
    marks: dict[str, set[str]] = {}
    for program in ("main", "b"):
        own = ("--program", program)
        service.cardctl("terms", "set", "binding=hardware", *own)
        issued = service.cardctl("card", "issue", "--validity", "5d", "--batch", f"of-{program}", "--format", "txt", *own)
        card = issued.stdout.strip()
        downloads.put(service, f"file-of-{program}.bin", b"core", *own)
        marks[program] = {card, f"of-{program}", f"file-of-{program}", f"open-{program}"}
    wait_in_force(database.execute_sql)
    for program in marks:
        card = Card.get(Card.program == program).id
        for number in range(12):
            asked = question(card, f"machine-{min(number, 9)}", f"open-{program}", program=program)
            service.verify(asked)
    service.cardctl("block", "add", "--hardware", "machine-0", "--reason", "shared")
    return marks


def test_a_chosen_program_is_all_that_lists_reports_exports_and_commands_show(
    own_service: Service, database: Database
) -> None:
    service = own_service
    marks = furnish(service, database)
    add_operator("olga")
    add_operator("sam", Role.SELLER)
    olga = Browser(service, language="en").walk_in("olga")
    wrong = {}
    for chosen, expected in (("", {"main", "b"}), ("main", {"main"}), ("b", {"b"})):
        olga.get(f"/admin/?program={chosen}")  # the header's choice, which is kept
        seen = {page: olga.get(page).text for page in PAGES}
        for export in ("/admin/cards/export", "/admin/journal/export"):
            seen[export] = olga.post(export, {"format": "csv", **OWN}).text
        option = ("--program", chosen) if chosen else ()
        for command in COMMANDS:
            seen[command] = service.cardctl(*command.split(), *option).stdout
        for name, text in seen.items():
            told = {program for program, of in marks.items() if any(mark in text for mark in of)}
            if told != expected:
                wrong[name, chosen] = told
    assert not wrong
