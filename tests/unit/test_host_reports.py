"""The machines that serve one database, what may not differ, and the order in which its hosts are tried."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.domain.hosts import HostReport, application_name, checked_name, default_name, faults, of_one_name
from app.storage.hosts import Host, Hosts, is_proven
from tests.support.tables import for_each

SEEN = datetime(2026, 11, 28, 9, tzinfo=UTC)
KID, OTHER_KID = "A" * 43, "B" * 43


def host(name: str, **changes: Any) -> HostReport:
    facts = {"version": "1.10.0", "schema": "0021_hosts", "kid": KID, "functions_sha256": "c" * 64}
    return HostReport(name, **facts | {"clock_offset_ms": 0, "seen_at": SEEN, "unseen_seconds": 9.0} | changes)


def found(*hosts: HostReport) -> list[str]:
    return [text.en for text in faults(hosts)]


@for_each("name", ["", "-a", "a.", "a b", "卡盾", "x" * 58, "a\n", "a@b", "a'b"])
def test_names_of_hosts(name: str) -> None:
    for right in ("a", "web-1.example.com", "A_b", "x" * 57):
        assert checked_name(right) == right
        assert len(application_name(right)) <= 63  # where PostgreSQL cuts it
    assert (application_name(None), application_name("a")) == ("kadun", "kadun@a")
    with pytest.raises(ValueError, match="1 to 57 of A-Z"):
        checked_name(name)


@for_each(
    ("machine", "name"),
    [
        *(("web-1", "web-1"), ("X-WEB", "X-WEB"), ("卡盾 1.local", "1.local"), ("", "unnamed"), ("..", "unnamed")),
        (f"{'x' * 56}.y", "x" * 56),
    ],
)
def test_any_machine_has_a_name(machine: str, name: str) -> None:
    assert checked_name(default_name(machine)) == name


@for_each("hosts", [[], [host("a")], [host("a"), host("b", clock_offset_ms=2_000)]])
def test_one_host_and_like_hosts_are_right(hosts: list[HostReport]) -> None:
    assert faults(hosts) == []


@for_each(
    ("changes", "words"),
    [
        ({"kid": OTHER_KID}, f"signing keys differ (a, c: {KID[:12]}; b: {OTHER_KID[:12]})"),
        ({"functions_sha256": "d" * 64}, f"core functions differ (a, c: {'c' * 12}; b: {'d' * 12})"),
        ({"version": "1.9.3"}, "an older program version (b 1.9.3 0021_hosts)"),
        ({"schema": "0020_other"}, "an older program version (b 1.10.0 0020_other)"),
        ({"version": "1.11.0"}, "an older program version (a 1.10.0 0021_hosts, c 1.10.0 0021_hosts)"),
        ({"clock_offset_ms": -2_001}, "clocks are 2.0 s apart (b, c)"),
        (
            {"unseen_seconds": 61.0},
            "away: b (2026-11-28 09:00 UTC) (if it was taken away: cardctl hosts --forget NAME)",
        ),
    ],
)
def test_a_host_that_differs_is_named(changes: dict[str, Any], words: str) -> None:
    assert found(host("a"), host("b", **changes), host("c")) == [words]


def test_what_a_host_does_not_know_and_one_that_is_away_are_no_difference() -> None:
    for unknown in ({"kid": None}, {"functions_sha256": None}):
        assert found(host("a"), host("b", **unknown)) == []
    gone = host("b", unseen_seconds=3_600.0, kid=OTHER_KID, version="1.0", clock_offset_ms=90_000)
    assert [words.split(":")[0] for words in found(host("a"), gone)] == ["away"]
    (text,) = faults([host("a"), host("b", kid=OTHER_KID)])
    assert OTHER_KID[:12] in text.zh


@for_each(
    ("sessions", "expected"),
    [
        ([], {}),
        ([("web-1", "10.0.0.4"), ("web-2", "10.0.0.5")], {}),
        ([("web-1", "10.0.0.4"), ("web-1", "10.0.0.4")], {}),
        ([("web-1", "10.0.0.4"), ("web-1", "fd00::4")], {}),
        ([("web-1", "fd00::4"), ("web-1", "fd00::5")], {}),
        ([("web-1", "fd00::4"), ("web-1", "fd00:0:0:1::4")], {"web-1": ["fd00:0:0:1::4", "fd00::4"]}),
        ([("web-1", "10.0.0.5"), ("web-2", "10.0.0.6"), ("web-1", "10.0.0.4")], {"web-1": ["10.0.0.4", "10.0.0.5"]}),
    ],
)
def test_machines_of_one_name_are_told_by_their_addresses(
    sessions: list[tuple[str, str]], expected: dict[str, list[str]]
) -> None:
    assert of_one_name(sessions) == expected
    said = [text.en for text in faults([host("web-1")], sessions)]
    assert said == [
        f"several hosts have one name ({name}: {', '.join(addresses)}): give each its own KADUN_HOST in .env"
        for name, addresses in expected.items()
    ]


A, B, C = Host("a", 5432), Host("b", 5433), Host("c", 5434)


@for_each(
    ("url", "hosts"),
    [
        ("postgresql://u@a:5432,b:5433,c:5434/d", [A, B, C]),
        ("postgresql://u@a,b/d", [A, Host("b", 5432)]),
        ("postgresql://u@a,b:5433/d", [A, B]),
        ("postgresql://u@[::1]:5433/d", [Host("::1", 5433)]),
        ("postgresql://u@/d?host=/run/postgresql", [Host("/run/postgresql", 5432)]),
        ("postgresql://u@/d?host=a,b&port=5433", [Host("a", 5433), B]),
        ("postgresql://u@/d", []),
        ("postgresql://u@a,b/d?hostaddr=10.0.0.1,10.0.0.2", []),
    ],
)
def test_they_are_those_of_the_url(url: str, hosts: list[Host]) -> None:
    assert Hosts(url).all() == hosts


def test_the_one_that_answered_comes_first_and_the_slowest_to_fail_last() -> None:
    hosts = Hosts("postgresql://u@a:5432,b:5433,c:5434/d")
    hosts.failed(A, 3.0)
    hosts.failed(B, 0.1)
    assert hosts.all() == [C, B, A]
    hosts.answered(A)
    assert hosts.all() == [A, C, B]
    hosts = Hosts("postgresql://u@a:5432/d")
    hosts.failed(B, 1.0)
    hosts.answered(C)
    assert hosts.all() == [A], "others than those of the URL are not taken up"


@for_each(
    ("host", "has_tls", "parameters", "expected"),
    [
        ("10.0.0.5", True, {"sslmode": "require", "channel_binding": "require"}, True),
        ("10.0.0.5", True, {"sslmode": "verify-full", "channel_binding": "prefer"}, True),
        ("10.0.0.5", True, {"sslmode": "verify-ca", "channel_binding": "prefer"}, True),
        ("10.0.0.5", True, {"sslmode": "require", "channel_binding": "prefer"}, False),
        ("db.example.com", True, {}, False),
        ("db.example.com", False, {"sslmode": "prefer", "channel_binding": "require"}, False),
        ("2001:db8::1", False, {}, False),
        ("127.0.0.1", False, {}, True),
        ("::1", False, {}, True),
        ("localhost", False, {}, True),
        ("database", False, {}, True),
        ("/run/postgresql", False, {}, True),
    ],
)
def test_tls_alone_does_not_show_who_answers(
    host: str, parameters: dict[str, str], *, has_tls: bool, expected: bool
) -> None:
    assert is_proven(host, has_tls=has_tls, parameters=parameters) is expected
