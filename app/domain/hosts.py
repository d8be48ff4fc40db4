"""The machines that serve one database: their names, and where they differ.

Hosts are rows of the table `host`, with `unseen_seconds`: how long ago they reported. None is what a host did not know.
"""

import re
from collections.abc import Iterable
from typing import Any

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
"""What all machines should have alike, by the column of the table `host`."""


def checked_name(name: str) -> str:
    """Return a host's name, or raise ValueError."""
    if len(name) > _MAX_LENGTH or not _NAME.fullmatch(name):
        raise ValueError(f"a host's name has 1 to {_MAX_LENGTH} of A-Z, a-z, 0-9, dot, dash and underscore")
    return name


def default_name(machine: str) -> str:
    """Return a host's name for a machine's name, which may be anything."""
    name = re.sub("[^A-Za-z0-9._-]", "-", machine)[:_MAX_LENGTH].strip("._-")
    return name or "unnamed"


def is_present(host: Any) -> bool:  # noqa: ANN401  # a row of the table
    """Return whether a host has reported of late."""
    return bool(host.unseen_seconds <= PRESENT_SECONDS)


def differences(hosts: Iterable[Any]) -> set[str]:
    """Return the attributes of `COMPARED` in which hosts that are present differ; what one does not know is alike."""
    present = [host for host in hosts if is_present(host)]
    values = {name: {getattr(host, name) for host in present} - {None} for name in COMPARED}
    offsets = values.pop("clock_offset_ms")
    found = {name for name, different in values.items() if len(different) > 1}
    if max(offsets, default=0) - min(offsets, default=0) > CLOCKS_APART_MS:
        found.add("clock_offset_ms")
    return found


def faults(hosts: Iterable[Any]) -> list[Text]:
    """Return in words in what the hosts differ, and which are away."""
    listed = list(hosts)
    different = differences(listed)
    found = [Text(f"{text.zh}不一致", f"different {text.en}") for name, text in COMPARED.items() if name in different]
    if away := ", ".join(host.name for host in listed if not is_present(host)):
        remedy = "cardctl hosts --forget NAME"
        found.append(Text(f"离线：{away}（若已撤下：{remedy}）", f"away: {away} (if taken away: {remedy})"))
    return found
