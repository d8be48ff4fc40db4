"""The order in which the hosts of a database are tried."""

from app.storage.hosts import Host, Hosts, is_proven
from tests.support.tables import for_each

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
