"""scripts/upgrade.sh: to a newer version under load, and back from two that do not work."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from kadun.retries import RetryPolicy

from tests.support.moving import Program, contents, ship
from tests.support.service import wait_for
from tests.support.stack import Stack, run

pytestmark = [pytest.mark.containers, pytest.mark.long]

MIGRATION = "def up(_migrator, db):\n    db.execute_sql('{}')\n"


class Vendor:
    """A stack in a clone, and the repository upstream that it is upgraded from."""

    def __init__(self, stack: Stack, upstream: Path) -> None:
        self.stack, self.upstream = stack, upstream
        stack_files = [path.name for path in stack.folder.iterdir()]
        upstream.mkdir()
        for name in stack_files:
            copy = shutil.copytree if (stack.folder / name).is_dir() else shutil.copy2
            copy(stack.folder / name, upstream / name)
        self._git(upstream, "init", "--quiet", "--initial-branch=main")
        self.release("first")
        self._git(upstream, "clone", "--quiet", upstream, upstream.parent / "clone")
        (upstream.parent / "clone/.git").rename(stack.folder / ".git")

    @staticmethod
    def _git(folder: Path, *arguments: str | Path) -> str:
        identity = ("-c", "user.name=vendor", "-c", "user.email=vendor@kadun.test", "-c", "safe.directory=*")
        return run("git", *identity, *arguments, cwd=folder).stdout.strip()

    def release(self, name: str, files: dict[str, str] | None = None) -> str:
        """A commit upstream; returns it."""
        for path, content in (files or {}).items():
            (self.upstream / path).write_text(content)
        self._git(self.upstream, "add", "--all")
        self._git(self.upstream, "commit", "--quiet", "--allow-empty", "--message", name)
        return self._git(self.upstream, "rev-parse", "HEAD")

    def withdraw(self) -> None:
        """The last commit upstream never was."""
        self._git(self.upstream, "reset", "--hard", "--quiet", "HEAD~1")

    def commit(self) -> str:
        """Where the stack's clone stands, its files included."""
        assert self._git(self.stack.folder, "status", "--porcelain", "--untracked-files=no") == ""
        return self._git(self.stack.folder, "rev-parse", "HEAD")

    def image(self) -> str:
        """The image that the app's container runs, which is also what its name stands for."""
        image = str(self.stack.inspect("app")["Image"])
        assert (
            run("docker", "image", "inspect", "--format", "{{.Id}}", f"{self.stack.project}-app").stdout.strip()
            == image
        )
        return image


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        vendor = Vendor(stack, tmp_path_factory.mktemp("git") / "upstream")
        stack.init_anew("kadun.test")
        stack.up()
        yield vendor
    finally:
        run("docker", "image", "rm", "--force", f"{stack.project}-app:previous", check=False)
        stack.remove()


