"""What can fail, and how it comes back."""

import contextlib
import shutil
from collections.abc import Iterator

from tests.drills.customers import ACCEPTED, REFUSED, Customers
from tests.drills.scene import Failure, Machine, Scene
from tests.support.services.service import wait_for


@contextlib.contextmanager
def primary_killed(scene: Scene, _customers: Customers) -> Iterator[None]:
    """PostgreSQL, Patroni and etcd of the primary's machine end at once, as in a power cut; but its ports refuse."""
    with _killed(scene.cluster.primary(), "database", "etcd"):
        yield


@contextlib.contextmanager
def primary_stopped(scene: Scene, _customers: Customers) -> Iterator[None]:
    """The primary's machine is stopped for work on it."""
    primary = scene.cluster.primary()
    primary.stop()
    try:
        yield
    finally:
        primary.compose("start")


@contextlib.contextmanager
def primary_silent(scene: Scene, _customers: Customers) -> Iterator[None]:
    """The primary's cable is pulled."""
    with _silent(scene.cluster.primary()):
        yield


@contextlib.contextmanager
def standby_killed(scene: Scene, _customers: Customers) -> Iterator[None]:
    """PostgreSQL and Patroni of a standby end at once."""
    primary, standby = scene.cluster.primary(), scene.cluster.standbys()[0]
    with _killed(standby, "database"):
        _is_given_up(primary, standby)
        yield


@contextlib.contextmanager
def standby_silent(scene: Scene, _customers: Customers) -> Iterator[None]:
    """A standby's cable is pulled."""
    primary, standby = scene.cluster.primary(), scene.cluster.standbys()[0]
    with _silent(standby):
        _is_given_up(primary, standby)
        yield


@contextlib.contextmanager
def etcd_without_majority(scene: Scene, customers: Customers) -> Iterator[None]:
    """etcd ends on two of the three machines; it starts again after all customers have been refused."""
    with contextlib.ExitStack() as stack:
        for machine in scene.cluster.machines[1:]:
            stack.enter_context(_killed(machine, "etcd"))
        customers.answered(REFUSED)
    yield


@contextlib.contextmanager
def new_authority(scene: Scene, _customers: Customers) -> Iterator[None]:
    """All certificates are replaced, on one machine after the other, the leader's last, as after a theft."""
    primary = scene.cluster.primary()
    scene.cluster.make_certificates("--new-authority")
    for machine in sorted(scene.cluster.machines, key=lambda machine: machine is primary):
        made = scene.cluster.checkout / "deploy/cluster/nodes" / machine.name
        shutil.copytree(made, machine.folder / "node", dirs_exist_ok=True)
        machine.compose("restart")
    yield


@contextlib.contextmanager
def app_killed(scene: Scene, _customers: Customers) -> Iterator[None]:
    """nginx and the app of one machine end at once."""
    app = scene.apps[0]
    app.kill()
    try:
        yield
    finally:
        app.start_again()


@contextlib.contextmanager
def app_silent(scene: Scene, _customers: Customers) -> Iterator[None]:
    """The cable of an app machine is pulled."""
    namespace = scene.apps[0].namespace
    namespace.pull_cable()
    try:
        yield
    finally:
        namespace.plug_in()


@contextlib.contextmanager
def key_rotation(scene: Scene, customers: Customers) -> Iterator[None]:
    """The signing key is rotated on one machine; the programs ship with the keys from before the first rotation."""
    before = scene.key_sets()
    scene.apps[0].service.cardctl("key", "rotate", "--force")
    wait_for(lambda: (now := scene.key_sets())[0] != before[0] and now[0] == now[1])
    customers.answered(ACCEPTED)
    yield


@contextlib.contextmanager
def rolling_upgrade(scene: Scene, customers: Customers) -> Iterator[None]:
    """A newer release migrates the database; then each machine is drained, stopped and started, one after the other."""
    scene.migrate_further()
    for app in scene.apps:
        app.service.cardctl("drain")
        scene.wait_until_idle(app)
        app.service.stop()
        app.service.start()
        customers.answered(ACCEPTED)
        scene.wait_until_balanced()
    yield


def _is_given_up(primary: Machine, standby: Machine) -> None:
    """Wait until commits can no longer wait for a standby."""
    wait_for(lambda: standby.name not in primary.psql("SHOW synchronous_standby_names"))


@contextlib.contextmanager
def _killed(machine: Machine, *services: str) -> Iterator[None]:
    machine.kill(*services)
    try:
        yield
    finally:
        machine.compose("start", *services)


@contextlib.contextmanager
def _silent(machine: Machine) -> Iterator[None]:
    machine.pull_cable()
    try:
        yield
    finally:
        machine.plug_in()


OF_THE_DATABASE: dict[str, Failure] = {
    "primary-killed": primary_killed,
    "primary-stopped": primary_stopped,
    "primary-silent": primary_silent,
    "standby-killed": standby_killed,
    "standby-silent": standby_silent,
    "etcd-without-majority": etcd_without_majority,
    "new-authority": new_authority,
}
OF_THE_APP: dict[str, Failure] = {
    "app-killed": app_killed,
    "app-silent": app_silent,
    "key-rotation": key_rotation,
    "rolling-upgrade": rolling_upgrade,
}
