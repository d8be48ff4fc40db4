"""scripts/upgrade.sh on servers in a state that is rare: down, broken, half recreated, of an older version."""

import shutil

import pytest

from tests.support.hosts.servers import BROKEN, MIGRATION, Vendor
from tests.support.hosts.stack import run
from tests.support.services.service import wait_for

pytestmark = [pytest.mark.xdist_group("upgrades"), pytest.mark.nightly]


def test_folders_and_secrets_that_an_older_version_had_not_are_made_before_the_switch(vendor: Vendor) -> None:
    stack = vendor.stack
    folder, identity = stack.folder / "data/functions-packages", stack.folder / "secrets/backup_identity"
    owner, former = folder.stat().st_uid, identity.read_text()
    shutil.rmtree(folder)
    identity.unlink()
    compose = (vendor.upstream / "docker-compose.yml").read_text()
    changed = compose.replace("pids_limit: ", "pids_limit: 1")  # an older one is not the same either
    assert changed != compose
    vendor.release("with folders", {"docker-compose.yml": changed})
    assert "Upgraded" in stack.script("upgrade.sh").stdout
    assert folder.stat().st_uid == owner
    dump = max((stack.folder / "data/backups").glob("kadun-before-upgrade-*.age"))
    stack.script("backup.sh", "--verify", "--identity", identity, dump)
    identity.write_text(former)  # other tests' backups are for it
    stack.script("cardctl", "function", "install")


@pytest.mark.parametrize("how", [("stop", "--timeout", "5"), ("down",)], ids=["stopped", "down"])
def test_a_stack_that_is_not_up_is_upgraded(vendor: Vendor, how: tuple[str, ...]) -> None:
    commit = vendor.release("for one that is down", {"app/__init__.py": f'"""After {how[0]}."""\n'})
    vendor.stack.compose(*how)
    done = vendor.stack.script("upgrade.sh")
    assert "The service is not ready now; the upgrade goes on" in done.stderr
    assert f"Upgraded to {commit[:12]}" in done.stdout
    vendor.program.open_on(vendor.stack)


def test_an_app_that_keeps_ending_is_replaced_by_a_version_that_works(vendor: Vendor) -> None:
    stack = vendor.stack
    name = f"{stack.project}-app"
    run("docker", "build", "--tag", name, "-", input=f'FROM {name}\nCMD ["false"]\n')
    stack.compose("up", "--detach", "app", check=False)
    wait_for(lambda: stack.inspect("app")["RestartCount"] >= 2, 120)
    vendor.release("broken as well", BROKEN)
    failed = stack.script("upgrade.sh", check=False)
    vendor.withdraw()
    assert failed.returncode == 1
    assert "The new version is not ready: app: " in failed.stderr
    assert "the old version is back and not ready: app: " in failed.stderr
    commit = vendor.release("mended")
    assert f"Upgraded to {commit[:12]}" in stack.script("upgrade.sh").stdout
    vendor.program.open_on(stack)


def test_an_upgrade_works_after_compose_was_killed_while_it_recreated_the_app(vendor: Vendor) -> None:
    stack, app = vendor.stack, vendor.stack.inspect("app")
    labels = [word for name, text in app["Config"]["Labels"].items() for word in ("--label", f"{name}={text}")]
    run("docker", "create", "--name", f"{app['Id'][:12]}_{stack.project}-app-1", *labels, app["Image"])
    commit = vendor.release("after a killed up", {"app/__init__.py": '"""After a killed up."""\n'})
    assert f"Upgraded to {commit[:12]}" in stack.script("upgrade.sh").stdout
    vendor.program.open_on(stack)


def test_a_migration_that_fails_leaves_everything_as_it_was(vendor: Vendor) -> None:
    stack, image, commit = vendor.stack, vendor.image(), vendor.commit()
    vendor.release("worse", {vendor.next_migration(): MIGRATION.format("SELECT nonsense")})
    failed = stack.script("upgrade.sh", check=False)
    vendor.withdraw()
    assert failed.returncode == 1
    assert "the old version is back and serves" in failed.stderr
    assert (vendor.image(), vendor.commit()) == (image, commit)
    vendor.program.open_on(stack)
