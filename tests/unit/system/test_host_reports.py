"""The machines that serve one database, what may not differ, and the order in which its hosts are tried."""

from datetime import UTC, datetime
from typing import Any

from app.domain.system.hosts import checked_name, default_name, differences, faults
from app.storage import models
from app.storage.hosts import ANSWERED, DatabaseHost, Hosts, is_proven

SEEN = datetime(2026, 11, 28, 9, tzinfo=UTC)
KID, OTHER_KID = "A" * 43, "B" * 43


def host(name: str, **changes: Any) -> models.Host:
    facts = {"version": "1.10.0", "schema": "0005_release_1_1", "kid": KID, "functions_sha256": "c" * 64}
    return models.Host(name=name, **facts | {"clock_offset_ms": 0, "seen_at": SEEN, "unseen_seconds": 9.0} | changes)


def test_any_machine_has_a_name() -> None:
    names = {"web-1": "web-1", "X-WEB": "X-WEB", "卡盾 1.local": "1.local", "": "unnamed", "..": "unnamed"}
    for machine, name in (names | {f"{'x' * 56}.y": "x" * 56}).items():
        assert checked_name(default_name(machine)) == name, (machine, name)


def test_what_differs_is_named() -> None:
    for changes, column, words in (
        ({"kid": OTHER_KID}, "kid", "different signing keys"),
        ({"functions_sha256": "d" * 64}, "functions_sha256", "different core functions"),
        ({"version": "1.9.3"}, "version", "different version"),
        ({"schema": "0020_other"}, "schema", "different schema"),
        ({"clock_offset_ms": 2_000}, None, ""),
        ({"clock_offset_ms": -2_001}, "clock_offset_ms", "different time"),
        ({"unseen_seconds": 61.0}, None, "away: b (if taken away: cardctl hosts --forget NAME)"),
    ):
        hosts = [host("a"), host("b", **changes), host("c")]
        assert differences(hosts) == {column} - {None}, (changes, column)
        assert [text.en for text in faults(hosts)] == ([words] if words else []), (changes, column)
        assert faults(hosts[:1]) == faults([]) == []


def test_what_a_host_does_not_know_and_one_that_is_away_are_no_difference() -> None:
    for unknown in ({"kid": None}, {"functions_sha256": None}):
        assert differences([host("a"), host("b", **unknown)]) == set()
    gone = host("b", unseen_seconds=3_600.0, kid=OTHER_KID, version="1.0", clock_offset_ms=90_000)
    assert differences([host("a"), gone]) == set()


A, B, C = DatabaseHost("a", 5432), DatabaseHost("b", 5433), DatabaseHost("c", 5434)


def test_they_are_those_of_the_url() -> None:
    for url, hosts in (
        ("postgresql://u@a:5432,b:5433,c:5434/d", [A, B, C]),
        ("postgresql://u@a,b/d", [A, DatabaseHost("b", 5432)]),
        ("postgresql://u@[::1]:5433/d", [DatabaseHost("::1", 5433)]),
        ("postgresql://u@/d?host=/run/postgresql", [DatabaseHost("/run/postgresql", 5432)]),
        ("postgresql://u@/d?host=a,b&port=5433", [DatabaseHost("a", 5433), B]),
        ("postgresql://u@/d", []),
        ("postgresql://u@a,b/d?hostaddr=10.0.0.1,10.0.0.2", []),
    ):
        assert Hosts(url).all() == hosts, (url, hosts)


def test_the_one_that_answered_comes_first_and_the_slowest_to_fail_last() -> None:
    hosts = Hosts("postgresql://u@a:5432,b:5433,c:5434/d")
    hosts.note(A, 3.0)
    hosts.note(B, 0.1)
    assert hosts.all() == [C, B, A]
    hosts.note(A, ANSWERED)
    assert hosts.all() == [A, C, B]
    hosts = Hosts("postgresql://u@a:5432/d")
    hosts.note(B, 1.0)
    hosts.note(C, ANSWERED)
    assert hosts.all() == [A], "others than those of the URL are not taken up"


def test_tls_alone_does_not_show_who_answers() -> None:
    for host in ("127.0.0.1", "::1", "localhost", "database", "/run/postgresql"):
        assert is_proven(host, has_tls=False, parameters={}), host
    for mode, binding, has_tls, expected in (
        ("require", "require", True, True),
        ("verify-full", "prefer", True, True),
        ("verify-ca", "prefer", True, True),
        ("require", "prefer", True, False),
        ("prefer", "require", False, False),
    ):
        parameters = {"sslmode": mode, "channel_binding": binding}
        assert is_proven("10.0.0.5", has_tls=has_tls, parameters=parameters) is expected, (mode, binding)
