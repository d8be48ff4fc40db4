"""Several programs on one server: each has its own cards, terms, data key, files and functions, also in the console."""
# Owns programs-apart, programs-issuer, programs-changes, programs-key, programs-chosen.

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pyrage
import pytest
from kadun import CardRejected, Client, UntrustedAnswer

from app.domain.operators.operators import Role, Scope
from app.domain.operators.token_limits import default_limits
from app.runtime.clock import utc_now
from app.services.keys.sealed_secrets import seal_all
from app.services.shop.shop_tokens import ShopTokens
from app.storage.database import Database
from app.storage.models import Card, Event, Program
from app.storage.models import Client as ClientRow
from app.tokens.sealing_key import SealingKey, SealingKeyError
from tests.support import downloads
from tests.support.console.console import OWN, Browser, add_operator
from tests.support.licence.in_force import wait_in_force
from tests.support.services.functions_service import FunctionsService
from tests.support.services.service import Response, Service, question

B = """
from app.functions import core_function

@core_function("quote", program="b")
def quote(arguments, caller):
    return caller.program
"""


class Vendor:
    """A vendor of the programs `main` and `b`, whose changes are in force when they return."""

    def __init__(self, service: Service, database: Database) -> None:
        self.service, self.database = service, database

    def do(self, *arguments: str) -> None:
        self.service.cardctl(*arguments)
        wait_in_force(self.database.execute_sql)

    def issue(self, program: str) -> str:
        options = ("--validity", "30d", "--program", program, "--format", "txt")
        return self.service.cardctl("card", "issue", *options).stdout.strip()

    def verify(self, card_id: str, program: str | None = None, **more: Any) -> Response:
        named = {} if program is None else {"program": program}
        return self.service.verify(question(card_id, **named, **more))


@pytest.fixture
def vendor(service: Service, database: Database) -> Vendor:
    vendor = Vendor(service, database)
    vendor.do("program", "add", "b", "--name", "报价器")
    return vendor


def codes(*answers: Response) -> list[str]:
    return [answer.body["code"] for answer in answers]


def last() -> Event:
    event: Event = Event.select().order_by(Event.id.desc()).get()
    return event


def test_a_card_is_good_for_its_program_alone(vendor: Vendor) -> None:
    card, own = vendor.issue("b"), vendor.issue("main")
    assert codes(vendor.verify(card), vendor.verify(card, "main"), vendor.verify(own, "b")) == ["CARD_NOT_FOUND"] * 3
    assert (last().code, last().card_id, last().details["program"]) == ("CARD_NOT_FOUND", own, "main")
    assert not Card.select().where(Card.is_activated).exists()
    accepted = vendor.verify(card, "b")
    assert (accepted.status, accepted.claims["iss"]) == (200, "kadun/b")
    assert codes(vendor.verify(own)) == ["OK"]  # one machine, one card of each program
    assert {(row.card_id, row.program) for row in ClientRow.select()} == {(card, "b"), (own, "main")}
    assert codes(vendor.verify(vendor.issue("b"), "b")) == ["CLIENT_HAS_ANOTHER_CARD"]
    assert codes(vendor.verify(card, "b")) == ["OK"]  # which changes nothing, and is recorded with others
    refused = vendor.verify(card, "c")
    assert (refused.status, refused.body["code"], refused.body["field"]) == (400, "INVALID_REQUEST", "program")


def test_an_imported_card_of_another_program_is_journalled_without_its_key(vendor: Vendor) -> None:
    source = vendor.service.folder / "old.csv"
    source.write_text("id,validity\nOLD-SYSTEM-KEY-42,30d\n")
    vendor.do("card", "import", str(source), "--program", "b")
    assert codes(vendor.verify("OLD-SYSTEM-KEY-42")) == ["CARD_NOT_FOUND"]
    assert last().card_id == Card.get().id
    assert codes(vendor.verify("OLD-SYSTEM-KEY-42", "b")) == ["OK"]


