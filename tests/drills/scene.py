"""Two app machines behind HAProxy, on a database of three machines, and customers who only know the balancer."""

import contextlib
import http.client
import itertools
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, Self
from unittest.mock import patch

import jwt
import kadun
import psycopg2
import pyrage

from app.storage import schema
from app.storage.database import Database
from tests.drills.customers import ACCEPTED, FAILED, REFUSED, Customers, Reply, machine_of
from tests.support.hosts.database_cluster import DatabaseCluster
from tests.support.hosts.network import Namespace
from tests.support.hosts.stack import run
from tests.support.services.http_exchange import exchange, quiet_port
from tests.support.services.nginx import Gateway
from tests.support.services.service import ROOT, question, wait_for
from tests.support.services.socket_service import SocketService

CARDS = 20_000
PORTS = (10_080, 10_443)
"""Of nginx on each app machine, which has a network of its own."""
_ACTIVATED = """
SELECT card.id, client.hardware, client.ip, (SELECT count(*) FROM event WHERE card_id = card.id AND kind = 'activated')
FROM card JOIN client ON client.card_id = card.id WHERE card.id = ANY (%s) AND is_activated
"""


class AppMachine:
    """nginx on a machine of its own as far as the network goes, and the app behind it."""

    def __init__(self, folder: Path, database_url: str, identity: str) -> None:
        self._stack = contextlib.ExitStack()
        folder.mkdir()
        self.namespace = self._stack.enter_context(Namespace())
        keys = {"KADUN_KEYS": "database", "KADUN_KEYS_IDENTITY": identity}
        self.service = SocketService(folder, database_url, **keys)
        self.nginx = Gateway(
            folder / "nginx",
            self.service.socket,
            ports=PORTS,
            KADUN_PROXY_PROTOCOL="true",
            KADUN_PROXY_FROM=self.namespace.host_ipv4,
        )
        self.nginx.host = self.namespace.ipv4
        self.nginx.prefix = ("ip", "netns", "exec", self.namespace.name)

    def start(self) -> None:
        self.service.start()
        self._stack.callback(self.service.stop)
        self._stack.enter_context(self.nginx)

    def stop(self) -> None:
        self._stack.close()

    def kill(self) -> None:
        for pid in (self.nginx.pid, *self.nginx.workers()):
            os.kill(pid, signal.SIGKILL)
        self.service.kill()

    def start_again(self) -> None:
        self.nginx.__exit__()
        self.nginx.__enter__()
        self.service.start()

    def served(self) -> int:
        return sum(line["path"] == "/v1/verify" for line in self.nginx.access_log())


class Outcome(NamedTuple):
    """What customers saw of one failure; times in seconds."""

    activations_stopped: float
    verifications_stopped: float
    all_back: float
    longest_answer: float
    refused: int
    accepted: int
    lost: int
    activated_twice: int
    odd: list[str]
    """Answers that are neither accepted nor 503 with Retry-After; of the SDK, openings that failed."""


Failure = Callable[["Scene", Customers], contextlib.AbstractContextManager[None]]


