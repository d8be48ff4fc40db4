"""What the doctor knows. The host's part comes from scripts/lib/hostfacts.sh as JSON, the rest from inside."""

from dataclasses import dataclass, field
from datetime import datetime

import msgspec


class Container(msgspec.Struct, forbid_unknown_fields=True):
    """A container of this project, as the engine describes it."""

    service: str
    oneoff: str
    state: str
    health: str | None
    exit_code: int
    out_of_memory: bool
    started: str
    restarts: int
    image: str
    image_name: str


class Certificate(msgspec.Struct, forbid_unknown_fields=True):
    """The chain as served (PEM), OpenSSL's verdict on it (X509_V_ERR_… as a number), and the files."""

    served: str | None
    verified: str | None
    file: str | None
    key_matches: bool | None
    trust_store: bool


class Ask(msgspec.Struct, forbid_unknown_fields=True):
    """A request through nginx: the address that we had, and the answer."""

    address: str
    status: int
    answer: str | None


class Disk(msgspec.Struct, forbid_unknown_fields=True):
    """A folder's file system, in bytes and inodes; None where there is no such folder."""

    name: str
    folder: str
    size: int | None
    free: int | None
    inodes: int
    inodes_free: int


class Backup(msgspec.Struct, forbid_unknown_fields=True):
    """The newest good backup: its line, the size of its file, None when gone; and when .env was made (Unix time).

    Then the lines of the newest that was proven and of the newest that was carried away, and how many hooks do that.
    """

    last_good: str | None
    size: int | None
    installed: int | None
    last_verified: str | None
    last_away: str | None
    hooks: int


class HostFacts(msgspec.Struct, forbid_unknown_fields=True):
    """What the host told; None is what it could not see."""

    root: bool
    http_port: int
    https_port: int
    domains: str | None
    known_ports: str | None
    containers: list[Container]
    images: dict[str, str | None]
    program: str | None
    certificate: Certificate
    proxy: list[Ask]
    synchronised: str | None
    disks: list[Disk]
    backup: Backup
    sockets: str | None
    ssh_ports: str | None
    bridges: str | None
    ufw: str | None
    ipv6_unfiltered: bool
    permissions: str | None
    secrets_in_env: str | None
    moved_to: str | None = None
    admin_allow: str | None = None


@dataclass(frozen=True, slots=True)
class Role:
    """A database role and what it may do, as `problems` in the words of PostgreSQL."""

    name: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What the database told.

    `recorded` is the address in the journal by a verdict's reference. `files` counts the licensed files; `lost_files`
    are the names of those whose bytes are not there; `operators` says of each by name whether it wants one-time
    codes. None and empty where this program does not know the schema.
    """

    schema_found: str | None
    clock_offset_seconds: float
    roles: tuple[Role, ...]
    recorded: dict[str, str | None] = field(default_factory=dict)
    files: int | None = None
    lost_files: tuple[str, ...] = ()
    operators: dict[str, bool] | None = None


@dataclass(frozen=True, slots=True)
class Mode:
    """A file's permission bits, and what at most they may be."""

    path: str
    mode: int | None
    allowed: int


@dataclass(frozen=True, slots=True)
class InsideFacts:
    """What is seen where the service runs; an error's text stands where the thing itself could not be had.

    `functions` counts the loaded ones, None where nobody answers; `broken` are the modules that could not be loaded.
    `closed_folder` is that of licensed files where it is there and cannot be written.
    """

    settings: str | None
    behind_proxy: bool
    schema_expected: str
    database: DatabaseFacts | str
    key_ids: tuple[str, ...] | str
    data_key: tuple[bool, ...]
    data_key_length: int
    modes: tuple[Mode, ...]
    kernel_synchronised: bool | None
    program: str
    closed_folder: str | None = None
    functions: int | None = 0
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything, at one moment. `host` is None where nobody asked the host: in the trial, or by hand inside."""

    now: datetime
    inside: InsideFacts
    host: HostFacts | None = None
