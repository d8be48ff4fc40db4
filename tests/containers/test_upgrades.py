"""scripts/upgrade.sh: to a newer version under load, and back from those that do not work."""
# Owns run-upgrade.

from pathlib import Path

import pytest
from kadun.retries import RetryPolicy

from tests.support.hosts.servers import Vendor
from tests.support.hosts.stack import run
from tests.support.licence.customers import Load
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("upgrades")

MIGRATION = "-- As a release after this one has it.\n{};\n"
BROKEN = {"app/wsgi.py": "raise SystemExit('this version does not work')\n"}
"""What a release that does not start changes."""


def customer(vendor: Vendor) -> Load:
    """Return a customer who opens the program over and over, as the SDK does it.

    With more tries than by default: on a busy machine the interruption outlasts those. How long it takes is for the
    docs.
    """
    policy = RetryPolicy(tries=20)
    return Load(lambda: vendor.program.client_of(vendor.stack, retry_policy=policy).open(), pause_seconds=0.3)


def test_an_upgrade_that_migrates_is_noticed_by_no_customer(vendor: Vendor) -> None:
    stack, old_image, before = vendor.stack, vendor.image(), vendor.backups()
    new, changed = vendor.next_migration(), ("nginx/kadun/log.conf", "deploy/postgres/url.sh")
    files = {name: (vendor.upstream / name).read_text() + "# changed\n" for name in changed}
    commit = vendor.release("second", files | {new: MIGRATION.format("CREATE TABLE more (id int)")})
    leftover = stack.folder / "data/backups/kadun-before-upgrade-20260101T000000Z.tar.partial"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_text("half a dump")
    nginx = stack.inspect("nginx")["State"]["StartedAt"]
    with customer(vendor) as load:
        done = stack.script("upgrade.sh")
    assert load.failures == []
    assert load.succeeded > 3
    assert f"Upgraded to {commit[:12]}\n" in done.stdout
    assert vendor.commit() == commit
    assert vendor.image() != old_image
    assert "table more 0 0" in stack.contents()
    assert stack.inspect("nginx")["State"]["StartedAt"] != nginx, "it has read its new configuration"
    for name in (*changed, new):
        assert (stack.folder / name).stat().st_mode & 0o444 == 0o444, "the containers' users read it"
    assert not leftover.exists()
    (backup,) = (path for path in vendor.backups() - before if path.name.startswith("kadun-before-upgrade-"))
    assert f"the backup before: {backup}" in done.stdout
    assert "Copy secrets/backup_identity to another machine" in done.stdout
    stack.script("backup.sh", "--verify", backup)
    assert "Already the newest version; nothing was changed" in stack.script("upgrade.sh").stdout


def test_a_version_that_does_not_start_is_taken_back_with_its_migration(vendor: Vendor) -> None:
    stack, image, commit = vendor.stack, vendor.image(), vendor.commit()
    before, settings = stack.contents(), (stack.folder / ".env").read_text()
    init, migration = vendor.upstream / "scripts/init.sh", "-- Takes away nothing.\nCREATE TABLE regret (id int);\n"
    adds = {"scripts/init.sh": init.read_text() + "set_setting KADUN_MORE 1\n", vendor.next_migration(): migration}
    vendor.release("broken", BROKEN | adds)
    with customer(vendor) as load:
        failed = stack.script("upgrade.sh", check=False)
    vendor.withdraw()
    assert (stack.folder / ".env").read_text() == settings
    assert failed.returncode == 1
    assert "The new version is not ready" in failed.stderr
    assert "The database is as before the upgrade" in failed.stderr
    assert "The upgrade failed; the old version is back and serves" in failed.stderr
    assert (vendor.image(), vendor.commit()) == (image, commit)
    assert "regret" not in stack.contents()
    assert before.splitlines()[0] == stack.contents().splitlines()[0], "the schema"
    vendor.program.open_on(stack)
    assert load.succeeded > 0


