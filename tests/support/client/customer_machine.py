"""A customer's machine: its clock, the program that starts there again and again, and what it stores."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from kadun import CardRejected, KadunError, ServerUnreachable, UntrustedAnswer
from kadun.store import StateStore

from tests.support.client.fake_server import CARD, HARDWARE, NOW, reject
from tests.support.client.offline import no_network, plug_in, unplug

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kadun import Client, Verdict
    from kadun.store import CachedVerdict

    from tests.support.client.fake_server import FakeServer
    from tests.support.client.offline import MakeClient


class Machine:
    """`now` is its clock. `store` and `keys_file` are the files of the program, which the customer can write, too."""

    def __init__(self, make_client: MakeClient, server: FakeServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.now = float(NOW)
        self.store = StateStore(folder, "kadun", "kadun", CARD)
        self.keys_file = StateStore(folder, "kadun", "kadun")
        self._make_client = make_client

    def run(self, **changes: Any) -> Client:
        """Start the program."""
        return self._make_client(**{"state_dir": self.folder, "clock": lambda: self.now, **changes})

    def open(self, **changes: Any) -> Verdict:
        """Start and open the program."""
        return self.run(**changes).open()

    def rejects(self, client: Client | None = None, code: str = "CARD_FROZEN", **claims: Any) -> CardRejected:
        """Open the program, while the server rejects the card from now on."""
        self.server.tweak = reject(code, **claims)
        with pytest.raises(CardRejected) as caught:
            (client or self.run()).open()
        return caught.value

    def starts_offline(self, client: Client | None = None, answer: Any = no_network, **changes: Any) -> bool:
        """Open the program while the server cannot be reached, and every request gets this answer."""
        unplug(self.server, answer)
        try:
            return (client or self.run(**changes)).open().offline
        except (ServerUnreachable, UntrustedAnswer):
            return False
        finally:
            plug_in(self.server)

    def fails_offline(
        self, error: type[KadunError] = ServerUnreachable, answer: Any = no_network, **changes: Any
    ) -> KadunError:
        """Do the same, and return the error that the program gets."""
        unplug(self.server, answer)
        with pytest.raises(error) as caught:
            self.open(**changes)
        plug_in(self.server)
        return caught.value

    @property
    def cached(self) -> CachedVerdict:
        """The stored verdict."""
        cached = self.store.load(HARDWARE).cached
        assert cached is not None
        return cached

    def put(self, **changes: Any) -> None:
        """Change the stored verdict."""
        cached = replace(self.cached, **changes)
        self.store.save(replace(self.store.load(HARDWARE), cached=cached), HARDWARE)

    @property
    def files(self) -> list[Path]:
        """All but the lock, which is empty."""
        found = self.folder.iterdir() if self.folder.is_dir() else iter(())
        return [path for path in found if path.name != "lock" or path.stat().st_size]

    @property
    def file(self) -> Path:
        """The only file."""
        (path,) = self.files
        return path


@contextmanager
def full_disk(most_bytes: int = 0) -> Iterator[None]:
    """No file can grow beyond this, as on a full disk: the system itself refuses to write (RLIMIT_FSIZE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
