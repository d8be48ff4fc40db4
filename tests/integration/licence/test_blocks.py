"""The vendor's block list: what may be on it, and the refusals and hits that follow."""
# Owns block-list.

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256

import pytest

from app.domain.cards.cards import card_id_of
from app.domain.codes import Code, EventKind
from app.domain.texts import RefusedError
from app.services.licence.blocks import MAX_BLOCKS, BlockNotFoundError, Blocks
from app.services.licence.licence import LicenceService
from app.services.licence.verification import Verification
from app.storage.database import Database
from app.storage.models import Block, Card, Client, Event, Usage
from tests.conftest import Clock
from tests.support.licence.asking import ask, claims, kinds
from tests.support.query_plans import statements
from tests.support.services.service import wait_for_lock

AWAY = "203.0.113.7"


@pytest.fixture
def blocks(database: Database, clock: Clock) -> Blocks:
    return Blocks(database, "tester", clock)


def test_what_a_block_is_must_be_right_and_there_are_so_many(blocks: Blocks, clock: Clock) -> None:
    with pytest.raises(RefusedError, match="must be an address, or a network"):
        blocks.network("0.0.0.0/0")
    for wrong in ("", "x" * 1_025, "a\0b", "\ud800"):
        with pytest.raises(RefusedError, match="hardware"):
            blocks.machine(wrong)
    for reason in ("", "x" * 201, "a\nb"):
        with pytest.raises(RefusedError, match="reason must be"):
            blocks.add(blocks.machine("h1"), reason)
    blocks.add(blocks.network("::ffff:203.0.113.0/120"), "scanner")
    with pytest.raises(RefusedError, match="this is blocked already"):
        blocks.add(blocks.network("203.0.113.0/24"), "again")
    with pytest.raises(BlockNotFoundError, match="there is no block 99"):
        blocks.remove(99)
    assert Block.select().count() == 1
    assert kinds() == [EventKind.BLOCK_ADDED]
    rows = [
        {"network": f"10.{n >> 8}.{n & 255}.0/24", "reason": "r", "actor": "a", "created_at": clock.now}
        for n in range(MAX_BLOCKS - 1)
    ]
    Block.insert_many(rows).execute()
    with pytest.raises(RefusedError, match="at most 10,000 blocks"):
        blocks.add(blocks.machine("h1"), "one more")


def test_a_blocked_machine_and_network_are_refused_first_and_their_hits_counted(
    verification: Verification, licences: LicenceService, blocks: Blocks, card_id: str, clock: Clock
) -> None:
    ask(verification, card_id)
    machine = blocks.add(blocks.machine("h1"), "charged back")
    network = blocks.add(blocks.network("203.0.113.0/24"), "scanner")
    licences.rules.renew()
    refused = [ask(verification, card_id), ask(verification, "0" * 32, "h9", AWAY), ask(verification, card_id)]
    assert [verdict.code for verdict in refused] == [Code.CLIENT_BLOCKED] * 3
    assert "KERNAL_DATA_KEY" not in claims(refused[0])
    assert blocks.hits() == {machine: 2, network: 1}
    clock.now += timedelta(days=7, seconds=1)
    assert blocks.hits() == {}, "the week is over"
    entries = list(Event.select().where(Event.code == Code.CLIENT_BLOCKED).order_by(Event.id))
    assert [entry.details["block"] for entry in entries] == [machine, network, machine]
    blocks.remove(machine)
    licences.rules.renew()
    assert ask(verification, card_id).code is Code.OK


def test_a_block_is_met_before_the_database_is_asked(
    verification: Verification, licences: LicenceService, blocks: Blocks, database: Database, card_id: str, clock: Clock
) -> None:
    ask(verification, card_id)
    seen = Client.get().requested_at
    blocks.add(blocks.machine("h1"), "charged back")
    licences.rules.renew()
    clock.now += timedelta(hours=1)
    with statements(database) as ran:
        assert ask(verification, card_id).code is Code.CLIENT_BLOCKED
    assert ran, "the refusal is journalled"
    assert not [sql for sql, _values in ran if '"card"' in sql or '"client"' in sql]
    assert (Client.get().requested_at, Usage.get().count) == (seen, 1), "nor was the card's use recorded"


def test_a_machine_is_blocked_by_the_reference_of_its_refusal(
    verification: Verification, licences: LicenceService, blocks: Blocks, card_id: str
) -> None:
    ask(verification, card_id)
    refused = ask(verification, card_id, "h2", AWAY)
    blocks.add(blocks.machine_of(refused.reference.lower()), "cracked client")
    licences.rules.renew()
    assert ask(verification, card_id, "h2", AWAY).code is Code.CLIENT_BLOCKED
    assert ask(verification, card_id).code is Code.OK
    assert Event.get(Event.kind == EventKind.BLOCK_ADDED).reference == refused.reference
    with pytest.raises(RefusedError, match="no machine under the reference “00000000”"):
        blocks.machine_of("00000000")


def test_blocks_that_change_places_in_one_second_are_noticed(
    licences: LicenceService, blocks: Blocks, elsewhere: Database
) -> None:
    first = blocks.add(blocks.machine("h1"), "r")
    insert = "INSERT INTO block (hardware_sha256, reason, actor, created_at) VALUES (%s, 'r', 'olga', now())"
    elsewhere.execute_sql(insert, (blocks.machine("h2").hardware_sha256,))
    blocks.add(blocks.machine("h3"), "r")
    licences.rules.renew()
    elsewhere.execute_sql("COMMIT")
    blocks.remove(first)
    licences.rules.renew()
    found = licences.rules.get().blocks
    assert [found.find(sha256(name).hexdigest(), AWAY) is not None for name in (b"h1", b"h2", b"h3")] == [
        False, True, True,
    ]  # fmt: skip


def test_the_refusal_of_a_blocked_machine_with_an_imported_card_names_the_card(
    verification: Verification, licences: LicenceService, blocks: Blocks
) -> None:
    blocks.add(blocks.machine("h1"), "r")
    licences.rules.renew()
    Card.insert(id=card_id_of("old-key-2231"), imported_key="old-key-2231", created_at="2026-01-01T00:00:00Z").execute()
    for sent in (" old-key-2231", "no-key-4711"):
        assert ask(verification, sent).code is Code.CLIENT_BLOCKED
    refusals = Event.select().where(Event.code == Code.CLIENT_BLOCKED).order_by(Event.id)
    assert [entry.card_id for entry in refusals] == [card_id_of("old-key-2231"), "no-key-4711"]


def test_a_request_that_waits_meets_the_blocks_of_the_moment_when_it_is_decided(
    verification: Verification, licences: LicenceService, blocks: Blocks, database: Database, elsewhere: Database,
    card_id: str,
) -> None:  # fmt: skip
    ask(verification, card_id)
    elsewhere.execute_sql("SELECT FROM card WHERE id = %s FOR UPDATE", (card_id,))

    def move() -> Code:
        with database.connection_context():
            return ask(verification, card_id, "h2").code

    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        wait_for_lock(elsewhere)
        blocks.add(blocks.machine("h2"), "charged back")
        licences.rules.renew()
        elsewhere.execute_sql("ROLLBACK")
        assert moving.result() is Code.CLIENT_BLOCKED
    assert Client.get().hardware == "h1"
