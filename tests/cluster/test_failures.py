"""Machines fail under load: no accepted activation is lost, and customers are told to try again."""
# Owns run-cluster.

import contextlib
import select
import time
from collections.abc import Iterator

import pytest

from tests.drills.failures import OF_THE_APP, OF_THE_DATABASE
from tests.drills.scene import Failure, Scene
from tests.support.services.service import wait_for

BY_DEFAULT = ("app-killed", "primary-silent")  # the others take minutes


def parametrized_by(failures: dict[str, Failure]) -> pytest.MarkDecorator:
    """Let a failure happen by default, and the others with the marker `nightly`."""
    names = [pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.nightly, id=name) for name in failures]
    return pytest.mark.parametrize("name", names)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene(tmp_path_factory.mktemp("scene")) as made:
        yield made


def test_the_balancer_accepts_128_connections_of_an_address(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(scene.connect()) for _ in range(140)]
        wait_for(lambda: len(select.select(made, [], [], 0)[0]) >= 12, 10)
        time.sleep(1)  # HAProxy's threads decide in any order: with a lower limit, more are closed by now
        assert len(select.select(made, [], [], 0)[0]) in {12, 13}  # its own check is one, at times


@parametrized_by(OF_THE_APP)
def test_no_start_of_a_program_fails_when_an_app_machine_does(scene: Scene, name: str) -> None:
    outcome = scene.suffer(OF_THE_APP[name], by_sdk=True)
    assert (outcome.lost, outcome.activated_twice, outcome.odd) == (0, 0, [])


@parametrized_by(OF_THE_DATABASE)
def test_a_failure_of_the_database_loses_nothing_and_heals_by_itself(scene: Scene, name: str) -> None:
    outcome = scene.suffer(OF_THE_DATABASE[name])
    assert (outcome.lost, outcome.activated_twice, outcome.odd) == (0, 0, [])
    if not name.startswith("standby"):
        assert outcome.refused > 0
