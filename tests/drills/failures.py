"""What can fail, and how it comes back."""

import contextlib
import shutil
from collections.abc import Callable, Iterator

from tests.drills.customers import ACCEPTED, REFUSED, Customers
from tests.drills.scene import Failure, Machine, Scene
from tests.support.services.service import wait_for

Block = contextlib.AbstractContextManager[None]


@contextlib.contextmanager
def _undone(do: Callable[[], object], undo: Callable[[], object]) -> Iterator[None]:
    do()
    try:
        yield
    finally:
        undo()


def _killed(machine: Machine, *services: str) -> Block:
    return _undone(lambda: machine.kill(*services), lambda: machine.compose("start", *services))


def _silent(machine: Machine) -> Block:
    return _undone(machine.pull_cable, machine.plug_in)


def primary_killed(scene: Scene, _customers: Customers) -> Block:
    """PostgreSQL, Patroni and etcd of the primary's machine end at once, as in a power cut; but its ports refuse."""
    return _killed(scene.cluster.primary(), "database", "etcd")


def primary_stopped(scene: Scene, _customers: Customers) -> Block:
    """The primary's machine is stopped for work on it."""
    primary = scene.cluster.primary()
    return _undone(primary.stop, lambda: primary.compose("start"))


def primary_silent(scene: Scene, _customers: Customers) -> Block:
    """The primary's cable is pulled."""
    return _silent(scene.cluster.primary())


def standby_killed(scene: Scene, _customers: Customers) -> Block:
    """PostgreSQL and Patroni of a standby end at once."""
    return _given_up(scene, lambda standby: _killed(standby, "database"))


def standby_silent(scene: Scene, _customers: Customers) -> Block:
    """A standby's cable is pulled."""
    return _given_up(scene, _silent)


@contextlib.contextmanager
def _given_up(scene: Scene, failing: Callable[[Machine], Block]) -> Iterator[None]:
    """Let a standby fail, and wait until commits can no longer wait for it."""
    primary, standby = scene.cluster.primary(), scene.cluster.standbys()[0]
    with failing(standby):
        wait_for(lambda: standby.name not in primary.psql("SHOW synchronous_standby_names"))
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


def app_killed(scene: Scene, _customers: Customers) -> Block:
    """nginx and the app of one machine end at once."""
    return _undone(scene.apps[0].kill, scene.apps[0].start_again)


def app_silent(scene: Scene, _customers: Customers) -> Block:
    """The cable of an app machine is pulled."""
    namespace = scene.apps[0].namespace
    return _undone(namespace.pull_cable, namespace.plug_in)


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


def _by_name(*failures: Failure) -> dict[str, Failure]:
    return {failure.__name__.replace("_", "-"): failure for failure in failures}


OF_THE_DATABASE = _by_name(
    *(primary_killed, primary_stopped, primary_silent, standby_killed, standby_silent),
    *(etcd_without_majority, new_authority),
)
OF_THE_APP = _by_name(app_killed, app_silent, key_rotation, rolling_upgrade)
