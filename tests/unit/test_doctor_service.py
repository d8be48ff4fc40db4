"""What `cardctl doctor` says of a service: its files, its bucket, its database's standbys and its accounts."""

from dataclasses import replace

import pytest

from app.domain.texts import Text
from app.storage.bucket_blobs import Probe
from tests.support.doctor_changes import checked, database, differing, setting
from tests.support.doctor_facts import DATABASE, SERVICE


def test_lost_files_and_broken_modules_are_listed_up_to_five() -> None:
    names = tuple(f"part{number}.age" for number in range(9))
    results = checked(replace(SERVICE, database=replace(DATABASE, lost_files=names[:2]), broken=names))
    assert "part0.age, part1.age." in results["files"].message_en
    assert "part4.age, … (9)." in results["functions"].message_en


def test_the_console_which_reads_no_file_whole_leaves_their_digests_out() -> None:
    results = checked(replace(SERVICE, **database(compared_files=None)))
    assert "file-digests" not in results
    assert differing(results) == {}


def test_files_are_not_called_lost_while_the_bucket_is_away() -> None:
    away = replace(SERVICE, database=replace(DATABASE, lost_files=None, compared_files=None))
    results = checked(away)
    assert results["files"].message_en == "Not checked: the bucket is unavailable"
    assert "file-digests" not in results


@pytest.mark.parametrize(
    ("probe", "status"),
    [
        (Probe(None, 0.0), "OK"),
        (Probe(None, None), "OK"),
        (Probe(None, -4.0), "WARN"),
        (Probe(None, 31.0), "FAIL"),
        (Probe(Text("无法写入：…", "cannot write: …"), None), "FAIL"),
    ],
)
def test_a_bucket_is_checked_where_one_is_set(probe: Probe, status: str) -> None:
    assert checked(replace(SERVICE, bucket=probe))["bucket"].status == status
    assert "bucket" not in checked(SERVICE)


def test_each_standby_is_named_with_its_lag() -> None:
    several = database(synchronous="*", standbys={"b:5432": 96, "c:5433": "timeout expired"})
    message = checked(replace(SERVICE, **several))["durability"].message_en
    assert message == "Replication is synchronous. b:5432: 96 bytes behind; c:5433: timeout expired"


def test_accounts_without_ceilings_and_expiring_tokens_are_named() -> None:
    found = ("console:alice", "shop:taobao")
    service = replace(SERVICE, database=replace(DATABASE, without_ceilings=found, expiring_tokens=("pdd 2026-12-01",)))
    results = checked(service)
    assert "Without ceilings: console:alice, shop:taobao." in results["ceilings"].message_en
    assert "or have expired: pdd 2026-12-01." in results["tokens"].message_en


def test_operators_without_one_time_codes_are_named_unless_only_certain_addresses_reach_the_console() -> None:
    service = replace(SERVICE, database=replace(DATABASE, operators={"alice": True, "bob": False, "carol": False}))
    assert "a password is enough for bob, carol:" in checked(service)["console"].message_en
    allowed = checked(service, **setting("KADUN_ADMIN_ALLOW", "203.0.113.7 2001:db8::/32"))
    assert differing(allowed) == {}
    assert "203.0.113.7 2001:db8::/32" in allowed["console"].message_en
