"""A server inside the test process: genuine answers, or what the test says, signed by the conformance kit's forger.

And a customer's machine: its clock, the program that starts there again and again, and what it stores; a lost network;
and keys over several rotations.
"""

import json
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
from kadun_conformance.crypto import SigningKey
from kadun_conformance.forger import OPEN, Forger, Vendor

ISSUER = "kadun"
CARD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
HARDWARE = "machine-1"
NOW = 1_760_000_000
REPORT = "导出报表"  # a function other than OPEN
Tweak = Callable[[dict[str, Any]], None]
__all__ = ["OPEN", "SigningKey"]


def pinned(*keys: SigningKey) -> dict[str, Any]:
    """What `cardctl key export` prints."""
    return {"iss": ISSUER, "keys": [key.jwk for key in keys]}


def forger_for(request: dict[str, Any], data_key: str = "the key", body: bytes = b"") -> Forger:
    return Forger(Vendor(issuer=ISSUER, identity=data_key, now=NOW), request, body=body)


def claims_for(request: dict[str, Any], data_key: str = "the key", body: bytes = b"") -> dict[str, Any]:
    """The claims of the genuine server for an accepted request."""
    return forger_for(request, data_key, body).claims(jti="jti-of-this-answer-REF45678")


def reject(code: str, **changes: Any) -> Tweak:
    """Turn an acceptance into the genuine server's rejection, with changed claims."""

    def tweak(claims: dict[str, Any]) -> None:
        claims.update(code=code, accepted=False)
        claims.pop("KERNAL_DATA_KEY_SEALED", None)
        if code != "CARD_EXPIRED":
            del claims["card_activated_at"], claims["card_expires_at"]
        claims.update(changes)

    return tweak


def setting(**changes: Any) -> Tweak:
    return lambda claims: claims.update(changes)


def verdict_response(token: str) -> Response:
    """A verdict, in a body whose unsigned words mean nothing."""
    return Response(200, json.dumps({"code": "CARD_FROZEN", "message": "unsigned words", "token": token}).encode())


def problem(
    status: int, code: object, detail: str = "", content_type: str = "application/problem+json", **members: Any
) -> Response:
    """The genuine server's refusal of a malformed request."""
    return Response(status, json.dumps({"code": code, "detail": detail, **members}).encode(), content_type=content_type)


def card_status(http_status: int = 200, /, **changes: Any) -> Response:
    card = {"status": "active", "expires_at": None, "bound": True, "unbinds_left": 1, "next_unbind_at": None}
    return Response(http_status, json.dumps({**card, **changes}).encode(), content_type="application/json")


class FakeServer:
    """A transport. `script` comes before the genuine answers, one entry for each request.

    An entry is a `Response`, an exception to raise, or a function from the request to either.
    """

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self.data_key = "the key"
        self.tweak: Tweak = lambda _claims: None
        self.endorsements: list[Any] = []
        self.key_set: Response | Exception | None = None
        self.script: list[Any] = []
        self.requests: list[dict[str, Any]] = []
        self.bodies: dict[str, bytes] = {}  # by nonce, because requests come from several threads
        self.paths: list[str] = []

    def exchange(self, path: str, body: bytes | None, language: str) -> Response:
        self.paths.append(path)
        self.language = language
        if body is None:
            document = {"keys": [self.key.jwk], "endorsements": self.endorsements}
            if isinstance(self.key_set, Exception):
                raise self.key_set
            return self.key_set or Response(200, json.dumps(document).encode())
        request = json.loads(body)
        self.requests.append(request)
        self.bodies[request.get("nonce", path)] = body  # self-service sends no nonce
        entry = self.script.pop(0) if self.script else self.genuine
        answer = entry(request) if callable(entry) else entry
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, Response)
        return answer

    def genuine(self, request: dict[str, Any]) -> Response:
        """The answer that the test's `tweak` leaves; signed with `key`."""
        claims = claims_for(request, self.data_key, self.bodies.get(request["nonce"], b""))
        self.tweak(claims)
        return verdict_response(self.key.token(claims))

    def saying(self, tweak: Tweak) -> Callable[[dict[str, Any]], Response]:
        """A genuine answer with other claims, for `script`; the following answers have them, too."""

        def answer(request: dict[str, Any]) -> Response:
            self.tweak = tweak
            return self.genuine(request)

        return answer

    def rotate(self, times: int = 1) -> None:
        """Sign with a new key from now on, endorsed by the one before."""
        for _ in range(times):
            successor = SigningKey()
            self.endorsements.append(self.key.endorse(successor.jwk, iss=ISSUER))
            self.key = successor


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
        if claims["function"] == OPEN:
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
        self.server.tweak = reject(code, **claims)
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
