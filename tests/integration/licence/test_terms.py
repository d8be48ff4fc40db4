"""The vendor's terms and block list: their changes, also in the console, the verdicts that follow, and when."""
# Owns terms-change, block-list.

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from app.console.rendering import url
from app.domain.cards.cards import card_id_of
from app.domain.codes import Code, EventKind
from app.domain.licence.policy import VerificationRequest
from app.domain.licence.terms import BindingTerm, RenewTerm, Terms
from app.domain.operators.ceilings import MAX_CHANGES_PER_DAY
from app.domain.texts import RefusedError
from app.runtime.clock import utc_now
from app.services.licence.blocks import MAX_BLOCKS, BlockNotFoundError, Blocks
from app.services.licence.licence import LicenceService, Verification
from app.services.licence.terms import TermsChangedError, VendorTerms
from app.services.random_tokens import digest
from app.services.webhooks.webhooks import Webhooks
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import MAX_REFUSALS_PER_MINUTE
from app.storage.models import Block, Card, Ceiling, Client, DailyCount, Event, Usage, Webhook
from tests.conftest import Clock
from tests.integration.conftest import with_keys
from tests.support.concurrency import outcomes_at_once
from tests.support.console.console import OWN, Browser, Seen
from tests.support.licence.bound_cards import ask, claims, kinds
from tests.support.licence.in_force import REAL_INTERVAL
from tests.support.query_plans import statements
from tests.support.secrets import SEALING
from tests.support.services.service import OPEN, Response, Service, question, wait_for_lock

HOME, AWAY = "198.51.100.1", "203.0.113.7"


class Vendor:
    """Terms and blocks that are in force at once, and the customers' requests."""

    def __init__(
        self, verification: Verification, licences: LicenceService, terms: VendorTerms, blocks: Blocks
    ) -> None:
        self.terms, self.blocks, self.renew = terms, blocks, licences.rules.renew
        self.verify, self.ask = verification.verify, partial(ask, verification)

    def set(self, **changes: str) -> None:
        self.terms.change(changes.items())
        self.renew()

    def block(self, hardware: str) -> int:
        number = self.blocks.add(self.blocks.machine(hardware), "charged back")
        self.renew()
        return number


@pytest.fixture
def blocks(database: Database, clock: Clock) -> Blocks:
    return Blocks(database, "tester", clock)


@pytest.fixture
def vendor(verification: Verification, licences: LicenceService, terms: VendorTerms, blocks: Blocks) -> Vendor:
    return Vendor(verification, licences, terms, blocks)


def test_terms_are_changed_whole_and_each_change_is_journalled(terms: VendorTerms) -> None:
    assert terms.read()[1] == Terms()
    changed = terms.change([("binding", "both"), ("changes_per_day", "2"), ("self_unbind_cost", "1d")])
    assert changed == terms.read()[1] == Terms(BindingTerm.BOTH, 2, self_unbind_cost=timedelta(days=1))
    with pytest.raises(RefusedError, match="contact"):
        terms.change([("changes_per_day", "9"), ("contact", "x" * 201)])
    assert terms.read()[1] == changed
    assert terms.change([("binding", "both")]) == changed
    assert terms.change([("binding", ""), ("notice", "你好")]).notice == "你好"
    before = {"binding": "either", "changes_per_day": None, "self_unbind_cost": None}
    after = {"binding": "both", "changes_per_day": 2, "self_unbind_cost": "1d"}
    again = {"before": {"binding": "both", "notice": None}, "after": {"binding": "either", "notice": "你好"}}
    entries = Event.select().where(Event.kind == EventKind.TERMS_CHANGED).order_by(Event.id)
    assert [(entry.actor, entry.details) for entry in entries] == [
        ("tester", {"terms": 1, "before": before, "after": after}),
        ("tester", {"terms": 2, **again}),
    ]


def test_changes_at_the_same_time_lose_none(terms: VendorTerms, database: Database) -> None:
    given = {"contact": "QQ", "notice": "hello", "changes_per_day": "3", "self_renew": "any"}
    outcomes_at_once(database, [partial(terms.change, [item]) for item in given.items()])
    assert terms.read()[1] == Terms(contact="QQ", notice="hello", changes_per_day=3, self_renew=RenewTerm.ANY)
    assert Event.select().where(Event.kind == EventKind.TERMS_CHANGED).count() == len(given)


