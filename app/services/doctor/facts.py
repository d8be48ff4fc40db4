"""The facts that the checks need: the host's, as JSON from scripts/lib/hostfacts.py, and the service's own."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from app.domain.hosts import HostJob, HostReport
from app.domain.texts import Text
from app.services.doctor.results import NotCheckedError
from app.storage.catalog import CatalogDifference

TOKEN_EXPIRES_SOON = timedelta(days=30)


class Container(msgspec.Struct, forbid_unknown_fields=True):
    """A container of this project, from `docker inspect`."""

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
    config_hash: str | None


class ProxyProbe(msgspec.Struct, forbid_unknown_fields=True):
    """A request that the host sent through nginx: to where, from which address of its own, and the answer."""

    host: str
    address: str
    status: int
    answer: str

    @property
    def is_by_name(self) -> bool:
        """Whether it went the way of customers' requests: to the public name."""
        return re.fullmatch(r"[0-9.]+|.*:.*", self.host) is None

    @property
    def reference(self) -> str | None:
        """The reference of the verdict in the answer, by which the journal knows it."""
        try:
            payload = json.loads(self.answer)["token"].split(".")[1]
            return str(json.loads(base64.urlsafe_b64decode(payload + "=="))["jti"][-8:])
        except (ValueError, LookupError, TypeError, AttributeError):
            return None


class Disk(msgspec.Struct, forbid_unknown_fields=True):
    """The file system of a folder, in numbers of blocks and inodes, from `stat --file-system`."""

    folder: str
    block_bytes: int | None = None
    blocks: int = 0
    blocks_free: int = 0
    inodes: int = 0
    inodes_free: int = 0