def test_each_program_has_its_own_data_key_sealed_in_the_database(vendor: Vendor) -> None:
    key = vendor.verify(vendor.issue("b"), "b").claims["KERNAL_DATA_KEY"]
    assert key != vendor.verify(vendor.issue("main")).claims["KERNAL_DATA_KEY"]
    recipient = vendor.service.cardctl("key", "recipient", "--program", "b").stdout.strip()
    assert str(pyrage.x25519.Identity.from_str(key).to_public()) == recipient
    assert key not in Program.get_by_id("b").data_key
    source, sealed = vendor.service.folder / "core", vendor.service.folder / "core.age"
    source.write_bytes(b"core")
    vendor.service.cardctl("seal", str(source), "-o", str(sealed), "--program", "b")
    assert pyrage.decrypt(sealed.read_bytes(), [pyrage.x25519.Identity.from_str(key)]) == b"core"
    with pytest.raises(SealingKeyError, match="program 报价器"):
        seal_all(vendor.database, SealingKey("0" * 64))


def test_a_key_of_the_vendors_own_scheme_may_be_brought(vendor: Vendor) -> None:
    file = vendor.service.folder / "key"
    file.write_text("my own key\n")
    vendor.do("program", "add", "c", "--name", "C", "--data-key-file", str(file))
    assert vendor.verify(vendor.issue("c"), "c").claims["KERNAL_DATA_KEY"] == "my own key"


def test_programs_are_added_renamed_and_removed_while_without_cards(vendor: Vendor) -> None:
    service = vendor.service
    service.cardctl("program", "rename", "b", "--name", "Quotes")
    listed = service.cardctl_json("program", "list")
    assert [(row["id"], row["name"], row["cards"]) for row in listed] == [("main", "main", 0), ("b", "Quotes", 0)]
    vendor.issue("b")
    for command, told in [
        ("add B --name x", "small letters"),
        ("add b --name x", "taken"),
        ("add c --name Quotes", "taken"),
        ("rename main --name Quotes", "has this name"),
        ("rename c --name x", "no program c"),
        ("remove main", "cannot be removed"),
        ("remove b", "still has cards"),
        ("remove c", "no program c"),
    ]:
        assert told in service.refusal("program", *command.split()), command
    service.environment["KADUN_SEALING_KEY"], kept = "", service.environment["KADUN_SEALING_KEY"]
    assert "KADUN_SEALING_KEY is not set" in service.refusal("program", "add", "c", "--name", "C")
    service.environment["KADUN_SEALING_KEY"] = kept
    service.cardctl("card", "delete", Card.get().id)
    vendor.do("program", "remove", "b")
    assert [row.id for row in Program.select()] == ["main"]
    assert vendor.verify("0" * 32, "b").status == 400
    kinds = [event.kind for event in Event.select().where(Event.kind.startswith("program_")).order_by(Event.id)]
    assert kinds == ["program_added", "program_changed", "program_removed"]
    assert "no program b" in service.refusal("card", "issue", "--validity", "1d", "--program", "b")


def test_a_programs_terms_are_its_own(vendor: Vendor) -> None:
    card, own = vendor.issue("b"), vendor.issue("main")
    vendor.do("terms", "set", "minimum_version=2", "--program", "b")
    assert codes(vendor.verify(card, "b"), vendor.verify(own)) == ["UPDATE_REQUIRED", "OK"]
    assert vendor.service.cardctl_json("terms", "show")["minimum_version"] is None
    assert vendor.service.cardctl_json("terms", "show", "--program", "b")["minimum_version"] == "2"
    changed = Event.select().where(Event.kind == "terms_changed").get()
    assert changed.details["program"] == "b"


def test_files_are_offered_within_a_program(vendor: Vendor) -> None:
    service = vendor.service
    for program, content in (("main", b"of main"), ("b", b"of b")):
        downloads.put(service, "core.bin", content, "--program", program)
    card, own = vendor.issue("b"), vendor.issue("main")
    urls = downloads.links(service, card, program="b") | {"main": downloads.links(service, own)["core.bin"]}
    assert [downloads.fetch(service, urls[name]).body for name in ("core.bin", "main")] == [b"of b", b"of main"]
    assert downloads.ask(service, card).body["code"] == "CARD_NOT_FOUND"
    service.cardctl("file", "remove", "core.bin", "--program", "b")
    assert [row["name"] for row in service.cardctl_json("file", "list")] == ["core.bin"]
    assert "still has" not in service.cardctl("card", "delete", vendor.issue("b")).stderr


