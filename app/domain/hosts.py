"""The machines that serve one database: their names, and where they differ. No I/O."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from app.domain.addresses import network_of
from app.domain.texts import Text

PRESENT_SECONDS = 60
"""A host that has not reported for longer is away."""
CLOCKS_APART_MS = 2_000
SHOWN = 12
"""So many characters of an ID or a digest tell it from others."""
_MAX_LENGTH = 57
"""PostgreSQL cuts `application_name` after 63 bytes, and `kadun@` takes six."""
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def checked_name(name: str) -> str:
    """Return a host's name.

    Raises:
        ValueError: it is not one.
    """
    if len(name) > _MAX_LENGTH or not _NAME.fullmatch(name):
        raise ValueError(f"a host's name has 1 to {_MAX_LENGTH} of A-Z, a-z, 0-9, dot, dash and underscore")
    return name


def default_name(machine: str) -> str:
    """Return a host's name for a machine's name, which may be anything."""
    name = re.sub("[^A-Za-z0-9._-]", "-", machine)[:_MAX_LENGTH].strip("._-")
    return name or "unnamed"


def application_name(host: str | None) -> str:
    """Return how sessions in the database name the host that holds them."""
    return "kadun" if host is None else f"kadun@{host}"


class HostJob(NamedTuple):
    """Which host did a job of the scripts last, and when."""

    host: str
    done_at: datetime


@dataclass(frozen=True, slots=True)
class HostReport:
    """What a host says of itself; None is what it could not find out.

    Attributes:
        name: Its name, KADUN_HOST.
        version: The program's.
        schema: The program's last migration.
        kid: The ID of the current signing key.
        functions_sha256: The digest of the vendor's modules.
        clock_offset_ms: How far its clock is ahead of the database's.
        seen_at: When it last reported, by the database's clock.
        unseen_seconds: How long ago that is.
    """

    name: str
    version: str
    schema: str
    kid: str | None
    functions_sha256: str | None
    clock_offset_ms: int
    seen_at: datetime
    unseen_seconds: float

    @property
    def is_present(self) -> bool:
        """Whether it has reported of late."""
        return self.unseen_seconds <= PRESENT_SECONDS


def differences(hosts: Iterable[HostReport], value: Callable[[HostReport], str | None]) -> dict[str, list[str]]:
    """Return the names of the hosts that are present by a value of theirs, nothing where all have the same.

    Hosts that do not know the value are left out.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for host in hosts:
        found = value(host)
        if host.is_present and found is not None:
            names[found].append(host.name)
    return dict(names) if len(names) > 1 else {}


def of_one_name(sessions: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the names that several machines have, each with the machines' addresses.

    A machine may reach the database by IPv4 and IPv6, and may have several addresses of one IPv6 /64.

    Args:
        sessions: Of those in the database the host's name and the client's address.
    """
    found: dict[tuple[str, bool], dict[str, str]] = defaultdict(dict)
    for name, address in sorted(sessions):
        found[name, ":" in address].setdefault(network_of(address), address)
    return {name: list(machines.values()) for (name, _), machines in found.items() if len(machines) > 1}


def faults(hosts: Sequence[HostReport], sessions: Iterable[tuple[str, str]] = ()) -> list[Text]:
    """Return in words where hosts differ that should not, which have one name, and which are away.

    Args:
        hosts: All that have reported.
        sessions: As of `of_one_name`.
    """
    found = []
    if listed := "; ".join(f"{name}: {', '.join(addresses)}" for name, addresses in of_one_name(sessions).items()):
        found.append(
            Text(
                f"多台主机同名（{listed}），请在 .env 的 KADUN_HOST 中分别命名",
                f"several hosts have one name ({listed}): give each its own KADUN_HOST in .env",
            )
        )
    found += _differences("签名密钥不一致", "signing keys differ", hosts, lambda host: host.kid)
    found += different_functions(hosts)
    present = [host for host in hosts if host.is_present]
    found += _older_versions(present)
    found += _clocks_apart(present)
    away = ", ".join(f"{host.name} ({host.seen_at:%Y-%m-%d %H:%M} UTC)" for host in hosts if not host.is_present)
    if away:
        remedy = "cardctl hosts --forget NAME"
        found.append(Text(f"离线：{away}（若已撤下：{remedy}）", f"away: {away} (if it was taken away: {remedy})"))
    return found


def different_functions(hosts: Iterable[HostReport]) -> list[Text]:
    """Return in words which hosts have other core functions than the others, nothing where all have the same."""
    return _differences("核心功能不一致", "core functions differ", hosts, lambda host: host.functions_sha256)


def _differences(
    zh: str, en: str, hosts: Iterable[HostReport], value: Callable[[HostReport], str | None]
) -> list[Text]:
    by_value = differences(hosts, value)
    listed = "; ".join(f"{', '.join(names)}: {one[:SHOWN]}" for one, names in by_value.items())
    return [Text(f"{zh}（{listed}）", f"{en} ({listed})")] if listed else []


def _older_versions(present: Sequence[HostReport]) -> list[Text]:
    newest = max(map(_version, present), default=None)
    older = ", ".join(f"{one.name} {one.version} {one.schema}" for one in present if _version(one) != newest)
    return [Text(f"程序版本较旧（{older}）", f"an older program version ({older})")] if older else []


def _version(host: HostReport) -> tuple[tuple[int, ...], str]:
    return tuple(map(int, re.findall(r"\d+", host.version))), host.schema


def _clocks_apart(present: Sequence[HostReport]) -> list[Text]:
    by_clock = sorted(present, key=lambda host: host.clock_offset_ms)
    if not by_clock or by_clock[-1].clock_offset_ms - by_clock[0].clock_offset_ms <= CLOCKS_APART_MS:
        return []
    first, last = by_clock[0], by_clock[-1]
    seconds = f"{(last.clock_offset_ms - first.clock_offset_ms) / 1000:.1f}"
    return [
        Text(
            f"时钟相差 {seconds} 秒（{first.name}、{last.name}）",
            f"clocks are {seconds} s apart ({first.name}, {last.name})",
        )
    ]