def test_machines_are_upgraded_one_after_the_other_and_the_database_never_goes_back(vendor: Vendor) -> None:
    stack, image, new = vendor.stack, vendor.image(), vendor.next_migration()
    rolling = ("upgrade.sh", "--rolling", "--drain-seconds", "1")
    migration = MIGRATION.format("CREATE TABLE rolling (id int)")
    vendor.release("broken", BROKEN | {new: migration})
    failed = stack.script(*rolling, check=False)
    vendor.withdraw()
    assert failed.returncode == 1
    assert "Draining" in failed.stdout
    assert "the old version is back and serves" in failed.stderr
    assert vendor.image() == image
    assert "table rolling 0 0" in stack.contents(), "other machines may have written by now"
    vendor.program.open_on(stack)  # the old version, on the newer schema
    vendor.release("mended", {new: migration})
    nginx = stack.inspect("nginx")["State"]["StartedAt"]
    with customer(vendor) as load:
        assert "Upgraded" in stack.script(*rolling).stdout
    assert load.failures == []
    assert vendor.image() != image
    assert stack.inspect("nginx")["State"]["StartedAt"] == nginx, "it has no new configuration"
    vendor.release("for itself alone", {vendor.next_migration(): "-- Takes away a table.\nDROP TABLE rolling;\n"})
    commit, started = vendor.commit(), stack.inspect("app")["State"]["StartedAt"]
    refused = stack.script("upgrade.sh", "--rolling", check=False)
    vendor.withdraw()
    assert "cannot run on the new schema" in refused.stderr
    assert (vendor.commit(), stack.inspect("app")["State"]["StartedAt"]) == (commit, started)


def test_an_image_that_cannot_be_built_or_a_disk_without_room_changes_nothing(vendor: Vendor, tmp_path: Path) -> None:
    stack, image, commit = vendor.stack, vendor.image(), vendor.commit()
    started, settings = stack.inspect("app")["State"]["StartedAt"], (stack.folder / ".env").read_text()
    vendor.release("unbuildable", {"Dockerfile": "FROM nowhere.invalid/kadun\n"})
    run("mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path)
    try:
        (stack.folder / ".env").write_text(f"{settings}KADUN_BACKUP_DIR={tmp_path}\n")
        full = stack.script("upgrade.sh", check=False)
    finally:
        (stack.folder / ".env").write_text(settings)
        run("umount", tmp_path)
    with customer(vendor) as load:
        failed = stack.script("upgrade.sh", check=False)
    vendor.withdraw()
    assert (full.returncode, failed.returncode) == (1, 1)
    assert "Not enough space" in full.stderr
    assert "The image could not be built" in failed.stderr
    assert "Nothing was changed; the old version goes on serving" in failed.stderr
    assert load.failures == []
    assert (vendor.image(), vendor.commit()) == (image, commit)
    assert stack.inspect("app")["State"]["StartedAt"] == started


@pytest.mark.nightly
def test_a_stack_that_is_down_or_whose_app_keeps_ending_or_whose_compose_was_killed_is_upgraded(vendor: Vendor) -> None:
    stack, name = vendor.stack, f"{vendor.stack.project}-app"

    def release_and_upgrade(message: str) -> str:
        commit = vendor.release(message, {"app/__init__.py": f'"""{message}."""\n'})
        done = stack.script("upgrade.sh")
        assert f"Upgraded to {commit[:12]}" in done.stdout
        vendor.program.open_on(stack)
        return str(done.stderr)

    stack.compose("down")
    assert "The service is not ready now; the upgrade goes on" in release_and_upgrade("After it was down")
    app = stack.inspect("app")
    labels = [word for name, text in app["Config"]["Labels"].items() for word in ("--label", f"{name}={text}")]
    run("docker", "create", "--name", f"{app['Id'][:12]}_{stack.project}-app-1", *labels, app["Image"])
    release_and_upgrade("After Compose was killed while it recreated the app")
    run("docker", "build", "--tag", name, "-", input=f'FROM {name}\nCMD ["false"]\n')
    stack.compose("up", "--detach", "app", check=False)
    wait_for(lambda: stack.inspect("app")["RestartCount"] >= 2, 120)
    vendor.release("broken as well", BROKEN)
    failed = stack.script("upgrade.sh", check=False)
    vendor.withdraw()
    assert failed.returncode == 1
    assert "the old version is back and not ready: app: " in failed.stderr
    release_and_upgrade("Mended")
