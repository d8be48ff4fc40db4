"""Licensed files in a bucket, in containers: the relay is the app's only way out, and nginx fetches the bytes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bucket_host import NameServer, TlsFront
from tests.support.moving import ship
from tests.support.pki import Issued
from tests.support.stack import Stack
from tests.support.swift import BUCKET, REGION, WRITER, Swift

pytestmark = pytest.mark.containers

HOST = "bucket.kadun.test"
# The relay asks the engine's name server, which knows nothing of the test's.
OVERRIDE = f"""
services:
  bucket-relay:
    extra_hosts: ["{HOST}:host-gateway"]
"""
REACH = """
import socket, sys
for address in (("{host}", {port}), ("bucket-relay", 3128), ("1.1.1.1", 443)):
    try:
        socket.create_connection(address, timeout=3).close()
        print("reached")
    except OSError:
        print("not reached")
"""


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, swift: Swift, authority: Issued) -> Iterator[TlsFront]:
    issued = Issued.make(HOST, issuer=authority)
    with TlsFront(tmp_path_factory.mktemp("front"), issued, swift.port, listen_on="0.0.0.0") as running:  # noqa: S104  # for containers
        yield running


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, front: TlsFront, authority: Issued, names: NameServer
) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.init_anew("kadun.test")
        files = ("docker-compose.yml", "docker-compose.bucket.yml", "docker-compose.bucket-relay.yml", "test.yml")
        (stack.folder / "test.yml").write_text(OVERRIDE)
        (stack.folder / "https_certificates/bucket-ca.pem").write_bytes(authority.pem)
        with (stack.folder / ".env").open("a") as env:
            env.write(
                f"COMPOSE_FILE={':'.join(files)}\nKADUN_FILES_BUCKET={BUCKET}\nKADUN_FILES_BUCKET_REGION={REGION}\n"
            )
            env.write(f"KADUN_FILES_BUCKET_ENDPOINT=https://{HOST}:{front.port}\nKADUN_FILES_BUCKET_STYLE=path\n")
            env.write(f"KADUN_FILES_BUCKET_CA=./https_certificates/bucket-ca.pem\nKADUN_RESOLVER={names.address}\n")
        for name, secret in zip(("key_id", "secret"), WRITER, strict=True):
            place = f"umask 077; printf %s {secret} >secrets/files_bucket_{name}"
            owner = f"chown \"$(sed -n 's/^KADUN_UID=//p' .env)\" secrets/files_bucket_{name}"
            subprocess.run(["sh", "-c", f"{place}; {owner}"], cwd=stack.folder, check=True)
        stack.up()
        yield stack


def test_a_file_goes_through_the_bucket_to_a_customer(stack: Stack, front: TlsFront, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000
    (tmp_path / "core.bin").write_bytes(content)
    stack.cardctl("file", "add", str(tmp_path / "core.bin"), "--format", "json")
    assert list((stack.folder / "data/files").iterdir()) == []
    program = ship(stack, tmp_path, "a pc")
    program.open_on(stack)
    program.client_of(stack).download("core.bin", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == content
    printed = stack.script("cardctl", "doctor", "--format", "json", check=False).stdout
    found = {one["check"]: one["status"] for one in json.loads(printed)}
    assert {found[name] for name in ("bucket", "files", "file-digests", "env-names", "env-values", "permissions")} == {
        "OK"
    }
    reached = stack.compose("exec", "-T", "app", "python", "-c", REACH.format(host=HOST, port=front.port))
    assert reached.stdout.split("\n")[:3] == ["not reached", "reached", "not reached"]
