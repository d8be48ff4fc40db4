"""Started as root, the functions service gives each call a user of its own: hostile functions reach no other call."""
# Owns functions-isolation.

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.functions.decorator import Caller
from app.functions.messages import Failed, Outcome, Returned
from app.functions.places import IDS
from tests.support.functions import intruders
from tests.support.hosts.rendezvous import Rendezvous
from tests.support.services.functions_service import WELL, FunctionsService, free_user_ids
from tests.support.services.processes import children_of, users_of
from tests.support.services.service import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give calls user IDs; the containers do")


@pytest.fixture(scope="module")
def first_uid() -> int:
    return free_user_ids()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory, first_uid: int) -> Iterator[FunctionsService]:
    folder = tmp_path_factory.mktemp("attacked")
    (folder / "private").write_text("the service's own")
    (folder / "private").chmod(0o600)
    settings = {"KADUN_FUNCTION_FIRST_UID": str(first_uid), "KADUN_FUNCTION_SECONDS": "120"}
    service = FunctionsService(folder, **settings).with_hostile_functions()
    with service.with_module("intruders", Path(intruders.__file__).read_text()):
        yield service


class Victim:
    """A customer's call that is under way."""

    def __init__(self, service: FunctionsService, *, has_child: bool = False) -> None:
        self._rendezvous = Rendezvous()
        self._outcomes: list[Outcome] = []
        arguments = {"secret": intruders.SECRET, "port": self._rendezvous.port, "has_child": has_child}
        caller = Caller("v" * 32, "v" * 32, None)
        self._thread = threading.Thread(
            target=lambda: self._outcomes.append(service.client.call("victim", arguments, caller, "192.0.2.1").outcome)
        )
        self._thread.start()
        self.folder = Path(self._rendezvous.report())

    def outcome(self) -> Outcome:
        self.close()
        return self._outcomes[0]

    def close(self) -> None:
        self._rendezvous.close()
        self._thread.join()


@pytest.fixture
def victim(attacked: FunctionsService) -> Iterator[Victim]:
    with contextlib.closing(Victim(attacked)) as victim:
        yield victim


@pytest.mark.parametrize("function", intruders.NOTHING)
def test_a_hostile_function_reaches_nothing_but_its_own_place(
    attacked: FunctionsService, victim: Victim, first_uid: int, function: str
) -> None:
    private = attacked.modules.parent / "private"
    paths = [str(private), str(victim.folder), "/root", "/etc/shadow", "/proc/1/root", "/proc/1/cwd/"]
    outcome = attacked.call(function, socket=str(attacked.socket), first_uid=first_uid, paths=paths)
    assert outcome == Returned([])
    assert victim.outcome() == Returned(intruders.SECRET)
    wait_for(attacked.is_idle)
    wait_for(lambda: users_of(range(first_uid, first_uid + IDS)) == [])
    assert attacked.call("finds what others left", first_uid=first_uid) == Returned([])
    assert attacked.socket.stat().st_uid == 0
    assert attacked.socket.stat().st_mode & 0o007 == 0


def test_a_call_whose_supervisor_dies_is_ended_and_its_place_is_cleared_before_the_next_one(tmp_path: Path) -> None:
    first = free_user_ids()
    ids = range(first, first + IDS)
    with FunctionsService(tmp_path, KADUN_FUNCTION_FIRST_UID=str(first)) as service:
        service.with_module("intruders", Path(intruders.__file__).read_text())
        service.client.reload()
        with contextlib.closing(Victim(service, has_child=True)) as victim:
            (supervisor,) = [of for of in users_of(ids) if any(children_of(child) for child in children_of(of))]
            os.kill(supervisor, signal.SIGKILL)
            assert isinstance(victim.outcome(), Failed)
        wait_for(lambda: len(users_of(ids)) == 1)  # the child
        assert victim.folder.exists()
        assert service.call("reads files", paths=[str(victim.folder)]) == Returned([])
        wait_for(lambda: users_of(ids) == [])
        assert not victim.folder.exists()


def test_without_user_ids_calls_have_the_services_user_and_the_start_says_so(tmp_path: Path) -> None:
    with FunctionsService(tmp_path, KADUN_FUNCTION_FIRST_UID="").with_module("well", WELL) as service:
        assert (
            "functions are not isolated from one another: KADUN_FUNCTION_FIRST_UID is not set"
            in service.log.read_text()
        )
        assert wait_for(lambda: service.call("well")) == Returned({})
