"""The machines that serve one database: their names, and where they differ. No I/O."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from app.domain.texts import Text

PRESENT_SECONDS = 60
"""A host that has not reported for longer is away."""
CLOCKS_APART_MS = 2_000
_MAX_LENGTH = 57
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
COMPARED = {
    "version": Text("程序版本", "version"),
    "schema": Text("数据库结构", "schema"),
    "kid": Text("签名密钥", "signing keys"),
    "functions_sha256": Text("核心功能", "core functions"),
    "clock_offset_ms": Text("时钟", "time"),
}
"""What all machines should have alike, by the attribute of `HostReport`."""


def checked_name(name: str) -> str:
    """Return a host's name, or raise ValueError."""
    if len(name) > _MAX_LENGTH or not _NAME.fullmatch(name):
        raise ValueError(f"a host's name has 1 to {_MAX_LENGTH} of A-Z, a-z, 0-9, dot, dash and underscore")
    return name


def default_name(machine: str) -> str:
    """Return a host's name for a machine's name, which may be anything."""
    name = re.sub("[^A-Za-z0-9._-]", "-", machine)[:_MAX_LENGTH].strip("._-")
    return name or "unnamed"


@dataclass(frozen=True, slots=True)
class HostReport:
    """What a host says of itself; None is what it could not find out.

    `clock_offset_ms` is how far its clock is ahead of the database's, by which it was last seen at `seen_at`.
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


def differences(hosts: Iterable[HostReport]) -> set[str]:
    """Return the attributes of `COMPARED` in which hosts that are present differ; what one does not know is alike."""
    present = [host for host in hosts if host.is_present]
    values = {name: {getattr(host, name) for host in present} - {None} for name in COMPARED}
    offsets = values.pop("clock_offset_ms")
    found = {name for name, different in values.items() if len(different) > 1}
    if max(offsets, default=0) - min(offsets, default=0) > CLOCKS_APART_MS:
        found.add("clock_offset_ms")
    return found


def faults(hosts: Iterable[HostReport]) -> list[Text]:
    """Return in words in what the hosts differ, and which are away."""
    listed = list(hosts)
    different = differences(listed)
    found = [Text(f"{text.zh}不一致", f"different {text.en}") for name, text in COMPARED.items() if name in different]
    if away := ", ".join(host.name for host in listed if not host.is_present):
        remedy = "cardctl hosts --forget NAME"
        found.append(Text(f"离线：{away}（若已撤下：{remedy}）", f"away: {away} (if taken away: {remedy})"))
    return found
