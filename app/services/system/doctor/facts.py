"""The facts that the checks need: the host's, as JSON from scripts/lib/hostfacts.py, and the service's own."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from app.domain.texts import Text
from app.services.system.doctor.results import NotCheckedError

Fact = TypeVar("Fact")


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
    """What the host told; None is what it could not see."""

    now: datetime
    settings: dict[str, str | None]  # those in .env by name; only those that a check reads have their value
    unreadable_lines: list[int]  # the numbers of the lines of .env that are no settings
    moved_to: str | None  # when and where to the service was moved
    installed: int | None  # when .env was written, in Unix time
    containers: list[Container]  # those of this project, without those that `docker compose run` made
    config_hashes: dict[str, str]  # Compose's digests of what it would run now, by service
    tls_handshake: str | None  # the certificates that nginx serves (PEM), and OpenSSL's "Verify return code"
    trust_store: bool  # whether this machine has ca-certificates
    proxy: list[ProxyProbe]
    disks: list[Disk]  # each disk that holds the checkout, data or backups
    modes: dict[str, int]  # the permission bits of what only its owner should read, by path
    # Lines that backup.sh wrote: a time and the name of a backup.
    last_good: str | None
    last_verified: str | None
    last_away: str | None  # copied elsewhere by every hook
    has_backup: bool  # whether the file of the last good backup is there
    has_hooks: bool  # whether there are hooks that copy backups elsewhere
    has_identity: bool | None  # secrets/backup_identity; None where that is not visible
    cron: str | None  # whether the cron file calls this checkout's backup.sh: `installed`, `other` or `missing`

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
    """What the database told; None is what it did not, because its schema is another one."""

    schema_found: str | None  # the last migration; None in an empty database, too
    clock_offset_seconds: float  # how far the database's clock is ahead of ours
    unproven_host: str | None = None  # the database's host, if somebody between could pose as it
    fsync: bool = True
    synchronous: str = ""  # PostgreSQL's `synchronous_standby_names`
    hosts_in_url: int = 1
    recorded: Mapping[str, str | None] = field(default_factory=dict)  # addresses by the references of the probes
    files: int | None = None
    lost_files: tuple[str, ...] | None = ()  # those whose bytes are missing; None where the bucket cannot be asked
    operators: Mapping[str, bool] | None = None  # by name, whether a log-in needs a one-time code
    sealed: Mapping[str, bool | None] | None = None  # by name, whether a secret opens; None: it is not sealed
    hosts: tuple[Any, ...] | None = None  # rows of the table `host`
    last_rotation: tuple[datetime, str | None] | None = None  # of the signing keys, and which one became current


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What is seen where the service runs; a text in place of a fact is the error that kept us from it."""

    behind_proxy: bool
    schema_expected: str
    database: DatabaseFacts | str
    key_ids: tuple[str, ...] | str  # of the signing keys: the last but one is the current, the last the next
    key_modes: Mapping[str, int]  # the permission bits of the key folder and the key ring, by path
    keys_moved_to: str | None  # the other store, to which the keys were moved while the setting names this one
    newest_key_at: datetime | None
    data_key: tuple[bool, ...]  # of each line of KERNAL_DATA_KEY whether it is an age identity
    data_key_length: int
    data_key_in_use: bool | str | None  # whether a line is a key that was marked before; None: none was
    clock_synchronised: bool | None  # None: the kernel does not tell
    unwritable_folder: str | None = None  # the folder of licensed files, where the service cannot write to it
    bucket: Text | bool = False  # whether one is set and works, or what is wrong with it
    functions: int | None = 0  # None: their service does not answer
    broken: tuple[str, ...] = ()  # the modules of functions that could not be loaded


class NotGatheredError(Exception):
    """A check needs facts that nobody gathered: those of the host in the trial, or those of a service that is down."""


@dataclass(frozen=True, slots=True)
class AllFacts:
    """Everything that was gathered: nothing of the service where one of its settings is wrong."""

    host_if_any: HostFacts | None = None
    service_if_any: ServiceFacts | None = None
    settings_error: str | None = None

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


def readable(fact: Fact | None) -> Fact:
    """Return what the database told of something; raises NotCheckedError where it could not be read."""
    if fact is None:
        raise NotCheckedError("数据库结构不符", "the database has another schema")
    return fact
