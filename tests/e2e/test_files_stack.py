"""Licensed files in containers: from the vendor's disk through the wrapper, and from nginx to a customer's."""

import hashlib
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.http_exchange import exchange
from tests.support.moving import Program, ship, type_at
from tests.support.service import wait_for
from tests.support.stack import Stack, run

pytestmark = pytest.mark.containers

BLOCK = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.init_anew("kadun.test")
        stack.up()
        yield stack


@pytest.fixture(scope="module")
def program(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = ship(stack, tmp_path_factory.mktemp("program"), "a pc")
    program.open_on(stack)
    return program


def blobs(stack: Stack) -> dict[str, Path]:
    return {path.name: path for path in (stack.folder / "data/files").iterdir()}


def listed(stack: Stack) -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in stack.cardctl("file", "list", "--format", "json")}


def test_a_file_of_the_vendors_reaches_the_customer_whole(stack: Stack, program: Program, tmp_path: Path) -> None:
    source, target = tmp_path / "汇率 data.bin", tmp_path / "here"
    source.write_bytes(BLOCK * 20 + b"its end")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    (added,) = stack.cardctl("file", "add", str(source), "--format", "json")
    assert (added["name"], added["size"], added["sha256"]) == (source.name, source.stat().st_size, digest)
    program.client_of(stack).download(source.name, target)
    assert target.read_bytes() == source.read_bytes()
    (event,) = stack.cardctl("events", "--kind", "file_downloaded", "--format", "json")
    assert event["card_id"] == program.card


def test_its_bytes_are_the_services_and_readable_for_nginx(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "modes.bin").write_bytes(b"modes")
    stack.cardctl("file", "add", str(tmp_path / "modes.bin"), "--format", "json")
    blob = blobs(stack)[hashlib.sha256(b"modes").hexdigest()].stat()
    assert f"\nKADUN_UID={blob.st_uid}\n" in (stack.folder / ".env").read_text()
    assert stat.S_IMODE(blob.st_mode) == 0o644
    assert stat.S_IMODE((stack.folder / "data").stat().st_mode) == 0o700, "on the host they are nobody else's"


def test_nginx_can_change_nothing_there_and_hands_nothing_out_without_a_link(stack: Stack) -> None:
    name, *_ = blobs(stack)
    for command in (("touch", "/var/lib/kadun/files/x"), ("rm", f"/var/lib/kadun/files/{name}")):
        done = stack.compose("exec", "-T", "nginx", *command, check=False)
        assert "Read-only file system" in done.stderr
    for path in (f"/_kadun_files/{name}", f"/v1/files/{name}", f"/v1/../_kadun_files/{name}", f"/files/{name}"):
        assert exchange(stack.connection(), "GET", path, b"", {}).status in {403, 404}, path


def test_the_name_and_the_batches_are_the_vendors_choice(stack: Stack, program: Program, tmp_path: Path) -> None:
    (tmp_path / "paid.bin").write_bytes(b"paid for")
    stack.cardctl("file", "add", "--name", "extra.bin", str(tmp_path / "paid.bin"), "--batch=pro", "--format", "json")
    assert listed(stack)["extra.bin"]["batches"] == ["pro"]
    with pytest.raises(Exception, match=r"extra\.bin"):
        program.client_of(stack).download("extra.bin", tmp_path / "here")
    piped = run(
        stack.folder / "scripts/cardctl", "file", "add", "-", "--name=extra.bin", "--all-cards", "--format", "json",
        input="for all", cwd="/", env=stack._environment,  # noqa: SLF001  # as cardctl does
    )  # fmt: skip
    assert '"batches": []' in piped.stdout
    program.client_of(stack).download("extra.bin", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"for all"


def test_a_person_sees_how_far_it_is(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(BLOCK * 100)
    status, shown = type_at([stack.folder / "scripts/cardctl", "file", "add", tmp_path / "large.bin"], [])
    assert status == 0, shown
    assert "Adding" in shown
    assert "104.9 MB" in shown, "how much it will be"
    assert "\x1b[" in shown, "drawn over, not printed below each other"
    assert shown.rindex("\x1b[?25h") < shown.index("large.bin"), "what it says of the file comes after that"


@pytest.mark.parametrize("arguments", [["missing.bin"], ["/"], [], ["one", "two"], ["--nonsense", "/etc/hostname"]])
def test_what_cannot_be_added_is_refused_in_a_line(stack: Stack, arguments: list[str]) -> None:
    before = listed(stack)
    refused = stack.script("cardctl", "file", "add", *arguments, check=False)
    assert refused.returncode in {1, 2}
    assert refused.stdout == ""
    assert refused.stderr.strip()
    assert listed(stack) == before


def test_a_connection_that_breaks_off_leaves_the_old_version(stack: Stack, program: Program, tmp_path: Path) -> None:
    source = tmp_path / "core.bin"
    source.write_bytes(b"the old version")
    stack.cardctl("file", "add", str(source), "--format", "json")
    os.truncate(source, 4 << 30)  # a long way to go, and nothing on the disk
    before = listed(stack)
    adding = subprocess.Popen(
        [stack.folder / "scripts/cardctl", "file", "add", source],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    wait_for(lambda: any(name.startswith(".adding-") and path.stat().st_size for name, path in blobs(stack).items()))
    os.killpg(adding.pid, signal.SIGKILL)
    adding.wait()
    wait_for(lambda: not any(name.startswith(".adding-") for name in blobs(stack)))
    assert listed(stack) == before
    program.client_of(stack).download("core.bin", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"the old version"


def test_no_link_stands_in_any_log(stack: Stack) -> None:
    logs = stack.compose("logs", "--no-color").stdout
    assert "/v1/files/" in logs
    assert "token=" not in logs
