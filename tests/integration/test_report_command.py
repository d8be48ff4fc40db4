"""`cardctl report abuse`."""

from datetime import UTC, datetime, timedelta

import pytest

from app.domain.codes import Code, Counted, EventKind
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from tests.support.service import Service

SHARED, ODD = "S" * 32, "sea\u202et"


@pytest.fixture
def shared(database: Database) -> datetime:
    """A card that changed eight days ago, and since then went through five machines; one machine that tries cards."""
    now = datetime.now(UTC)
    for number, ago in enumerate((192, 4, 3, 2, 1)):
        at = now - timedelta(hours=ago)
        entry = Entry(
            at,
            EventKind.ENVIRONMENT_CHANGED,
            card_id=SHARED,
            ip="198.51.100.1",
            hardware=f"{ODD} {number + 1}",
            details={"before": {"hardware": f"{ODD} {number}", "ip": "198.51.100.1"}},
            counted=Counted.HARDWARE_CHANGED,
        )
        journal.append_counted([entry], at.date())
    for card in "DE":
        journal.append([Entry(now, EventKind.REJECTED, Code.CLIENT_MISMATCH, card * 32, ip="192.0.2.1", hardware=ODD)])
    journal.append([Entry(now, EventKind.SELF_UNBOUND, card_id="F" * 32)] * 2)
    return now


def test_the_report_as_json(offline: Service, shared: datetime) -> None:
    report = offline.cardctl_json("report", "abuse")
    assert set(report) == {"at", "since", "limits", "accepted", "cards", "machines", "networks", "unbindings"}
    at, since = datetime.fromisoformat(report["at"]), datetime.fromisoformat(report["since"])
    assert at - since == timedelta(days=7)
    assert at >= shared
    assert at.utcoffset() == timedelta(hours=8)
    expected = {"machines": 5, "networks": 15, "blocks": 10, "places": 35, "changes": 101}
    assert report["limits"]["last_24_hours"] == expected
    assert report["accepted"]["count"] == 1
    (row,) = report["accepted"]["first"]
    assert (row["card_id"], row["last_24_hours"]["machines"], row["period"]["machines"]) == (SHARED, 5, 5)
    assert [row["card_id"] for row in report["cards"]] == ["D" * 32, "E" * 32]
    assert [(row["hardware"], row["cards"]) for row in report["machines"]] == [(ODD, 2)]
    assert [(row["network"], row["cards"]) for row in report["networks"]] == [("192.0.2.1", 2)]
    assert [(row["card_id"], row["unbindings"]) for row in report["unbindings"]] == [("F" * 32, 2)]


def test_a_longer_period_has_more_changes(offline: Service, shared: datetime) -> None:
    (row,) = offline.cardctl_json("report", "abuse", "--since", "30d")["accepted"]["first"]
    assert (row["last_24_hours"]["changes"], row["period"]["changes"]) == (4, 5)


def test_the_report_as_tables(offline: Service, shared: datetime) -> None:
    printed = offline.cardctl("report", "abuse").stdout
    (row,) = [line for line in printed.splitlines() if SHARED in line]
    assert row.split()[1:4] == ["5", "|", "5"]
    assert "1 张" in printed
    for part in (
        "Accepted, but possibly shared",
        "Rejected: one card from other machines",
        "D" * 32,
        "sea\\u202et",
        "192.0.2.1",
    ):
        assert part in printed


@pytest.mark.parametrize("since", ["23h", "yesterday", "permanent", "0d"])
def test_an_invalid_period_is_refused(offline: Service, since: str) -> None:
    done = offline.cardctl("report", "abuse", "--since", since, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--since" in done.stderr
