"""scripts/save-images.sh and scripts/load-images.sh: a stack on a machine that reaches no registry."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stack import Stack, run

pytestmark = [pytest.mark.xdist_group("image archives"), pytest.mark.nightly]

SHARED = {"KADUN_POSTGRES_IMAGE": "postgres:17-trixie", "KADUN_NGINX_IMAGE": "nginx:1.28-trixie"}


class Images:
    """The images of a stack, each under a name of its own, so that taking them away hurts no other test."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.names = [f"{stack.project}-app"]
        settings = stack.folder / ".env"
        for setting, image in SHARED.items():
            name = f"{stack.project}-{image.partition(':')[0]}:copy"
            run("docker", "tag", image, name)
            settings.write_text(settings.read_text().replace(f"{setting}={image}", f"{setting}={name}"))
            self.names.append(name)

    def present(self) -> list[str]:
        return [name for name in self.names if run("docker", "image", "inspect", name, check=False).returncode == 0]

    def ids(self) -> dict[str, str]:
        return {name: run("docker", "image", "inspect", "-f", "{{.Id}}", name).stdout for name in self.names}

    def remove(self) -> None:
        run("docker", "image", "rm", "--force", *self.names, check=False)


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as offline:
        offline.init_anew()
        yield offline


@pytest.fixture(scope="module")
def images(offline: Stack) -> Iterator[Images]:
    images = Images(offline)
    try:
        yield images
    finally:
        offline.compose("down", "--timeout", "5", check=False)
        images.remove()


@pytest.fixture(scope="module")
def archive(offline: Stack, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("a folder") / "kadun images.tar.zst"
    script(offline, "save-images.sh", file)
    return file


def script(offline: Stack, name: str, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(offline.folder / "scripts" / name, *arguments, check=check, cwd="/")


def refuses(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_damaged_archive_or_one_without_its_checksum_is_not_loaded(
    offline: Stack, images: Images, archive: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.tar.zst"
    content = bytearray(archive.read_bytes())
    copy.write_bytes(content)
    images.remove()
    refuses(script(offline, "load-images.sh", copy, check=False), "Its checksum is missing")
    (tmp_path / "copy.tar.zst.sha256").write_text((archive.parent / f"{archive.name}.sha256").read_text())
    content[len(content) // 2] ^= 1
    copy.write_bytes(content)
    refuses(script(offline, "load-images.sh", copy, check=False), "The checksum is wrong, nothing was loaded")
    copy.write_bytes(content[:-1])
    refuses(script(offline, "load-images.sh", copy, check=False), "The checksum is wrong, nothing was loaded")
    assert images.present() == []


def test_from_the_archive_alone_the_stack_comes_up_and_builds_and_pulls_nothing(
    offline: Stack, images: Images, archive: Path
) -> None:
    run("sha256sum", "--check", f"{archive.name}.sha256", cwd=archive.parent)
    images.remove()
    assert images.present() == []
    assert offline.compose("up", "--detach", "--no-build", check=False).returncode != 0
    loaded = script(offline, "load-images.sh", archive)
    assert "docker compose up -d --wait" in loaded.stdout
    before = images.ids()
    offline.up("--no-build", "--pull", "never")
    offline.compose("down", "--timeout", "5")
    offline.up()  # just as the manual says: Compose builds only what is not there
    assert images.ids() == before
    assert {offline.inspect(service)["Image"] for service in ("app", "database", "nginx")} == {
        image.strip() for image in before.values()
    }


def test_an_archive_is_never_overwritten_and_a_half_written_one_not_left(
    offline: Stack, images: Images, archive: Path, tmp_path: Path
) -> None:
    before = archive.stat().st_mtime_ns
    refuses(script(offline, "save-images.sh", archive, check=False), "It exists, choose another name")
    assert archive.stat().st_mtime_ns == before
    wrong = script(offline, "save-images.sh", tmp_path / "images.zip", check=False)
    assert wrong.returncode == 2
    assert "must end in .tar.zst or .tar.gz" in wrong.stderr
    small = tmp_path / "small disk"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small)
    try:
        done = script(offline, "save-images.sh", small / "images.tar.gz", check=False)
        assert done.returncode == 1
        assert "Could not be written (disk full?), nothing was made" in done.stderr
        assert list(small.iterdir()) == []
    finally:
        run("umount", small)
