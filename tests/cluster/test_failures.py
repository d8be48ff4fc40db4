"""Machines fail under load: no accepted activation is lost, and customers are told to try again."""

from collections.abc import Iterator

import pytest

from tests.drills.failures import OF_THE_APP, OF_THE_DATABASE
from tests.drills.scene import Scene


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene(tmp_path_factory.mktemp("scene")) as made:
        yield made


@pytest.mark.parametrize("name", OF_THE_APP)
def test_no_start_of_a_program_fails_when_an_app_machine_does(scene: Scene, name: str) -> None:
    outcome = scene.suffer(OF_THE_APP[name], by_sdk=True)
    assert (outcome.lost, outcome.activated_twice, outcome.odd) == (0, 0, [])


@pytest.mark.parametrize("name", OF_THE_DATABASE)
def test_a_failure_of_the_database_loses_nothing_and_heals_by_itself(scene: Scene, name: str) -> None:
    outcome = scene.suffer(OF_THE_DATABASE[name])
    assert (outcome.lost, outcome.activated_twice, outcome.odd) == (0, 0, [])
    if not name.startswith("standby"):
        assert outcome.refused > 0