@pytest.fixture(scope="module")
def program(vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Program:
    program = ship(vendor.stack, tmp_path_factory.mktemp("program"), "a pc")
    program.open_on(vendor.stack)
    return program


class Customer(threading.Thread):
    """Opens the program over and over, as the SDK does it, with its retries.

    More of them than by default: on a busy machine the interruption outlasts those. How long it takes is for the docs.
    """

    def __init__(self, stack: Stack, program: Program) -> None:
        super().__init__()
        self.stack, self.program = stack, program
        self.opened = 0
        self.failures: list[Exception] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.wait(0.3):
            try:
                self.program.client_of(self.stack, retry_policy=RetryPolicy(tries=20)).open()
                self.opened += 1
            except Exception as error:  # noqa: BLE001  # whatever it is, the test is to show it
                self.failures.append(error)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.join()


def migration(stack: Stack, number: int) -> str:
    newest = max(path.name for path in (stack.folder / "app/storage/migrations").glob("[0-9]*.py"))
    return f"app/storage/migrations/{int(newest[:4]) + number:04d}_more.py"


def gap(stack: Stack) -> float:
    """How long the last upgrade took the service away, in seconds, as it says itself."""
    return float((stack.folder / "data/upgrade.log").read_text().rpartition("gap=")[2].rstrip("s\n"))


def test_an_upgrade_that_migrates_is_noticed_by_no_customer(vendor: Vendor, program: Program) -> None:
    stack, old_image = vendor.stack, vendor.image()
    new = migration(stack, 1)
    commit = vendor.release(
        "second",
        {
            new: MIGRATION.format("CREATE TABLE more (id int)"),
            "nginx/kadun/log.conf": (vendor.upstream / "nginx/kadun/log.conf").read_text() + "# changed\n",
            "postgres/url.sh": (vendor.upstream / "postgres/url.sh").read_text() + "# changed\n",
        },
    )
    leftover = stack.folder / "data/backups/kadun-before-upgrade-20260101T000000Z.tar.partial"
    leftover.parent.mkdir()
    leftover.write_text("half a dump")
    nginx = stack.inspect("nginx")["State"]["StartedAt"]
    with Customer(stack, program) as customer:
        done = stack.script("upgrade.sh")
    assert customer.failures == []
    assert customer.opened > 3
    assert f"Upgraded to {commit[:12]}; the service was away for " in done.stdout
    assert vendor.commit() == commit
    assert vendor.image() != old_image
    assert "table more 0 0" in contents(stack)
    assert stack.inspect("nginx")["State"]["StartedAt"] != nginx, "it has read its new configuration"
    assert gap(stack) > 0
    for name in ("postgres/url.sh", "nginx/kadun/log.conf", new):
        assert (stack.folder / name).stat().st_mode & 0o444 == 0o444, "the containers' users read it"
    assert not leftover.exists()
    (dump,) = (stack.folder / "data/backups").glob("*.tar.age")
    assert list((stack.folder / "data/backups").glob("*.tar")) == [], "none in clear"
    assert "the dump before: " + str(dump) in done.stdout
    assert "Copy secrets/backup_identity to another machine and confirm that" in done.stdout
    stack.script("verify-backup.sh", dump)


def test_an_upgrade_without_a_migration_leaves_no_dump_in_clear_where_backups_are_encrypted(
    vendor: Vendor, program: Program, tmp_path: Path
) -> None:
    stack, image = vendor.stack, vendor.image()
    run("age-keygen", "-o", tmp_path / "identity")
    recipient = run("age-keygen", "-y", tmp_path / "identity").stdout.strip()
    settings = (stack.folder / ".env").read_text()
    (stack.folder / ".env").write_text(f"{settings}KADUN_BACKUP_RECIPIENT={recipient}\n")
    before = set((stack.folder / "data/backups").glob("*"))
    nginx = stack.inspect("nginx")["State"]["StartedAt"]
    commit = vendor.release("third", {"app/__init__.py": '"""Another version."""\n'})
    with Customer(stack, program) as customer:
        done = stack.script("upgrade.sh")
    (stack.folder / ".env").write_text(settings)
    assert stack.inspect("nginx")["State"]["StartedAt"] == nginx, "it has no new configuration"
    assert customer.failures == []
    assert vendor.commit() == commit
    assert vendor.image() != image
    assert gap(stack) > 0
    made = set((stack.folder / "data/backups").glob("kadun-before-upgrade-*")) - before
    assert {"".join(file.suffixes) for file in made} == {".tar.age", ".tar.age.sha256"}
    (dump,) = (file for file in made if file.suffix == ".age")
    assert str(dump) in done.stdout
    stack.script("verify-backup.sh", "--identity", tmp_path / "identity", dump)


def test_folders_and_secrets_that_an_older_version_had_not_are_made_before_the_switch(
    vendor: Vendor, program: Program, tmp_path: Path
) -> None:
    stack = vendor.stack
    folders = [stack.folder / "data" / name for name in ("files", "functions", "functions-packages")]
    owners = [folder.stat().st_uid for folder in folders]
    for folder in folders:
        shutil.rmtree(folder)
    identity = stack.folder / "secrets/backup_identity"
    identity.unlink()
    compose = (vendor.upstream / "docker-compose.yml").read_text()
    changed = compose.replace("pids_limit: 256", "pids_limit: 255")  # an older one is not the same either
    assert changed != compose
    vendor.release("with folders", {"docker-compose.yml": changed})
    assert "Upgraded" in stack.script("upgrade.sh").stdout
    assert [folder.stat().st_uid for folder in folders] == owners
    dump = max((stack.folder / "data/backups").glob("kadun-before-upgrade-*.age"))
    stack.script("verify-backup.sh", "--identity", identity, dump)
    (tmp_path / "core.bin").write_bytes(b"core")
    stack.script("cardctl", "file", "add", tmp_path / "core.bin")
    program.client_of(stack).download("core.bin", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == b"core"


def test_a_stack_that_is_down_is_upgraded(vendor: Vendor, program: Program) -> None:
    commit = vendor.release("for one that is down")
    vendor.stack.compose("stop", "--timeout", "5")
    done = vendor.stack.script("upgrade.sh")
    assert "The service is not ready now; the upgrade goes on" in done.stderr
    assert f"Upgraded to {commit[:12]}" in done.stdout
    program.open_on(vendor.stack)


def test_an_app_that_keeps_ending_is_replaced_by_a_version_that_works(vendor: Vendor, program: Program) -> None:
    stack = vendor.stack
    name = f"{stack.project}-app"
    run("docker", "build", "--tag", name, "-", input=f'FROM {name}\nCMD ["false"]\n')
    stack.compose("up", "--detach", "app", check=False)
    wait_for(lambda: stack.inspect("app")["RestartCount"] >= 2, 120)
    vendor.release("broken as well", {"app/wsgi.py": "raise SystemExit('this version does not work')\n"})
    failed = stack.script("upgrade.sh", check=False)
    vendor.withdraw()
    assert failed.returncode == 1
    assert "The new version is not ready: app: " in failed.stderr
    assert "the old version is back and, as before, not ready: app: " in failed.stderr
    commit = vendor.release("mended")
    assert f"Upgraded to {commit[:12]}" in stack.script("upgrade.sh").stdout
    program.open_on(stack)


def test_an_upgrade_works_after_docker_compose_down(vendor: Vendor, program: Program) -> None:
    vendor.stack.compose("down")
    commit = vendor.release("after down", {"app/__init__.py": '"""After down."""\n'})
    assert f"Upgraded to {commit[:12]}" in vendor.stack.script("upgrade.sh").stdout
    program.open_on(vendor.stack)


def test_an_upgrade_works_after_compose_was_killed_while_it_recreated_the_app(vendor: Vendor, program: Program) -> None:
    stack, app = vendor.stack, vendor.stack.inspect("app")
    labels = [word for name, text in app["Config"]["Labels"].items() for word in ("--label", f"{name}={text}")]
    run("docker", "create", "--name", f"{app['Id'][:12]}_{stack.project}-app-1", *labels, app["Image"])
    commit = vendor.release("after a killed up", {"app/__init__.py": '"""After a killed up."""\n'})
    assert f"Upgraded to {commit[:12]}" in stack.script("upgrade.sh").stdout
    program.open_on(stack)


def test_an_upgrade_without_room_for_its_dump_changes_nothing(vendor: Vendor, tmp_path: Path) -> None:
    stack, commit, started = vendor.stack, vendor.commit(), vendor.stack.inspect("app")["State"]["StartedAt"]
    settings = (stack.folder / ".env").read_text()
    vendor.release("too large")
    run("mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path)
    try:
        (stack.folder / ".env").write_text(f"{settings}KADUN_BACKUP_DIR={tmp_path}\n")
        full = stack.script("upgrade.sh", check=False)
    finally:
        (stack.folder / ".env").write_text(settings)
        run("umount", tmp_path)
        vendor.withdraw()
    assert full.returncode == 1
    assert "Not enough space" in full.stderr
    assert vendor.commit() == commit
    assert stack.inspect("app")["State"]["StartedAt"] == started


def test_machines_are_upgraded_one_after_the_other_and_the_database_never_goes_back(
    vendor: Vendor, program: Program
) -> None:
    stack, image = vendor.stack, vendor.image()
    known = migration(stack, 0).removesuffix("_more.py")
    oldest = next((stack.folder / "app/storage/migrations").glob(f"{known.rpartition('/')[2]}*.py")).stem
    new = migration(stack, 1)
    tolerant = f'OLDEST = "{oldest}"\n' + MIGRATION.format("CREATE TABLE rolling (id int)")
    vendor.release("broken", {new: tolerant, "app/wsgi.py": "raise SystemExit('this version does not work')\n"})
    failed = stack.script("upgrade.sh", "--rolling", "--drain-seconds", "1", check=False)
    vendor.withdraw()
    assert failed.returncode == 1
    assert "Draining" in failed.stdout
    assert "the old version is back and serves" in failed.stderr
    assert vendor.image() == image
    assert "table rolling 0 0" in contents(stack), "other machines may have written by now"
    program.open_on(stack)  # the old version, on the newer schema
    vendor.release("mended", {new: tolerant})
    with Customer(stack, program) as customer:
        done = stack.script("upgrade.sh", "--rolling", "--drain-seconds", "1")
    assert customer.failures == []
    assert "Upgraded" in done.stdout
    assert vendor.image() != image
    vendor.release("for itself alone", {migration(stack, 1): MIGRATION.format("CREATE TABLE alone (id int)")})
    commit, started = vendor.commit(), stack.inspect("app")["State"]["StartedAt"]
    refused = stack.script("upgrade.sh", "--rolling", check=False)
    vendor.withdraw()
    assert "cannot run on the new schema" in refused.stderr
    assert (vendor.commit(), stack.inspect("app")["State"]["StartedAt"]) == (commit, started)


def test_a_version_that_does_not_start_is_taken_back_with_its_migration(vendor: Vendor, program: Program) -> None:
    stack, image, commit = vendor.stack, vendor.image(), vendor.commit()
    before = contents(stack)
    vendor.release(
        "broken",
        {
            migration(stack, 1): MIGRATION.format("CREATE TABLE regret (id int)"),
            "app/wsgi.py": "raise SystemExit('this version does not work')\n",
        },
    )
    with Customer(stack, program) as customer:
        failed = stack.script("upgrade.sh", check=False)
    vendor.withdraw()
    assert failed.returncode == 1
    assert "The new version is not ready" in failed.stderr
    assert "The database is as before the upgrade" in failed.stderr
    assert "The upgrade failed; the old version is back and serves" in failed.stderr
    assert (vendor.image(), vendor.commit()) == (image, commit)
    assert "regret" not in contents(stack)
    assert before.splitlines()[0] == contents(stack).splitlines()[0], "the schema"
    program.open_on(stack)
    assert customer.opened > 0


def test_a_migration_that_fails_leaves_everything_as_it_was(vendor: Vendor, program: Program) -> None:
    stack, image, commit = vendor.stack, vendor.image(), vendor.commit()
    vendor.release("worse", {migration(stack, 1): MIGRATION.format("SELECT nonsense")})
    failed = stack.script("upgrade.sh", check=False)
    vendor.withdraw()
    assert failed.returncode == 1
    assert "the old version is back and serves" in failed.stderr
    assert (vendor.image(), vendor.commit()) == (image, commit)
    program.open_on(stack)


def test_an_image_that_cannot_be_built_changes_nothing(vendor: Vendor, program: Program) -> None:
    stack, image, commit = vendor.stack, vendor.image(), vendor.commit()
    vendor.release("unbuildable", {"Dockerfile": "FROM nowhere.invalid/kadun\n"})
    with Customer(stack, program) as customer:
        failed = stack.script("upgrade.sh", check=False)
    vendor.withdraw()
    assert failed.returncode == 1
    assert "The image could not be built" in failed.stderr
    assert customer.failures == []
    assert (vendor.image(), vendor.commit()) == (image, commit)
