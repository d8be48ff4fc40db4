"""The vendor's block list: what may be on it, and the refusals and hits that follow."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import peewee
import pytest

from app.domain.codes import Code, EventKind
from app.domain.texts import RefusedError
from app.services.blocks import MAX_BLOCKS, BlockNotFoundError, Blocks
from app.services.licence import LicenceService
from app.services.verification import Verification
from app.storage.database import Database
from app.storage.models import Block, Client, Event, Usage
from tests.conftest import Clock
from tests.support.asking import ask, claims, kinds
from tests.support.query_plans import statements
from tests.support.service import wait_for

AWAY = "203.0.113.7"


@pytest.fixture
def blocks(database: Database, clock: Clock) -> Blocks:
    return Blocks(database, "tester", clock)


def test_what_a_block_is_must_be_right(blocks: Blocks) -> None:
    for wrong in ("0.0.0.0/0", "::/0", "::ffff:0:0/96", "203.0.113.7/24", "somewhere"):
        with pytest.raises(RefusedError, match="must be an address, or a network"):
            blocks.network(wrong)
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


def test_the_block_list_has_a_bound(blocks: Blocks, clock: Clock) -> None:
    rows = [
        {"network": f"10.{n >> 8}.{n & 255}.0/24", "reason": "r", "actor": "a", "created_at": clock.now}
        for n in range(MAX_BLOCKS)
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
    licences.rules.renew()
    assert {(row.id, row.hits, row.last_hit_at) for row in blocks.list()} == {
        (machine, 2, clock.now),
        (network, 1, clock.now),
    }
    entries = list(Event.select().where(Event.code == Code.CLIENT_BLOCKED).order_by(Event.id))
    assert [entry.details for entry in entries] == [{"block": machine}, {"block": network}, {"block": machine}]
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


def test_blocked_clients_fill_no_journal(
    verification: Verification, licences: LicenceService, blocks: Blocks, card_id: str
) -> None:
    block = blocks.add(blocks.machine("h1"), "r")
    licences.rules.renew()
    for _ in range(25):
        assert ask(verification, card_id).code is Code.CLIENT_BLOCKED
    assert Event.select().where(Event.code == Code.CLIENT_BLOCKED).count() == 20
    licences.rules.renew()
    assert Block.get_by_id(block).hits == 25


def test_hits_that_cannot_be_written_are_written_later_and_none_twice(
    licences: LicenceService, blocks: Blocks, database: Database
) -> None:
    block = blocks.add(blocks.machine("h1"), "charged back")
    database.execute_sql("ALTER TABLE block RENAME TO hidden")
    licences.rules.hit(block)
    try:
        with pytest.raises(peewee.ProgrammingError):
            licences.rules.renew()
    finally:
        database.execute_sql("ALTER TABLE hidden RENAME TO block")

    def renew(_: int) -> None:
        licences.rules.renew()
        database.close()

    licences.rules.hit(block)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(renew, range(20)))
    wait_for(lambda: Block.get_by_id(block).hits >= 2)
    assert Block.get_by_id(block).hits == 2
