"""The hosts of a database, in the order in which a connection tries them."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple

from psycopg2.extensions import parse_dsn

_PORT = 5432
ANSWERED = -1.0
"""The seconds of the host that accepts writes."""
_HERE = ("localhost", "database")  # the database's container, whose network reaches no further than this machine


class DatabaseHost(NamedTuple):
    """A name or address, and a port."""

    host: str
    port: int


class Hosts:
    """The hosts that a URL names: the one that answered last comes first, and those that took long to fail come last.

    A URL that names none, or gives their addresses apart (`hostaddr`), is left to libpq.
    """

    def __init__(self, url: str) -> None:
        dsn = parse_dsn(url)
        names = dsn["host"].split(",") if "host" in dsn and "hostaddr" not in dsn else []
        ports = [int(port or _PORT) for port in dsn.get("port", "").split(",")]
        pairs = zip(names, ports * len(names) if len(ports) == 1 else ports, strict=False)
        self._seconds = {DatabaseHost(name, port): 0.0 for name, port in pairs}

    def all(self) -> list[DatabaseHost]:
        """Return them in their order."""
        return sorted(self._seconds, key=self._seconds.__getitem__)

    def note(self, host: DatabaseHost, seconds: float) -> None:
        """Note how long a host took to fail, or that it `ANSWERED`."""
        if host in self._seconds:
            self._seconds[host] = seconds


def is_proven(host: str, *, has_tls: bool, parameters: Mapping[str, str]) -> bool:
    """Return whether nobody between can pose as the database server.

    TLS alone encrypts to whoever answers. The certificate shows who that is, or the password by channel binding
    (RFC 5802). The parameters are libpq's; the host may be the folder of a socket.
    """
    if host.startswith("/") or host in _HERE or _is_loopback(host):
        return True
    checks_name = parameters.get("sslmode") in ("verify-ca", "verify-full")
    return has_tls and (checks_name or parameters.get("channel_binding") == "require")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