def test_commands_show_what_is_set_and_change_nothing_by_wrong_ones(offline: Service) -> None:
    for command, status in (
        (["terms", "set", "binding=none"], 1),
        (["terms", "set"], 2),
        (["block", "add", "--network", "0.0.0.0/0", "--reason", "all"], 1),
        (["block", "add", "--address", "1.2.3.4", "--hardware", "h", "--reason", "r"], 2),
        (["block", "remove", "99"], 1),
    ):
        assert offline.cardctl(*command, check=False).returncode == status, command
        assert not Event.select().exists(), command
    offline.cardctl("terms", "set", "self_service=on", "self_unbind_cost=2d", "contact=QQ 1")
    shown = offline.cardctl_json("terms", "show")
    assert [shown[name] for name in ("binding", "self_service", "self_unbind_cost")] == ["either", True, "2d"]


@pytest.fixture
def as_in_production(database: Database, database_url: str, tmp_path: Path) -> Iterator[Service]:
    """Four processes that read the terms as often as those of customers."""
    settings = {"KADUN_BEHIND_PROXY": "true", "KADUN_WORKERS": "4", REAL_INTERVAL: "yes"}
    with Service(with_keys(tmp_path), database_url, **settings) as running:
        yield running


def codes_of(service: Service, card_id: str, **more: object) -> set[str]:
    """Return the codes of as many answers as reach all processes."""

    def one(_: int) -> Response:
        return service.verify(question(card_id) | more, address=HOME)

    with ThreadPoolExecutor(8) as pool:
        return {str(answer.claims["code"]) for answer in pool.map(one, range(40))}


def wait_two_seconds() -> None:
    """Wait for as long as the contract allows; start over if the machine stood still."""
    left, end = 20, time.monotonic() + 60
    while left:
        began = time.monotonic()
        assert began < end, "the machine keeps standing still"
        time.sleep(0.1)
        left = 20 if time.monotonic() - began > 0.3 else left - 1


def test_terms_and_blocks_are_in_force_in_every_process_within_two_seconds(as_in_production: Service) -> None:
    proxied = as_in_production
    (card_id,) = proxied.issue()
    assert codes_of(proxied, card_id) == {"OK"}
    shown = proxied.cardctl("terms", "set", "minimum_version=2.0", "update_url=https://example.com/2")
    assert "https://example.com/2" in shown.stdout
    wait_two_seconds()
    assert codes_of(proxied, card_id) == {"UPDATE_REQUIRED"}
    assert codes_of(proxied, card_id, version="2.0.0") == {"OK"}
    proxied.cardctl("terms", "set", "minimum_version=")
    proxied.cardctl("block", "add", "--hardware", question(card_id)["hardware"], "--reason", "charged back")
    wait_two_seconds()
    assert codes_of(proxied, card_id) == {"CLIENT_BLOCKED"}
    (row,) = proxied.cardctl_json("block", "list")
    assert row["hits"] >= MAX_REFUSALS_PER_MINUTE
    proxied.cardctl("block", "remove", str(row["id"]))
    wait_two_seconds()
    assert codes_of(proxied, card_id) == {"OK"}


def test_accepted_verdicts_carry_what_the_terms_set(vendor: Vendor, card_id: str) -> None:
    said = {"notice": "维护", "latest_version": "2.0", "update_url": "https://example.com/2.0"}
    assert not said.keys() & claims(vendor.ask(card_id)).keys()
    vendor.set(**said)
    assert said.items() <= claims(vendor.ask(card_id)).items()
    assert said.keys() & claims(vendor.ask(card_id, function="导出")).keys() == said.keys() - {"notice"}
    assert not said.keys() & claims(vendor.ask("0" * 32)).keys()


def test_more_changes_than_a_day_allows_are_refused_and_counted(vendor: Vendor, card_id: str, clock: Clock) -> None:
    vendor.ask(card_id)
    vendor.ask(card_id, address=AWAY)
    vendor.set(changes_per_day="2")
    vendor.ask(card_id, "h2", AWAY)
    refused = [vendor.ask(card_id, "h2", HOME), vendor.ask(card_id, "h3", AWAY)]
    assert [verdict.code for verdict in refused] == [Code.TOO_MANY_CHANGES] * 2
    assert vendor.ask(card_id, "h2", AWAY).code is Code.OK, "where it was last"
    assert (Client.get().hardware, Client.get().ip) == ("h2", AWAY)
    assert DailyCount.get(DailyCount.kind == "TOO_MANY_CHANGES").count == 2
    clock.advance(timedelta(days=1))
    assert vendor.ask(card_id, "h2", HOME).code is Code.OK


