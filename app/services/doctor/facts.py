"""The facts that the checks need: the host's, as JSON from scripts/lib/hostfacts.py, and the service's own."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from app.domain.hosts import HostReport
from app.domain.texts import Text
from app.services.doctor.results import NotCheckedError


class Container(msgspec.Struct, forbid_unknown_fields=True):
    """A container of this project, from `docker inspect`."""

    service: str
    state: str
    health: str | None
    exit_code: int
    out_of_memory: bool
    restarts: int
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
    """The file system of a folder: bytes and inodes in all, and those that are free."""

    folder: str
    size: int
    free: int
    inodes: int
    inodes_free: int


class HostFacts(msgspec.Struct, forbid_unknown_fields=True):
    """What the host told; None is what it could not see.

    Attributes:
        now: The host's time.
        settings: Those in .env by name; only those that a check reads have their value.
        unreadable_lines: The numbers of the lines of .env that are no settings.
        moved_to: When and where to the service was moved.
        installed: When .env was written, in Unix time.
        containers: Those of this project, without those that `docker compose run` made.
        config_hashes: Compose's digests of what it would run now, by service.
        tls_handshake: The certificates that nginx serves (PEM), and OpenSSL's "Verify return code".
        trust_store: Whether this machine has ca-certificates.
        proxy: The requests that the host sent through nginx.
        disks: A folder on each disk that holds data or backups.
        modes: The permission bits of what only its owner should read, by path.
        last_good: A line that backup.sh wrote: the time and the name of the last backup.
        last_verified: The same of verify-backup.sh.
        last_away: The same of the last backup that all hooks copied elsewhere.
        has_backup: Whether the file of the last backup is there.
        has_hooks: Whether there are hooks that copy backups elsewhere.
        backup_identity: `copied`, `not copied` or `missing`.
        cron: Whether the cron file calls this checkout's backup.sh; `missing` without a cron file.
    """

    now: datetime
    settings: dict[str, str | None]
    unreadable_lines: list[int]
    moved_to: str | None
    installed: int | None
    containers: list[Container]
    config_hashes: dict[str, str]
    tls_handshake: str | None
    trust_store: bool
    proxy: list[ProxyProbe]
    disks: list[Disk]
    modes: dict[str, int]
    last_good: str | None
    last_verified: str | None
    last_away: str | None
    has_backup: bool
    has_hooks: bool
    backup_identity: str | None
    cron: str | None

    def setting(self, name: str) -> str:
        """Return what .env says, an empty text where it says nothing."""
        return self.settings.get(name) or ""

    def container(self, service: str) -> Container | None:
        """Return a service's container."""
        return next((c for c in self.containers if c.service == service), None)

    def serves(self, service: str) -> bool:
        """Tell whether a service's container runs and is healthy."""
        container = self.container(service)
        return container is not None and (container.state, container.health) == ("running", "healthy")


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """What the database told; None is what it did not: its schema is another one, or a right is missing.

    Attributes:
        schema_found: The last migration; None in an empty database, or where the role may not look.
        clock_offset_seconds: How far the database's clock is ahead of ours.
        unproven_host: The database's host, if somebody between could pose as it.
        fsync: PostgreSQL's setting.
        synchronous: PostgreSQL's `synchronous_standby_names`.
        standbys: Of each other host of the URL how many bytes it is behind, or why that is not known.
        recorded: The addresses in the journal by the references of the host's probes.
        files: How many licensed files there are.
        lost_files: Those whose bytes are missing; None where the bucket cannot be asked.
        operators: Of each by name whether a log-in needs a one-time code.
        sealed: Of each sealed secret whether it opens; None of one that is not sealed.
        hosts: The machines that have reported themselves.
        last_rotation: When the signing keys were rotated last, and the key that became current.
    """

    schema_found: str | None
    clock_offset_seconds: float
    unproven_host: str | None = None
    fsync: bool = True
    synchronous: str = ""
    standbys: Mapping[str, int | str] = field(default_factory=dict)
    recorded: Mapping[str, str | None] = field(default_factory=dict)
    files: int | None = None
    lost_files: tuple[str, ...] | None = ()
    operators: Mapping[str, bool] | None = None
    sealed: Mapping[str, bool | None] | None = None
    hosts: tuple[HostReport, ...] | None = None
    last_rotation: tuple[datetime, str | None] | None = None


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What is seen where the service runs; a text in place of a fact is the error that kept us from it.

    Attributes:
        settings_error: What is wrong with the settings.
        behind_proxy: The setting.
        schema_expected: The program's last migration.
        database: What the database told.
        key_ids: The signing keys; the current one is the last but one, the next one the last.
        key_modes: The permission bits of the key folder and the key ring by path.
        keys_moved_to: The other store to which the signing keys were moved while the setting still names this one.
        newest_key_at: When the newest key was made.
        data_key: Of each line of KERNAL_DATA_KEY whether it is an age identity.
        data_key_length: How many characters KERNAL_DATA_KEY has.
        data_key_in_use: Whether a line is a key that was marked before; None where none was marked.
        clock_synchronised: What the kernel says; None where it does not tell.
        unwritable_folder: The folder of licensed files, where it exists and the service cannot write to it.
        bucket: Whether one is set and works, or what is wrong with it.
        functions: How many were loaded; None where their service does not answer.
        broken: The modules of functions that could not be loaded.
    """

    settings_error: str | None
    behind_proxy: bool
    schema_expected: str
    database: DatabaseFacts | str
    key_ids: tuple[str, ...] | str
    key_modes: Mapping[str, int]
    keys_moved_to: str | None
    newest_key_at: datetime | None
    data_key: tuple[bool, ...]
    data_key_length: int
    data_key_in_use: bool | str | None
    clock_synchronised: bool | None
    unwritable_folder: str | None = None
    bucket: Text | bool = False
    functions: int | None = 0
    broken: tuple[str, ...] = ()


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
