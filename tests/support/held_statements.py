"""The statements of the hub's connection: noted, and held until a test lets them go on."""

from typing import Any

import pytest

from app import hub
from app.storage.hub_connection import HubConnection
from tests.support.hub_thread import HubThread


class HeldStatements:
    """Holds the first statement, and all that follow it, until `release`; `ran` has their arguments in order."""

    def __init__(self, hub_thread: HubThread, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ran: list[tuple[Any, ...]] = []
        self._hub_thread = hub_thread
        self._gate = hub_thread.call(hub.event)
        run_prepared = HubConnection.run_prepared

        def held(connection: HubConnection, name: str, *arguments: object) -> list[tuple[Any, ...]]:
            self.ran.append(arguments)
            self._gate.wait()
            return run_prepared(connection, name, *arguments)

        monkeypatch.setattr(HubConnection, "run_prepared", held)

    def release(self) -> None:
        """Let the statements go on."""
        self._hub_thread.call(self._gate.set)

    def cards(self) -> list[list[str]]:
        """The cards of each statement."""
        return [arguments[0].strip('{}"').split('","') for arguments in self.ran]

    def times(self) -> list[list[int]]:
        """For how many requests each card stands, in each statement."""
        return [[int(times) for times in arguments[4].strip("{}").split(",")] for arguments in self.ran]
