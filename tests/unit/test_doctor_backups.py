"""What `cardctl doctor` says of backups that another host made."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.domain.hosts import HostJob
from app.services.doctor import Status
from tests.support.doctor_changes import checked, database, differing, setting
from tests.support.doctor_facts import HOST, NOW, SERVICE

NEVER = {"last_good": None, "last_verified": None, "last_away": None} | setting("KADUN_HOST", "web-1")
NEVER_FAULTS = {"backup": "FAIL", "backup-checksum": "WARN", "backup-away": "WARN", "backup-proof": "WARN"}
LONG_AGO = {name: f"2026-11-01T03:30:00Z {HOST[name].partition(' ')[2]}" for name in ("last_good", "last_verified")}


@pytest.mark.parametrize(
    ("host", "jobs", "expected"),
    [
        (NEVER, {"backup": ("web-2", 25), "verify": ("web-2", 7 * 24)}, {}),
        (LONG_AGO, {"backup": ("web-2", 25), "verify": ("web-2", 7 * 24)}, {}),
        (NEVER, {"verify": ("web-2", 1)}, NEVER_FAULTS | {"backup-proof": "OK"}),
        (NEVER, {"backup": ("web-2", 27), "verify": ("web-2", 9 * 24)}, NEVER_FAULTS),
        (NEVER, {"backup": ("web-2", -1), "verify": ("web-2", -1)}, NEVER_FAULTS),
        (NEVER, {"backup": ("web-1", 1), "verify": ("web-1", 1)}, NEVER_FAULTS),
        (NEVER | setting("KADUN_HOST", None), {"backup": ("unnamed", 1), "verify": ("unnamed", 1)}, NEVER_FAULTS),
        ({"backup_bytes": None}, {"backup": ("web-2", 1)}, {"backup": "FAIL", "backup-checksum": "WARN"}),
    ],
)
def test_the_backups_of_another_host_count(
    host: dict[str, Any], jobs: dict[str, tuple[str, int]], expected: dict[str, str]
) -> None:
    done = {job: HostJob(name, NOW - timedelta(hours=hours)) for job, (name, hours) in jobs.items()}
    results = checked(replace(SERVICE, **database(jobs=done)), **host)
    assert differing(results) == {check: status for check, status in expected.items() if status != "OK"}


def test_without_the_database_a_host_has_its_own_backups_only() -> None:
    results = checked(replace(SERVICE, database="connection refused"), **NEVER)
    assert results["backup"].status is Status.FAIL
