"""A bucket behind TLS, one for each process of tests: Swift, whose S3 API refuses forged and expired signatures."""

import fcntl
import hashlib
import http.client
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import obstore
import pytest
from obstore.store import S3Store

from tests.support.downloads import sha256
from tests.support.services.http_exchange import exchange, quiet_port
from tests.support.services.pki import Issued
from tests.support.services.relays import NameServer, TlsFront
from tests.support.services.service import ROOT, Service, wait_for

WRITER = ("kadun:writer", "writers-secret")
STRANGER = ("kadun:stranger", "strangers-secret")
REGION = "cn-test"
BUCKET = "licensed-files"
_VENV = ROOT / ".venv-swift"
_REQUIREMENTS = ROOT / "tests/support/swift-requirements.txt"
_DEFAULTS = """\
[DEFAULT]
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
log_address = /dev/null
"""
_STORAGE = """
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_FILTERS = "catch_errors gatekeeper cache listing_formats s3api tempauth copy slo dlo versioned_writes"
_PROXY = f"""
[pipeline:main]
pipeline = {_FILTERS} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""
_OPTIONS = {
    "cache": "memcache_servers = 127.0.0.1:1",
    "s3api": f"storage_domain = localhost\nlocation = {REGION}\nmin_segment_size = 1048576",
    "tempauth": f"user_kadun_writer = {WRITER[1]} .admin\nuser_kadun_stranger = {STRANGER[1]}",
    "slo": "minimum_segment_size = 1048576",
}


def install() -> None:
    """Make `.venv-swift` from its requirements, unless it is there already."""
    stamp, digest = _VENV / ".installed", hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()
    with _REQUIREMENTS.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if stamp.exists() and stamp.read_text() == digest:
            return
        subprocess.run(
            [sys.executable, "-m", "venv", "--clear", "--without-pip", _VENV], check=True, capture_output=True
        )
        pip = [sys.executable, "-m", "pip", "--python", str(_VENV), "install", "--quiet", "--require-hashes"]
        subprocess.run([*pip, "-r", _REQUIREMENTS], check=True, capture_output=True)
        stamp.write_text(digest)


class Swift:
    """Swift's four servers in a folder, over plain HTTP on a port of 127.0.0.1.

    Args:
        folder: Takes everything; its file system must have extended attributes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.port = quiet_port()
        self._ports = [self.port]
        (folder / "devices/d1").mkdir(parents=True)
        (folder / "swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_suffix = test\nswift_hash_path_prefix = test\n"
        )
        user = pwd.getpwuid(os.getuid()).pw_name
        for name in ("account", "container", "object"):
            port = quiet_port()
            self._ports.append(port)
            ring: list[str | Path] = [_VENV / "bin/swift-ring-builder", folder / f"{name}.builder"]
            for step in (("create", "2", "1", "0"), ("add", f"r1z1-127.0.0.1:{port}/d1", "1"), ("rebalance",)):
                subprocess.run([*ring, *step], check=step[0] != "rebalance", capture_output=True, cwd=folder)
            text = _DEFAULTS.format(folder=folder, port=port, user=user) + _STORAGE.format(name=name)
            (folder / f"{name}.conf").write_text(text)
        proxy = _DEFAULTS.format(folder=folder, port=self.port, user=user) + _PROXY
        for name in _FILTERS.split():
            egg = "memcache" if name == "cache" else name
            proxy += f"[filter:{name}]\nuse = egg:swift#{egg}\n{_OPTIONS.get(name, '')}\n"
        (folder / "proxy.conf").write_text(proxy)

    def __enter__(self) -> Self:
        for name in ("account", "container", "object", "proxy"):
            with (self._folder / f"{name}.log").open("wb") as log:
                command = [_VENV / "bin/python", _VENV / f"bin/swift-{name}-server", self._folder / f"{name}.conf"]
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        try:
            wait_for(self._answers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(timeout=60)

    def make(self) -> None:
        """Make the bucket, which only the writer may use."""
        address = obstore.sign(self.store(), "PUT", "", timedelta(seconds=60))
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        answer = exchange(connection, "PUT", address.partition(str(self.port))[2], None, {})
        assert answer.status == 200, answer

    def store(self) -> S3Store:
        """The bucket as its owner sees it, without the service's own code."""
        return S3Store(
            BUCKET,
            endpoint=f"http://127.0.0.1:{self.port}",
            region=REGION,
            access_key_id=WRITER[0],
            secret_access_key=WRITER[1],
            client_options={"allow_http": True, "timeout": timedelta(seconds=10)},
        )

    def _answers(self) -> bool:
        assert all(process.poll() is None for process in self._processes), self._folder
        try:
            for port in self._ports:
                socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True


def keys(store: Any) -> set[str]:
    return {found["path"] for page in obstore.list(store) for found in page}


def key(content: bytes) -> str:
    return f"files/{sha256(content)}"


def states(service: Service) -> dict[str, bool | None]:
    return {one["name"]: one["missing"] for one in service.cardctl_json("file", "list")}


@pytest.fixture(scope="session")
def authority() -> Issued:
    return Issued.make("Test authority", authority=True)


@pytest.fixture(scope="session")
def bucket_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bucket")


@pytest.fixture(scope="session")
def swift(bucket_folder: Path) -> Iterator[Swift]:
    install()
    with Swift(bucket_folder / "swift") as running:
        running.make()
        yield running


@pytest.fixture(scope="session")
def front(bucket_folder: Path, swift: Swift, authority: Issued) -> Iterator[TlsFront]:
    (bucket_folder / "ca.pem").write_bytes(authority.pem)
    with TlsFront(
        bucket_folder, Issued.make("localhost", f"{BUCKET}.localhost", issuer=authority), swift.port
    ) as running:
        yield running


@pytest.fixture(scope="session")
def names() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


@pytest.fixture(scope="session")
def bucket_settings(bucket_folder: Path, front: TlsFront) -> dict[str, str]:
    for name, text in (("key_id", WRITER[0]), ("secret", WRITER[1])):
        (bucket_folder / name).write_text(text + "\n")
    return {
        "KADUN_FILES_BUCKET": BUCKET,
        "KADUN_FILES_BUCKET_ENDPOINT": f"https://localhost:{front.port}",
        "KADUN_FILES_BUCKET_REGION": REGION,
        "KADUN_FILES_BUCKET_STYLE": "path",
        "KADUN_FILES_BUCKET_KEY_ID_FILE": str(bucket_folder / "key_id"),
        "KADUN_FILES_BUCKET_SECRET_FILE": str(bucket_folder / "secret"),
        "KADUN_FILES_BUCKET_CA": str(bucket_folder / "ca.pem"),
    }


@pytest.fixture
def bucket(swift: Swift) -> Iterator[Any]:
    """The bucket as its owner sees it; empty at the end."""
    store = swift.store()
    yield store
    obstore.delete(store, list(keys(store)))
