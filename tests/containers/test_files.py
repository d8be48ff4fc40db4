"""Licensed files: from the vendor's disk or a bucket through nginx to a customer's."""

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hosts.servers import Program
from tests.support.hosts.stack import Stack
from tests.support.services.bucket import BUCKET, REGION, WRITER, Swift
from tests.support.services.http_exchange import exchange
from tests.support.services.pki import Issued
from tests.support.services.relays import NameServer, TlsFront

pytestmark = pytest.mark.xdist_group("serving")

HOST = "bucket.kadun.test"
# The app asks the engine's name server, which knows nothing of the test's.
OVERRIDE = f"""
services:
  app:
    extra_hosts: ["{HOST}:host-gateway"]
"""


class BrokenOffError(Exception):
    """The customer's program ends while it downloads."""


def test_a_file_of_the_vendors_reaches_the_customer_whole_though_it_was_broken_off(
    stack: Stack, program: Program, tmp_path: Path
) -> None:
    source, target = tmp_path / "汇率 data.bin", tmp_path / "here"
    source.write_bytes(os.urandom(1 << 20) * 20 + b"its end")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    (added,) = stack.cardctl("file", "add", str(source), "--format", "json")
    assert (added["name"], added["size"], added["sha256"]) == (source.name, source.stat().st_size, digest)
    blob = stack.folder / "data/files" / digest
    received: list[int] = []

    def break_off(done: int, total: int) -> None:
        if done > total / 2:
            raise BrokenOffError

    try:
        with pytest.raises(BrokenOffError):
            program.client_of(stack).download(source.name, target, on_progress=break_off)
        half = target.with_name("here.part").stat().st_size
        program.client_of(stack).download(source.name, target, on_progress=lambda done, _: received.append(done))
        assert target.read_bytes() == source.read_bytes()
        assert received[0] > half > 10 << 20, "it went on where it had stopped"

        assert f"\nKADUN_UID={blob.stat().st_uid}\n" in (stack.folder / ".env").read_text()
        assert stat.S_IMODE(blob.stat().st_mode) == 0o644, "nginx reads it"
        assert stat.S_IMODE((stack.folder / "data").stat().st_mode) == 0o700, "on the host they are nobody else's"
        for command in (("touch", "/var/lib/kadun/files/x"), ("rm", f"/var/lib/kadun/files/{digest}")):
            assert "Read-only file system" in stack.execute("nginx", *command, check=False).stderr
        for path in (f"/_kadun_files/{digest}", f"/v1/files/{digest}", f"/v1/../_kadun_files/{digest}"):
            assert exchange(stack.connection(), "GET", path, b"", {}).status in {403, 404}, path
        logs = stack.compose("logs", "--no-color").stdout
        assert "/v1/files/" in logs
        assert "token=" not in logs, "a link permits the download"
    finally:
        stack.script("cardctl", "file", "remove", source.name)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, swift: Swift, authority: Issued) -> Iterator[TlsFront]:
    issued = Issued.make(HOST, issuer=authority)
    with TlsFront(tmp_path_factory.mktemp("front"), issued, swift.port, listen_on="0.0.0.0") as running:  # noqa: S104  # for containers
        yield running


@contextmanager
def files_in_the_bucket(stack: Stack, front: TlsFront, authority: Issued, names: NameServer) -> Iterator[None]:
    """Give the stack a bucket, for as long as the block lasts."""
    dotenv, compose_file = stack.folder / ".env", stack.folder / "test.yml"
    ca = stack.folder / "https_certificates/bucket-ca.pem"
    secrets = [stack.folder / f"secrets/files_bucket_{name}" for name in ("key_id", "secret")]
    before = dotenv.read_text()
    compose_file.write_text(OVERRIDE)
    ca.write_bytes(authority.pem)
    files = ("docker-compose.yml", "deploy/bucket.yml", "test.yml")
    lines = {
        "COMPOSE_FILE": ":".join(files),
        "KADUN_FILES_BUCKET": BUCKET,
        "KADUN_FILES_BUCKET_REGION": REGION,
        "KADUN_FILES_BUCKET_ENDPOINT": f"https://{HOST}:{front.port}",
        "KADUN_FILES_BUCKET_STYLE": "path",
        "KADUN_FILES_BUCKET_CA": "./https_certificates/bucket-ca.pem",
        "KADUN_RESOLVER": names.address,
    }
    for file, secret in zip(secrets, WRITER, strict=True):
        place = f"umask 077; printf %s {secret} >secrets/{file.name}"
        owner = f"chown \"$(sed -n 's/^KADUN_UID=//p' .env)\" secrets/{file.name}"
        subprocess.run(["sh", "-c", f"{place}; {owner}"], cwd=stack.folder, check=True)
    try:
        dotenv.write_text(before + "".join(f"{name}={value}\n" for name, value in lines.items()))
        stack.up()
        yield
    finally:
        dotenv.write_text(before)
        stack.up()
        for file in (compose_file, ca, *secrets):
            file.unlink()


def test_a_file_goes_through_the_bucket_to_a_customer(
    stack: Stack, program: Program, front: TlsFront, authority: Issued, names: NameServer, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 40_000
    (tmp_path / "core.bin").write_bytes(content)
    with files_in_the_bucket(stack, front, authority, names):
        stack.cardctl("file", "add", str(tmp_path / "core.bin"), "--format", "json")
        try:
            assert not (stack.folder / "data/files" / hashlib.sha256(content).hexdigest()).exists()
            program.client_of(stack).download("core.bin", tmp_path / "here")
            assert (tmp_path / "here").read_bytes() == content
            printed = stack.script("cardctl", "doctor", "--format", "json", check=False).stdout
            found = {one["check"]: one["status"] for one in json.loads(printed)}
            checks = ("bucket", "files", "env-names", "permissions")
            assert {name: found[name] for name in checks} == dict.fromkeys(checks, "OK")
        finally:
            stack.script("cardctl", "file", "remove", "core.bin")
