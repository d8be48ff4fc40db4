"""The hosts of a database, in the order in which a connection tries them."""

from psycopg2.extensions import parse_dsn

_PORT = 5432
Host = tuple[str, int]


class Hosts:
    """The hosts that a URL names: the one that answered last comes first, since each before it may be silent.

    A URL that gives their addresses apart (`hostaddr`) keeps its order.
    """

    def __init__(self, url: str) -> None:
        dsn = parse_dsn(url)
        names = [] if "hostaddr" in dsn else dsn.get("host", "").split(",")
        ports = [int(port or _PORT) for port in dsn.get("port", "").split(",")]
        self._hosts: list[Host] = list(zip(names, ports * len(names) if len(ports) == 1 else ports, strict=False))

    def all(self) -> list[Host]:
        """Return them in their order."""
        return self._hosts

    def begin_with(self, host: Host) -> None:
        """Try this host first, then those that follow it."""
        if host in self._hosts:
            at = self._hosts.index(host)
            self._hosts = self._hosts[at:] + self._hosts[:at]

    def begin_with_next(self) -> None:
        """Try the first one last: libpq stays with a host that hangs up, as a proxy does whose server is gone."""
        self._hosts = self._hosts[1:] + self._hosts[:1]

    def parameters(self) -> dict[str, str]:
        """Return libpq's parameters `host` and `port`, where there are several hosts."""
        if len(self._hosts) < 2:  # noqa: PLR2004
            return {}
        return {
            "host": ",".join(name for name, _ in self._hosts),
            "port": ",".join(str(port) for _, port in self._hosts),
        }