class Scene:
    """The machines, and cards to activate."""

    def __init__(self, folder: Path, *, nodes: int = 3) -> None:
        self._folder = folder
        self._port = quiet_port()
        self._stack = contextlib.ExitStack()
        self.cluster = DatabaseCluster(folder / "cluster", nodes=nodes)
        self._balancer = self.cluster.checkout / "deploy/cluster/balancer"
        self.apps: list[AppMachine] = []
        self._migrations = itertools.count()

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(self.cluster)
            identity = str(pyrage.x25519.Identity.generate())
            for name in ("app1", "app2"):
                url = self.cluster.url()
                self.apps.append(AppMachine(self._folder / name, url, identity))
                self._stack.callback(self.apps[-1].stop)
            first, second = self.apps
            for name in ("fullchain.pem", "privkey.pem"):  # as scripts/migrate-to.sh --join copies them
                (second.nginx.certificates / name).write_bytes((first.nginx.certificates / name).read_bytes())
            SocketService(self._folder, self.cluster.url("owner")).cardctl("migrate")
            for app in self.apps:
                app.start()
            self._start_balancer()
            self._cards = iter(first.service.issue(CARDS))
            self._keys = first.service.cardctl("key", "export").stdout
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_balancer(self) -> None:
        folder = self._balancer
        settings = {
            "COMPOSE_PROJECT_NAME": f"kadun-test-{secrets.token_hex(4)}",
            "KADUN_BALANCER_IMAGE": "kadun-test-balancer",
            **{f"KADUN_APP{number}": app.namespace.ipv4 for number, app in enumerate(self.apps, 1)},
            "KADUN_APP_HTTP_PORT": str(PORTS[0]),
            "KADUN_APP_HTTPS_PORT": str(PORTS[1]),
            "KADUN_HTTP_PORT": str(quiet_port()),
            "KADUN_HTTPS_PORT": str(self._port),
        }
        (folder / ".env").write_text("".join(f"{name}={text}\n" for name, text in settings.items()))
        self._stack.callback(run, "docker", "compose", "down", "--timeout", "1", cwd=folder, check=False)
        run("docker", "compose", "up", "--detach", "--build", "--wait", cwd=folder)

    @property
    def _certificate(self) -> Path:
        return self.apps[0].nginx.certificates / "fullchain.pem"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._port))

    def verify(self, card_id: str) -> Reply:
        """One request, as a program without the SDK sends it."""
        context = ssl.create_default_context(cafile=self._certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=120, context=context)
        headers = {"Content-Type": "application/json"}
        body = json.dumps(question(card_id, machine_of(card_id))).encode()
        answer = exchange(connection, "POST", "/v1/verify", body, headers)
        if answer.status != ACCEPTED:
            return Reply(answer.status, retry_after="retry-after" in answer.headers)
        claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
        return Reply(ACCEPTED, activated=claims["activated"])

    def open(self, card_id: str) -> Reply:
        """One start of a program with the SDK, which asks again by itself."""
        client = kadun.Client(
            f"https://127.0.0.1:{self._port}", self._keys, card_id,
            hardware=machine_of(card_id), ca_file=self._certificate, state_dir=None,
        )  # fmt: skip
        try:
            return Reply(ACCEPTED, activated=client.open().activated)
        except kadun.KadunError as error:
            return Reply(FAILED, why=repr(error))

    def suffer(self, failure: Failure, *, by_sdk: bool = False) -> Outcome:
        """Let a failure happen under load, wait until all are served, heal it, and count."""
        with Customers(self.open if by_sdk else self.verify, self._cards) as customers:
            customers.answered(ACCEPTED)
            began = time.monotonic()
            with failure(self, customers):
                customers.answered(ACCEPTED)
            self.cluster.settled()
            self.wait_until_balanced()
        lost, twice = self._compare(customers.told)
        if customers.odd:
            logs = [run("docker", "compose", "logs", "--no-color", cwd=self._balancer, check=False).stdout]
            print(*logs, *(app.service.log.read_text() for app in self.apps), sep="\n")  # noqa: T201
        return Outcome(
            activations_stopped=customers.longest_wait(began, first=True),
            verifications_stopped=customers.longest_wait(began, first=False),
            all_back=customers.seconds_until_all_are_back(began),
            longest_answer=max(answer.seconds for answer in customers.answers),
            refused=customers.statuses[REFUSED],
            accepted=customers.statuses[ACCEPTED],
            lost=lost,
            activated_twice=twice,
            odd=[
                f"{odd.at - began:.1f} s after it began, having taken {odd.seconds:.1f} s: {odd.reply}"
                for odd in customers.odd
            ],
        )

    def key_sets(self) -> list[bytes]:
        """The published keys, as each app machine has them."""
        return [app.service.ask_directly("/.well-known/jwks.json") for app in self.apps]

    def migrate_further(self) -> None:
        """Migrate the database as a release after this one would."""
        number = int(schema.expected_version()[:4]) + 1 + next(self._migrations)
        folder = self._folder / "migrations"
        shutil.copytree(ROOT / "app/storage/migrations", folder, dirs_exist_ok=True)
        (folder / f"{number:04d}_drill.sql").write_text(f"CREATE TABLE drill_{number} (id int);")
        with patch.object(schema, "_FOLDER", folder):
            schema.migrate(Database(self.cluster.url("owner"), bulk=True), lambda _line: None)

    def wait_until_idle(self, app: AppMachine) -> None:
        def is_idle() -> bool:
            before = app.served()
            time.sleep(1)
            return app.served() == before

        wait_for(is_idle, 60)

    def wait_until_balanced(self) -> None:
        before = [app.served() for app in self.apps]
        wait_for(lambda: all(app.served() > count + 10 for app, count in zip(self.apps, before, strict=True)))

    def _compare(self, told: Mapping[str, int]) -> tuple[int, int]:
        """Return how many accepted activations are lost, and how many cards were activated twice."""
        with contextlib.closing(psycopg2.connect(self.cluster.url())) as connection, connection.cursor() as cursor:
            cursor.execute(_ACTIVATED, (list(told),))
            found = {card_id: rest for card_id, *rest in cursor}
        # Through balancer and nginx each customer has the address of this machine's own end of the connection.
        lost = sum(found.get(card_id) != [machine_of(card_id), "127.0.0.1", 1] for card_id in told)
        return lost, sum(times > 1 for times in told.values())