def test_functions_are_called_within_a_program(own_service: Service, database: Database) -> None:
    vendor = Vendor(own_service, database)
    vendor.do("program", "add", "b", "--name", "b")
    with FunctionsService(own_service.folder).with_module("b", B):
        for program, answered in (("b", ("OK", "b")), ("main", ("FUNCTION_NOT_FOUND", None))):
            asked = question(vendor.issue(program), function="quote", arguments={}, program=program)
            body, headers = json.dumps(asked).encode(), {"Content-Type": "application/json"}
            answer = own_service.request("POST", "/v1/execute", body, headers)
            assert (answer.body["code"], answer.claims.get("result")) == answered
        assert "quote (b)" in own_service.cardctl("function", "list").stdout


def test_a_shop_may_be_kept_to_one_program(vendor: Vendor, database: Database) -> None:
    tokens = ShopTokens(database, "tester", utc_now)
    limits = default_limits(utc_now())._replace(program="b", own_cards_only=False)
    ids: dict[str, str] = {}

    def order(name: str, document: dict[str, Any], path: str = "/v1/shop/cards") -> Response:
        headers = {"Authorization": f"Bearer {ids[name]}", "Content-Type": "application/json"}
        body = json.dumps(document).encode()
        return vendor.service.request("POST", path, body, headers | {"Idempotency-Key": str(len(Event.select()))})

    for name, given in (("kept", limits), ("all", limits._replace(program=None))):
        ids[name] = tokens.add(name, list(Scope), given)
    sold = {"validity": "30d"}
    assert [order(name, sold).status for name in ids] == [201, 201]
    assert order("all", {**sold, "program": "b"}).status == 201
    assert sorted(row.program for row in Card.select()) == ["b", "b", "main"]
    for name, program in (("kept", "main"), ("all", "c")):
        refused = order(name, {**sold, "program": program})
        assert (refused.status, refused.body["field"]) == (400, "program"), name
    own = Card.get(Card.program == "main").id
    assert order("kept", {"ids": [own]}, "/v1/shop/cards/freeze").body["code"] == "CARD_NOT_FOUND"
    assert order("all", {"ids": [own]}, "/v1/shop/cards/freeze").status == 200
    assert "tokens" in vendor.service.refusal("program", "remove", "b")


def test_self_service_is_for_the_cards_of_the_programs_that_have_it_on(vendor: Vendor) -> None:
    service = vendor.service
    cards = {program: vendor.issue(program) for program in ("main", "b")}

    def status(program: str) -> Response:
        body = json.dumps({"card_id": cards[program]}).encode()
        return service.request("POST", "/v1/self/status", body, {"Content-Type": "application/json"})

    assert status("b").body["code"] == "NOT_FOUND"
    vendor.do("terms", "set", "self_service=on", "self_renew=any", "--program", "b")
    assert (status("b").status, status("main").body["code"]) == (200, "CARD_NOT_FOUND")
    vendor.do("terms", "set", "self_service=on", "self_renew=any")
    renewal = json.dumps({"card_id": cards["b"], "with_card_id": cards["main"]}).encode()
    refused = service.request("POST", "/v1/self/renew", renewal, {"Content-Type": "application/json"})
    assert (refused.status, refused.body["reason"]) == (404, "second_card_not_found")


def client_of(service: Service, program: str, card_id: str, folder: Path) -> Client:
    """Return the SDK in a program, with the keys that it pins."""
    exported = json.loads(service.cardctl("key", "export", "--program", program).stdout)
    assert exported.get("program") == (None if program == "main" else program)
    server = f"http://127.0.0.1:{service.port}"
    return Client(server, public_keys=exported, card_id=card_id, hardware="machine-1", state_dir=folder / program)