class HostFacts(msgspec.Struct, forbid_unknown_fields=True):
    """What the host told; None is what it could not see.

    `settings` are those in .env, by name, those that hold a secret without their value; `unreadable_lines` are the
    numbers of its lines that are no settings. `config_hashes` are Compose's digests of what it would run now, by
    service. `other_projects` are the other Compose projects with containers of this checkout, `other_stacks` the ports
    of other projects, `8080/tcp` for example, with the project of each. `program` holds the SHA-256 of each file of
    app/, `inodes` the inode numbers of what the app mounts.

    `tls_handshake` holds the certificates that nginx serves (PEM) and OpenSSL's "Verify return code"; `certificate` and
    `certificate_key` are the files, the latter as its public key. `last_good`, `last_verified` and `last_away` are
    lines that the backup scripts wrote, `backup_bytes` is the size of the last good one, `backup_checksum` "ok",
    "large" where it was not read, else the error. `backup_identity` is "copied", "not copied", "missing" or, where it
    does not decrypt the last good backup, "other".
    `installed` is when .env was written, in Unix time. `cron_table` is the cron file, `cron_mode` its mode and owner,
    `cron_expected` what install-cron.sh would write with the options that the file shows. `connection_limits` is the
    table of nftables that provision.sh makes, "missing" without it.
    """

    now: datetime
    settings: dict[str, str | None]
    unreadable_lines: list[int]
    containers: list[Container]
    images: dict[str, str | None]
    config_hashes: dict[str, str]
    other_projects: list[str]
    other_stacks: dict[str, str]
    program: dict[str, str]
    tls_handshake: str | None
    certificate: str | None
    certificate_key: str | None
    trust_store: bool
    proxy: list[ProxyProbe]
    disks: dict[str, Disk]
    last_good: str | None
    last_verified: str | None
    last_away: str | None
    backup_bytes: int | None
    backup_checksum: str | None
    backup_hooks: int
    backup_identity: str | None
    installed: int | None
    cron_table: str | None
    cron_expected: str | None
    cron_mode: str | None
    cron_runs: bool | None
    sockets: str | None
    ssh_ports: str | None
    bridges: list[str]
    ufw: str | None
    ipv6_unfiltered: bool
    connection_limits: str | None
    permissions: str | None
    inodes: dict[str, int]
    secrets_in_env: str | None
    moved_to: str | None

    def setting(self, name: str) -> str:
        """Return what .env says, an empty text where it says nothing."""
        return self.settings.get(name) or ""

    def container(self, service: str) -> Container | None:
        """Return a service's container."""
        return next((c for c in self.containers if c.service == service and c.oneoff != "True"), None)

    def runs(self, service: str) -> bool:
        """Tell whether a service's container runs, healthy or not."""
        container = self.container(service)
        return container is not None and container.state == "running"


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What the database told.

    `roles` are the database's roles with what they may do and should not, in the words of PostgreSQL; `missing_rights`
    says what they need and may not do. `schema_found` is None in an empty database, or where the role may not look;
    `catalog` unless the schema is this program's. `recorded` is the address in the journal by a verdict's reference.
    `files` counts the licensed files;
    `lost_files` are the names of those whose bytes are missing, None where the bucket cannot be asked; `altered_files`
    of those with other bytes among the `compared_files`, which is None where no bytes were read. `operators` says of
    each by name whether a log-in needs a one-time code; `without_ceilings` are the actors that lack one,
    `expiring_tokens` the shops' tokens that expire soon, or have expired, each with the day. `sealed` says of
    each sealed secret whether it opens, None of one that is not sealed. `fsync` is PostgreSQL's setting,
    `synchronous` its `synchronous_standby_names`; `standbys` says of each other host of the URL how many bytes it is
    behind, or why that is not known. `unproven_host` is the database's host if somebody between could pose as it.
    `hosts` are the machines that have reported themselves, `sessions` their names with the addresses of their sessions,
    and `jobs` says which of them made the last backup and verified one. `last_rotation` is when the signing keys were
    rotated last and the key that became current. None and empty where this program does not know the schema or may not
    read it.
    """

    schema_found: str | None
    clock_offset_seconds: float
    roles: Mapping[str, Sequence[str]]
    missing_rights: Mapping[str, Sequence[str]] = field(default_factory=dict)
    catalog: CatalogDifference | None = None
    recorded: dict[str, str | None] = field(default_factory=dict)
    files: int | None = None
    lost_files: tuple[str, ...] | None = ()
    altered_files: tuple[str, ...] = ()
    compared_files: int | None = None
    operators: dict[str, bool] | None = None
    without_ceilings: tuple[str, ...] | None = None
    expiring_tokens: tuple[str, ...] | None = None
    sealed: Mapping[str, bool | None] | None = None
    fsync: bool = True
    synchronous: str = ""
    standbys: Mapping[str, int | str] = field(default_factory=dict)
    unproven_host: str | None = None
    hosts: tuple[HostReport, ...] | None = None
    sessions: tuple[tuple[str, str], ...] = ()
    jobs: Mapping[str, HostJob] = field(default_factory=dict)
    last_rotation: tuple[datetime, str | None] | None = None


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What is seen where the service runs; a text in place of a fact is the error that kept us from it.

    `key_ids` are the signing keys, the current and the next one last. `key_modes` are the permission bits of the key
    folder and the key ring by path, where they exist. `data_key` says of each line of KERNAL_DATA_KEY whether it is an
    age identity; `data_key_in_use` whether any of them is one that was marked before, None where none was. `functions`
    counts the loaded ones, None where their service does not answer; `broken` are the modules that could not be loaded.
    `unwritable_folder` is the folder of licensed files where it exists and the service cannot write to it; `bucket`
    tells whether one is set and works. `program` is the SHA-256 of each of the program's files, `inodes` are the
    inode numbers of what is mounted, by their paths in the checkout. `keys_moved_to` is the other store to which the
    signing keys were moved while the setting still chooses this one, `newest_key_at` the time of the newest one here.
    """

    settings_error: str | None
    behind_proxy: bool
    schema_expected: str
    database: DatabaseFacts | str
    key_ids: tuple[str, ...] | str
    data_key: tuple[bool, ...]
    data_key_length: int
    data_key_in_use: bool | str | None
    key_modes: Mapping[str, int]
    clock_synchronised: bool | None
    unwritable_folder: str | None = None
    bucket: Text | bool = False
    functions: int | None = 0
    broken: tuple[str, ...] = ()
    program: dict[str, str] = field(default_factory=dict)
    inodes: dict[str, int] = field(default_factory=dict)
    keys_moved_to: str | None = None
    newest_key_at: datetime | None = None


class NotGatheredError(Exception):
    """A check needs facts that nobody gathered: those of the host in the trial, or those of a service that is down."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was gathered."""

    host_if_any: HostFacts | None = None
    service_if_any: ServiceFacts | None = None

    @property
    def host(self) -> HostFacts:
        """The facts of the host; raises NotGatheredError without them."""
        if self.host_if_any is None:
            raise NotGatheredError
        return self.host_if_any

    @property
    def service(self) -> ServiceFacts:
        """The facts of the service; raises NotGatheredError without them."""
        if self.service_if_any is None:
            raise NotGatheredError
        return self.service_if_any

    @property
    def database(self) -> DatabaseFacts:
        """The facts of the database; raises NotCheckedError when it is unavailable."""
        found = self.service.database
        if isinstance(found, str):
            raise NotCheckedError("数据库不可用", "the database is unavailable")
        return found
