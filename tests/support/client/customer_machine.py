"""A customer's machine: its clock, the program that starts there again and again, and what it stores.

Also the server's side of it: a grace period for offline starts, a lost network, and keys over several rotations.
"""

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import kadun
import pytest
from kadun import CardRejected, Client, KadunError, ServerUnreachable, UntrustedAnswer, Verdict
from kadun.keys import Floor
from kadun.responses import Response
from kadun.store import CachedVerdict, State, StateStore

from tests.support.client import fake_server
from tests.support.client.fake_server import CARD, HARDWARE, ISSUER, NOW, FakeServer, SigningKey, Tweak, pinned

SOURCES = Path(kadun.__file__).parent.parent
MINUTE, HOUR, DAY = 60, 3600, 86_400
GRACE = 7 * DAY
YEAR_2100 = 4_102_444_800.0
CORE = "汇率表".encode()
OTHER_CARD = "F" * 32
REPLACED, UNKNOWN = "a later key has replaced", "neither pinned nor endorsed"
MakeClient = Callable[..., Client]


def at(now: int) -> Tweak:
    """The genuine server at this time: the card is valid for a month, and offline starts are allowed for a week."""

    def tweak(claims: dict[str, Any]) -> None:
        claims.update(iat=now, exp=now + 300, card_expires_at=NOW + 30 * DAY)
        if claims["function"] == fake_server.OPEN:
            claims["offline_until"] = now + GRACE

    return tweak


def no_network(_request: dict[str, Any]) -> ServerUnreachable:
    return ServerUnreachable("no route")


def unplug(server: FakeServer, answer: Any = no_network) -> None:
    server.script = [answer] * 10_000
    server.key_set = answer if isinstance(answer, Response) else None


def refused(client: Client, error: type[KadunError] = ServerUnreachable) -> Any:
    with pytest.raises(error) as caught:
        client.open()
    return caught.value


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
        return self._make_client(**{"state_dir": self.folder, "clock": lambda: self.now, **changes})

    def open(self, **changes: Any) -> Verdict:
        return self.run(**changes).open()

    def rejects(self, client: Client | None = None, code: str = "CARD_FROZEN", **claims: Any) -> CardRejected:
        """Open the program, while the server rejects the card from now on."""
        self.server.tweak = fake_server.reject(code, **claims)
        error: CardRejected = refused(client or self.run(), CardRejected)
        return error

    def starts_offline(self, client: Client | None = None, answer: Any = no_network, **changes: Any) -> bool:
        """Open the program while the server cannot be reached, and every request gets this answer."""
        unplug(self.server, answer)
        try:
            return (client or self.run(**changes)).open().offline
        except (ServerUnreachable, UntrustedAnswer):
            return False
        finally:
            self.server.script, self.server.key_set = [], None

    def fails_offline(
        self, error: type[KadunError] = ServerUnreachable, answer: Any = no_network, **changes: Any
    ) -> KadunError:
        """Do the same, and return the error that the program gets."""
        unplug(self.server, answer)
        failure: KadunError = refused(self.run(**changes), error)
        self.server.script, self.server.key_set = [], None
        return failure

    @property
    def cached(self) -> CachedVerdict:
        cached = self.store.load(HARDWARE).cached
        assert cached is not None
        return cached

    def put(self, **changes: Any) -> None:
        """Change the stored verdict, as a customer can."""
        cached = replace(self.cached, **changes)
        self.store.save(replace(self.store.load(HARDWARE), cached=cached), HARDWARE)

    @property
    def files(self) -> list[Path]:
        found = self.folder.iterdir() if self.folder.is_dir() else iter(())
        return [path for path in found if path.name != "lock" or path.stat().st_size]

    @property
    def file(self) -> Path:
        (path,) = self.files
        return path


def python(code: str, *arguments: object) -> str:
    """Run the code in a Python of its own, which must print no warning; return what it printed."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    environment = {"PYTHONPATH": str(SOURCES), "NO_PROXY": "*"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def full_disk(most_bytes: int = 0) -> Iterator[None]:
    """No file can grow beyond this, as on a full disk: the system itself refuses to write (RLIMIT_FSIZE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Rotations(Machine):
    """The vendor's keys, oldest first, and a server that signs with the one before the last: the last is the next.

    The machine has the program's first release.
    """

    def __init__(self, make_client: MakeClient, server: FakeServer, folder: Path) -> None:
        super().__init__(make_client, server, folder)
        self.keys = [server.key, SigningKey()]
        self.publish(server.key)
        self._first_release = self.release

    @property
    def release(self) -> dict[str, Any]:
        """What a release of this moment pins: the current key and the next."""
        return pinned(*self.keys[-2:])

    def rotate(self, times: int = 1) -> None:
        self.keys += [SigningKey() for _ in range(times)]
        self.publish(self.keys[-2])

    def publish(self, current: SigningKey) -> None:
        self.server.key = current
        pairs = zip(self.keys, self.keys[1:], strict=False)
        self.server.endorsements = [old.endorse(new.jwk, iss=ISSUER) for old, new in pairs]

    def forge(self, stolen: SigningKey, successor: SigningKey | None = None) -> None:
        """Serve the thief's verdicts: by the stolen key, or by a key that it endorses."""
        self.server.key = successor or stolen
        self.server.endorsements = [stolen.endorse(successor.jwk, iss=ISSUER)] if successor else []

    def run(self, **changes: Any) -> Client:
        return super().run(**{"public_keys": self._first_release, **changes})

    def sees(self, rotations: int) -> None:
        """Open the program after so many rotations, and wait until earlier keys no longer count."""
        self.rotate(rotations)
        assert self.accepts()
        self.now += 20 * MINUTE

    def accepts(self, client: Client | None = None) -> bool:
        return (client or self.run()).open().accepted

    def refuses(self, why: str, client: Client | None = None) -> None:
        with pytest.raises(UntrustedAnswer, match=why):
            (client or self.run()).open()

    def refuses_thief(
        self, stolen: SigningKey, successor: SigningKey | None = None, client: Client | None = None, why: str = REPLACED
    ) -> None:
        self.forge(stolen, successor)
        self.refuses(why, client)

    @property
    def stored(self) -> State:
        return self.keys_file.load(HARDWARE)

    @stored.setter
    def stored(self, state: State) -> None:
        self.keys_file.save(state, HARDWARE)

    @property
    def stored_floor(self) -> Floor:
        assert self.stored.floor is not None
        return self.stored.floor
