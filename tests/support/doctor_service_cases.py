"""Facts of a service that differ from a healthy one's in one point, and the checks that they change."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from app.storage.catalog import CatalogDifference
from tests.support.doctor_changes import database
from tests.support.doctor_facts import DATABASE_CHECKS, HOST_REPORT, NOW

UNSEEN = dict.fromkeys(DATABASE_CHECKS, "WARN")
REVOKED = {"kadun_app": ["SELECT on card"]}
SERVICE_CASES: list[tuple[dict[str, Any], dict[str, str]]] = [
    (
        {"settings_error": "KADUN_TIMEZONE is 'x'", "data_key": ()},
        {"settings": "FAIL", "data-key": "WARN", "data-key-in-use": "WARN"},
    ),
    ({"database": "connection refused"}, {"database": "FAIL", **UNSEEN}),
    ({"database": 'FATAL: permission denied for database "kadun"'}, {"database": "FAIL", **UNSEEN}),
    (database(unproven_host="10.0.0.5"), {"database": "WARN"}),
    (database(schema_found=None), {"schema": "FAIL", "proxy": "WARN"}),
    (database(schema_found="0000_before"), {"schema": "FAIL", "proxy": "WARN"}),
    (database(schema_found="0002_after"), {"schema": "FAIL", "proxy": "WARN"}),
    (database(roles={"kadun_app": ["SUPERUSER"]}), {"roles": "FAIL"}),
    (database(missing_rights=REVOKED), {"rights": "FAIL"}),
    (database(missing_rights=REVOKED, recorded={}), {"rights": "FAIL", "proxy": "WARN"}),
    (database(missing_rights=REVOKED, schema_found=None), {"rights": "FAIL", "schema": "WARN", "proxy": "WARN"}),
    (database(catalog=None), {"catalog": "WARN"}),
    (database(catalog=CatalogDifference(missing=("index card.card_batch",))), {"catalog": "FAIL"}),
    (database(catalog=CatalogDifference(changed=("trigger event.event_no_update",))), {"catalog": "FAIL"}),
    (database(catalog=CatalogDifference(foreign=("column card.colour",))), {"catalog": "FAIL"}),
    (database(catalog=CatalogDifference(foreign=("index card.mine", "table mine"))), {"catalog": "WARN"}),
    (database(hosts=None), {"hosts": "WARN"}),
    (database(sessions=(("web-1", "10.0.0.4"), ("web-1", "10.0.0.5"))), {"hosts": "WARN"}),
    (database(hosts=(HOST_REPORT, replace(HOST_REPORT, name="web-2"))), {}),
    (database(hosts=(HOST_REPORT, replace(HOST_REPORT, name="web-2", kid="other"))), {"hosts": "WARN"}),
    (database(fsync=False), {"durability": "FAIL"}),
    (database(synchronous="FIRST 1 (b)", standbys={"b:5432": 0}), {}),
    (database(synchronous="FIRST 1 (b)", standbys={"b:5432": "timeout expired"}), {"durability": "WARN"}),
    (database(standbys={"b:5432": 0}), {"durability": "WARN"}),
    ({"key_ids": "damaged"}, {"keys": "FAIL"}),
    (database(last_rotation=(NOW, "later")) | {"newest_key_at": NOW - timedelta(seconds=1)}, {"keys": "FAIL"}),
    (database(last_rotation=(NOW, "next")) | {"newest_key_at": NOW - timedelta(seconds=1)}, {"keys": "FAIL"}),
    (database(last_rotation=(NOW, "current")) | {"newest_key_at": NOW - timedelta(seconds=1)}, {}),  # as v1.0.0 does
    (database(last_rotation=(NOW, "later")) | {"newest_key_at": NOW}, {}),
    (database(files=None), {"files": "WARN", "file-digests": "WARN"}),
    (database(altered_files=("core.age",)), {"file-digests": "FAIL"}),
    (database(compared_files=1), {}),
    (database(lost_files=("core.age",)), {"files": "FAIL"}),
    ({"unwritable_folder": "/files"}, {"files": "FAIL"}),
    (database(operators=None), {"console": "WARN"}),
    (database(operators={"alice": True, "bob": True}), {}),
    (database(operators={"alice": True, "bob": False}), {"console": "WARN"}),
    (database(without_ceilings=None), {"ceilings": "WARN"}),
    (database(expiring_tokens=None), {"tokens": "WARN"}),
    (database(second_factors=None), {"second-factors": "WARN"}),
    (database(second_factors={"alice": True}), {}),
    (database(second_factors={"alice": True, "bob": None}), {"second-factors": "WARN"}),
    (database(second_factors={"alice": None, "bob": False}), {"second-factors": "FAIL"}),
    (database(without_ceilings=("console:alice",)), {"ceilings": "WARN"}),
    (database(expiring_tokens=("taobao 2026-12-01",)), {"tokens": "WARN"}),
    ({"functions": None}, {"functions": "WARN"}),
    ({"broken": ("prices.py",)}, {"functions": "FAIL"}),
    ({"data_key": (True, True)}, {}),
    ({"data_key": (True, False)}, {"data-key": "WARN"}),
    ({"data_key": (False,)}, {}),
    ({"data_key": (False,), "data_key_length": 8}, {"data-key": "FAIL"}),
    ({"data_key_in_use": False}, {"data-key-in-use": "FAIL"}),
    ({"data_key_in_use": None}, {"data-key-in-use": "WARN"}),
    ({"data_key_in_use": "data-key.json cannot be read"}, {"data-key-in-use": "FAIL"}),
    ({"clock_synchronised": False}, {"clock": "WARN"}),
    ({"clock_synchronised": None}, {"clock": "WARN"}),
    (database(clock_offset_seconds=-31.0), {"clock": "FAIL"}),
    (database(clock_offset_seconds=4.0), {"clock": "WARN"}),
    ({"behind_proxy": False}, {"proxy": "FAIL"}),
]