def test_changes_that_race_are_not_more_than_the_day_allows(vendor: Vendor, database: Database, card_id: str) -> None:
    vendor.set(changes_per_day="3")
    vendor.ask(card_id)

    def move(number: int) -> Code:
        return database.with_connection(lambda: vendor.ask(card_id, address=f"203.0.113.{number}").code)

    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(move, range(1, 13)))
    assert (codes.count(Code.OK), codes.count(Code.TOO_MANY_CHANGES)) == (3, 9)


def test_a_change_is_not_counted_against_the_machine_that_has_just_made_it(
    vendor: Vendor, database: Database, card_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that asks twice at once from a new address: one of the two is recorded while the other is read."""
    vendor.set(changes_per_day="1")
    vendor.ask(card_id)
    count, asked = journal.changes_of_day, []

    def count_late(*given: Any) -> int:
        if not asked:
            asked.append(AWAY)
            outcomes_at_once(database, [lambda: asked.append(vendor.ask(card_id, address=AWAY).code)])
        return count(*given)

    monkeypatch.setattr(journal, "changes_of_day", count_late)
    assert (vendor.ask(card_id, address=AWAY).code, asked) == (Code.OK, [AWAY, Code.OK])
    assert vendor.ask(card_id, address="192.0.2.7").code is Code.TOO_MANY_CHANGES


def test_an_old_program_must_update_changes_nothing_and_its_entry_names_the_terms(vendor: Vendor, card_id: str) -> None:
    def verify(version: str | None, function: str = OPEN) -> dict[str, object]:
        fields = (card_id, "h1", function, "n" * 22, HOME)
        asked = VerificationRequest.from_fields(*fields, version=version, needs_version=function == OPEN)
        return claims(vendor.verify(asked))

    update = {"latest_version": "2.1", "update_url": "https://example.com"}
    vendor.set(minimum_version="2.0", **update)
    told = verify("1.99")
    assert (update | {"code": "UPDATE_REQUIRED"}).items() <= told.items()
    assert ("KERNAL_DATA_KEY" in told, Card.get_by_id(card_id).is_activated) == (False, False)
    vendor.terms.change([("notice", "hello")])  # this process holds the terms before
    assert [verify(None)["code"], verify("2.0")["code"]] == [Code.UPDATE_REQUIRED, Code.OK]
    assert verify(None, "导出")["code"] == Code.OK
    vendor.renew()
    assert vendor.ask(card_id, "h2", AWAY).code is Code.CLIENT_MISMATCH
    assert DailyCount.get(DailyCount.kind == "UPDATE_REQUIRED").count == 2
    judged = Event.select().where(Event.hardware.is_null(is_null=False)).order_by(Event.id)
    found = [(entry.kind, entry.details["terms"]) for entry in judged]
    assert found == [("rejected", 1), ("activated", 1), ("rejected", 2)]


def test_a_block_has_a_reason_and_stands_there_once_and_there_are_so_many(blocks: Blocks, clock: Clock) -> None:
    with pytest.raises(RefusedError, match="hardware"):
        blocks.machine("x" * 1_025)
    with pytest.raises(RefusedError, match="reason must be"):
        blocks.add(blocks.machine("h1"), "a\nb")
    blocks.add(blocks.network("::ffff:203.0.113.0/120"), "scanner")
    with pytest.raises(RefusedError, match="this is blocked already"):
        blocks.add(blocks.network("203.0.113.0/24"), "again")
    with pytest.raises(BlockNotFoundError):
        blocks.remove(99)
    assert (Block.select().count(), kinds()) == (1, [EventKind.BLOCK_ADDED])
    row = {"reason": "r", "actor": "a", "created_at": clock.now}
    others = [row | {"network": f"10.{n >> 8}.{n & 255}.0/24"} for n in range(MAX_BLOCKS - 1)]
    Block.insert_many(others).execute()
    with pytest.raises(RefusedError, match="at most 10,000 blocks"):
        blocks.add(blocks.machine("h1"), "one more")


def test_who_is_blocked_is_refused_and_counted(vendor: Vendor, database: Database, card_id: str, clock: Clock) -> None:
    vendor.ask(card_id)
    seen = Client.get().requested_at
    network = vendor.blocks.add(vendor.blocks.network("203.0.113.0/24"), "scanner")
    machine = vendor.block("h1")
    clock.now += timedelta(hours=1)
    with statements(database) as ran:
        refused = [vendor.ask(card_id), vendor.ask("0" * 32, "h9", AWAY), vendor.ask(card_id)]
    assert [verdict.code for verdict in refused] == [Code.CLIENT_BLOCKED] * 3
    assert ran, "the refusal is journalled"
    assert not [sql for sql, _values in ran if '"card"' in sql or '"client"' in sql]
    assert (Client.get().requested_at, Usage.get().count) == (seen, 1), "nor was the card's use recorded"
    assert "KERNAL_DATA_KEY" not in claims(refused[0])
    assert vendor.blocks.hits() == {machine: 2, network: 1}
    clock.now += timedelta(days=7, seconds=1)
    assert vendor.blocks.hits() == {}, "the week is over"
    entries = Event.select().where(Event.code == Code.CLIENT_BLOCKED).order_by(Event.id)
    assert [entry.details["block"] for entry in entries] == [machine, network, machine]
    vendor.blocks.remove(machine)
    vendor.renew()
    assert vendor.ask(card_id).code is Code.OK


def test_a_machine_is_blocked_by_the_reference_of_its_refusal(vendor: Vendor, card_id: str) -> None:
    vendor.ask(card_id)
    refused = vendor.ask(card_id, "h2", AWAY)
    vendor.blocks.add(vendor.blocks.machine_of(refused.reference.lower()), "cracked client")
    vendor.renew()
    assert [vendor.ask(card_id, "h2", AWAY).code, vendor.ask(card_id).code] == [Code.CLIENT_BLOCKED, Code.OK]
    assert Event.get(Event.kind == EventKind.BLOCK_ADDED).reference == refused.reference
    with pytest.raises(RefusedError, match="no machine under the reference “00000000”"):
        vendor.blocks.machine_of("00000000")


def test_blocks_that_change_places_are_noticed(licences: LicenceService, vendor: Vendor, elsewhere: Database) -> None:
    first = vendor.block("h1")
    insert = "INSERT INTO block (hardware_sha256, reason, actor, created_at) VALUES (%s, 'r', 'olga', now())"
    elsewhere.execute_sql(insert, (vendor.blocks.machine("h2").hardware_sha256,))
    vendor.block("h3")
    elsewhere.execute_sql("COMMIT")
    vendor.blocks.remove(first)
    vendor.renew()
    find = licences.rules.get().blocks.find
    blocked = [name for name in (b"h1", b"h2", b"h3") if find(sha256(name).hexdigest(), AWAY) is not None]
    assert blocked == [b"h2", b"h3"]


def test_the_refusal_of_a_blocked_machine_with_an_imported_card_names_the_card(vendor: Vendor) -> None:
    vendor.block("h1")
    Card.insert(id=card_id_of("old-key-2231"), imported_key="old-key-2231", created_at="2026-01-01T00:00:00Z").execute()
    assert [vendor.ask(sent).code for sent in (" old-key-2231", "no-key-4711")] == [Code.CLIENT_BLOCKED] * 2
    refusals = Event.select().where(Event.code == Code.CLIENT_BLOCKED).order_by(Event.id)
    assert [entry.card_id for entry in refusals] == [card_id_of("old-key-2231"), "no-key-4711"]


def test_a_waiting_request_meets_a_block(vendor: Vendor, database: Database, elsewhere: Database, card_id: str) -> None:
    vendor.ask(card_id)
    elsewhere.execute_sql("SELECT FROM card WHERE id = %s FOR UPDATE", (card_id,))

    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(database.with_connection, lambda: vendor.ask(card_id, "h2").code)
        wait_for_lock(elsewhere)
        vendor.block("h2")
        elsewhere.execute_sql("ROLLBACK")
        assert moving.result() is Code.CLIENT_BLOCKED
    assert Client.get().hardware == "h1"


PATH = "/admin/settings"
LIST, ADD, REMOVE = "/admin/blocks", "/admin/blocks/add", "/admin/blocks/remove"


def save(browser: Browser, page: Seen | None = None, **typed: str) -> Seen:
    """Fill in the form as it stands in the page, with the password."""
    return browser.submit(page or browser.get(PATH), PATH, OWN | typed)


def test_terms_take_the_password_and_cleared_fields_are_the_defaults_again(olga: Browser) -> None:
    notice = "停机维护：\n周日 & <周一>"
    typed = {"binding": "hardware", "notice": notice.replace("\n", "\r\n"), "self_unbind_cost": "1天"}
    page = save(olga, **typed, own_password="wrong")
    assert (page.status, dict(page.form(PATH).fields)["notice"]) == (400, notice)
    assert save(olga).status == 200, "saving what is in force is no change"
    assert VendorTerms.read() == (0, Terms())
    save(olga, **typed)
    terms = Terms(BindingTerm.HARDWARE, notice=notice, self_unbind_cost=timedelta(days=1))
    assert VendorTerms.read() == (1, terms)
    assert Event.get(Event.kind == EventKind.TERMS_CHANGED).actor == "console:olga"
    save(olga, **dict.fromkeys(typed, "") | {"binding": "either"})
    assert VendorTerms.read() == (2, Terms())


def test_what_somebody_else_changed_meanwhile_is_not_overwritten_unseen(olga: Browser, database: Database) -> None:
    page = olga.get(PATH)
    others = VendorTerms(database, "tester", utc_now)
    others.change([("notice", "closed on Sunday")], seen=0)
    with pytest.raises(TermsChangedError):
        others.change([("notice", "open on Sunday")], seen=0)
    refused = save(olga, page, contact="QQ 1")
    assert (refused.status, "In force now: closed on Sunday" in refused.words) == (400, True)
    assert (dict(refused.form(PATH).fields)["contact"], VendorTerms.read()[1].contact) == ("QQ 1", None)
    save(olga, refused)
    assert VendorTerms.read() == (2, Terms(contact="QQ 1"))


def test_a_webhook_is_paused_by_password_and_changes_count_for_the_day(owner: Browser, database: Database) -> None:
    """Otherwise a stolen session could silence what tells the vendor of it."""
    one, name = "/admin/webhook", {"name": "shop"}
    Webhooks(database, "tester", utc_now, SEALING).add("shop", "https://shop.invalid/", ["card.activated"])
    for given, status in (({}, 400), (OWN, 303)):
        assert owner.post(f"{one}/pause", {**name, **given}).status == status
        assert (Webhook.get().paused_at is None) == (status == 400)
    assert owner.post(f"{one}/resume", name).status == 303, "it takes nothing to have them again"
    other = {"name": "other", "url": "https://other.invalid/", "topic": "card.activated", **OWN}
    blocking = {"reason": "scanner", "network": "203.0.113.7"}
    own_forms = (("/admin/webhooks", other), *((f"{one}/{do}", other) for do in ("test", "secret", "remove")))
    for number, (path, typed) in enumerate((*own_forms, (ADD, blocking)), 3):
        assert owner.post(path, typed).status in {200, 303}
        assert Ceiling.get().changed == number, path
    Ceiling.update(changed=MAX_CHANGES_PER_DAY).execute()
    before = Event.select().count()
    removing, another = {"id": str(Block.get().id)}, blocking | {"network": "203.0.113.8"}
    for path, typed in ((f"{one}/test", name), (f"{one}/pause", name | OWN), (ADD, another), (REMOVE, removing)):
        answer = owner.post(path, typed)
        assert (answer.status, f"{MAX_CHANGES_PER_DAY}" in answer.words) == (400, True), path
    assert (Event.select().count(), Webhook.get().paused_at) == (before, None)
    assert blocked() == ["203.0.113.7/32"]


def blocked() -> list[str]:
    return [each.hardware_sha256 or each.network for each in Block.select().order_by(Block.id)]


def block(browser: Browser, page: Seen | None = None, **typed: str) -> Seen:
    return browser.submit(page or browser.get(ADD), ADD, {"reason": "r"} | typed)


def test_what_the_report_names_is_blocked(owner: Browser, seller: Browser, proxied: Service, cards: list[str]) -> None:
    hardware = "thief & co" * 10  # of refusals the journal has its beginning only
    for card_id in ("0" * 32, "1" * 32, "2" * 32):
        proxied.verify(question(card_id, hardware), address=AWAY)
    by_machine, by_address = (each for each in owner.get("/admin/sharing").links if each.startswith(ADD))
    assert by_address == url(ADD, network=AWAY)
    block(owner, owner.get(by_machine))
    assert blocked() == [digest(hardware)]
    assert not [each for each in seller.get("/admin/sharing").links if each.startswith(ADD)]


def test_a_block_of_a_network_takes_the_password(owner: Browser) -> None:
    page = block(owner, block(owner, network="203.0.113.0/24"), own_password="wrong")
    assert (page.status, "您的密码不正确" in page.words, blocked()) == (400, True, [])
    assert dict(page.form(ADD).fields)["reason"] == "r", "what was typed stays"
    block(owner, page, **OWN)
    block(owner, hardware=" disk 1 ")
    assert blocked() == ["203.0.113.0/24", digest(" disk 1 ")], "hardware is blocked as it was sent"