def test_the_sdk_believes_its_programs_verdicts_alone(own_service: Service, database: Database, tmp_path: Path) -> None:
    vendor = Vendor(own_service, database)
    vendor.do("program", "add", "b", "--name", "b")
    card = vendor.issue("b")
    clients = [client_of(own_service, *which, tmp_path) for which in (("main", vendor.issue("main")), ("b", card))]
    assert all(client.open().accepted for client in clients)
    with pytest.raises(CardRejected) as refused:
        client_of(own_service, "main", card, tmp_path).open()
    assert refused.value.code == "CARD_NOT_FOUND"
    keys = clients[0]._asker.state.keys  # noqa: SLF001
    keys.program = "b"  # as if somebody had changed the request on its way
    clients[0]._asker = replace(clients[0]._asker, card_id=card)  # noqa: SLF001
    with pytest.raises(UntrustedAnswer, match="iss"):
        clients[0].open()
    keys.program = None
    clients[0] = client_of(own_service, "main", vendor.issue("main"), tmp_path / "again")
    vendor.do("card", "unbind", *[row.card_id for row in ClientRow.select().where(ClientRow.program == "main")])
    vendor.do("key", "rotate")
    assert all(client.open().accepted for client in clients)
    endorsements = own_service.get("/.well-known/jwks.json").body["endorsements"]
    assert "iss" not in jwt.decode(endorsements[-1], options={"verify_signature": False})


PAGES = ("/admin/", "/admin/cards", "/admin/usage", "/admin/journal", "/admin/sharing", "/admin/blocks", "/admin/files")
COMMANDS = ("card list", "card export --format csv", "report abuse")


def furnish(service: Service, database: Database) -> dict[str, set[str]]:
    """Sell cards of two programs, each used, refused, blocked and with a file; return what tells each by."""
    service.cardctl("program", "add", "b", "--name", "Quotes")
    marks: dict[str, set[str]] = {}
    for program in ("main", "b"):
        own = ("--program", program)
        service.cardctl("terms", "set", "binding=hardware", *own)
        options = ("--validity", "5d", "--batch", f"of-{program}", "--format", "txt")
        card = service.cardctl("card", "issue", *options, *own).stdout.strip()
        downloads.put(service, f"file-of-{program}.bin", b"core", *own)
        marks[program] = {card, f"of-{program}", f"file-of-{program}", f"open-{program}"}
    wait_in_force(database.execute_sql)
    for program in marks:
        card = Card.get(Card.program == program).id
        for number in range(12):
            service.verify(question(card, f"machine-{min(number, 9)}", f"open-{program}", program=program))
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
    client = Client(address, public_keys=keys, card_id=cards[0], hardware="machine-1", state_dir=tmp_path)
    assert client.open().accepted
    assert bytes(client.unseal(tmp_path / "core.dat.age")) == b"core"
    with pytest.raises(CardRejected) as refused:
        Client(address, public_keys=keys, card_id=own, hardware="machine-2", state_dir=None).open()
    assert refused.value.code == "CARD_NOT_FOUND"
    why = olga.get(f"/admin/refusal?reference={refused.value.reference}")
    assert "The card is of the program “main”" in why.words


def test_the_console_refuses_in_words(vendor: Vendor, olga: Browser) -> None:
    file = {"file": ("core.dat", b"core")}
    vendor.service.cardctl("program", "add", "c", "--name", "C", "--data-key-file", "-", text="a key of another scheme")
    for address, form, files, told in [
        ("/admin/programs", {"id": "b", "name": "x"}, None, "taken"),
        ("/admin/programs/seal", {"id": "c"}, file, "no age identity"),
        ("/admin/programs/seal", {"id": "b"}, {"file": ("core.dat", b"")}, "choose the file"),
        ("/admin/program", {"id": "b", "name": "main"}, None, "has this name"),
        ("/admin/program/remove", {"id": "main"}, None, "cannot be removed"),
        ("/admin/cards/issue", {"validity": "30d", "count": "1"}, None, "choose a program"),
    ]:
        refused = olga.post(address, form, files)
        assert (refused.status, told in refused.words) == (400, True), (address, form, refused.words)
    assert olga.get("/admin/program?id=d").status == olga.post("/admin/program", {"id": "d", "name": "x"}).status == 404
    assert Card.select().count() == 0
