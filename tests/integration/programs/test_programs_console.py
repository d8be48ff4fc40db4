"""Several programs where people meet them: what is chosen is all that is shown, and the console alone ships one."""
# Owns programs-chosen.

from pathlib import Path

import pytest
from kadun import CardRejected, Client, UnsealFailed

from app.domain.operators.operators import Role
from app.storage.database import Database
from app.storage.models import Card
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
        issued = service.cardctl(
            "card", "issue", "--validity", "5d", "--batch", f"of-{program}", "--format", "txt", *own
        )
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


def test_a_chosen_program_is_all_that_pages_exports_and_commands_show(own_service: Service, database: Database) -> None:
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


def test_the_console_alone_ships_a_second_program(own_service: Service, database: Database, tmp_path: Path) -> None:
    service, address = own_service, f"http://127.0.0.1:{own_service.port}"
    add_operator("olga")
    olga = Browser(service, language="en").walk_in("olga")
    programs = olga.get("/admin/programs")
    page = olga.submit(programs, "/admin/programs", name="Quotes", id="b")
    assert "Added" in page.words
    sealed = olga.post("/admin/programs/seal", {"id": "b"}, {"file": ("core.dat", b"core")})
    assert sealed.headers["content-disposition"].endswith("core.dat.age")
    (tmp_path / "core.dat.age").write_bytes(sealed.content)
    keys = olga.get("/admin/program/keys?id=b").text
    issue = olga.get("/admin/cards/issue?program=b")
    olga.submit(issue, "/admin/cards/issue", program="b", validity="30d", count="10")
    cards = [card.id for card in Card.select().where(Card.program == "b")]
    assert len(cards) == 10
    wait_in_force(database.execute_sql)
    (own,) = service.issue()
    clients = {}
    for program, exported, card in (("main", service.cardctl("key", "export").stdout, own), ("b", keys, cards[0])):
        state = tmp_path / program
        clients[program] = Client(address, public_keys=exported, card_id=card, hardware="machine-1", state_dir=state)
        assert clients[program].open().accepted, program
    assert bytes(clients["b"].unseal(tmp_path / "core.dat.age")) == b"core"
    with pytest.raises(UnsealFailed):
        clients["main"].unseal(tmp_path / "core.dat.age")
    with pytest.raises(CardRejected) as refused:
        Client(address, public_keys=keys, card_id=own, hardware="machine-2", state_dir=None).open()
    assert refused.value.code == "CARD_NOT_FOUND"
    why = olga.get(f"/admin/refusal?reference={refused.value.reference}")
    assert "The card is of the program “main”" in why.words


def test_what_no_program_can_be_is_refused_in_words(own_service: Service, database: Database) -> None:
    service = own_service
    service.cardctl("program", "add", "b", "--name", "Quotes", "--data-key-file", "-", text="a key of another scheme")
    service.issue()
    add_operator("olga")
    olga = Browser(service, language="en").walk_in("olga")
    file = {"file": ("core.dat", b"core")}
    for address, form, files, told in [
        ("/admin/programs", {"id": "B", "name": "x"}, None, "small letters"),
        ("/admin/programs", {"id": "b", "name": "x"}, None, "taken"),
        ("/admin/programs", {"id": "c", "name": ""}, None, "name"),
        ("/admin/programs/seal", {"id": "b"}, file, "no age identity"),
        ("/admin/programs/seal", {"id": "b"}, {"file": ("core.dat", b"")}, "choose the file"),
        ("/admin/program", {"id": "b", "name": "main"}, None, "has this name"),
        ("/admin/program/remove", {"id": "main"}, None, "cannot be removed"),
        ("/admin/cards/issue", {"validity": "30d", "count": "1"}, None, "choose a program"),
    ]:
        refused = olga.post(address, form, files)
        assert (refused.status, told in refused.words) == (400, True), (address, form, refused.words)
    assert olga.get("/admin/program?id=c").status == olga.post("/admin/program", {"id": "c", "name": "x"}).status == 404
    assert [card.program for card in Card.select()] == ["main"]
