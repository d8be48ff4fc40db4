"""A copy of this checkout that runs in containers, and its scripts' libraries in bash itself."""

import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from tests.support.services.http_exchange import exchange, quiet_port
from tests.support.services.service import ROOT, question, wait_for

SECRETS = (
    *("db_password", "owner_url", "backup_url", "database_url"),
    *("kernal_data_key", "sealing_key", "keys_identity", "backup_identity"),
)
USER_IDS = 1 << 5 | 1 << 6 | 1 << 7
"""The capabilities KILL, SETGID and SETUID; see capabilities(7)."""
SERVICES = ("app", "database", "functions", "nginx", "webhooks")


def run(*command: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command; its output is what a failure shows."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
    return done


def copy_checkout(folder: Path) -> None:
    """Copies what a clone of this working tree would hold: no secrets, no data, no settings."""
    # safe.directory: the tree may be another user's.
    list_files = ("git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, run(*list_files, cwd=ROOT).stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


@contextlib.contextmanager
def rewritten(path: Path, text: str) -> Iterator[None]:
    """Overwrite a file in place for a while, as mounted files must be."""
    before = path.read_bytes()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_bytes(before)


def build_image() -> str:
    """Builds this checkout's image as Compose does, once for all stacks, and returns its ID."""
    # The engine's cache makes it one build for all processes. The lock: another checkout's tests use the same name.
    with tempfile.TemporaryDirectory() as folder, Path(tempfile.gettempdir(), "kadun-test-app.lock").open("w") as lock:
        copy_checkout(Path(folder))
        fcntl.flock(lock, fcntl.LOCK_EX)
        settings = {"KADUN_APP_IMAGE": "kadun-test-app", "KADUN_UID": "10001", "COMPOSE_PROJECT_NAME": "kadun-test-app"}
        run("docker", "compose", "build", "--quiet", "app", cwd=folder, env=os.environ | settings)
        return run("docker", "image", "inspect", "--format", "{{.Id}}", "kadun-test-app").stdout.strip()


class Stack:
    """The project's own compose file under a project name and on ports of its own."""

    def __init__(self, folder: Path, image: str = "", copy: Callable[[Path], object] = copy_checkout) -> None:
        """`image` is one that `build_image` made of this checkout; without it Compose builds one for this stack."""
        self.folder = folder
        self._image = image
        self.project = f"kadun-test-{uuid4().hex[:8]}"
        self.http_port, self.https_port = quiet_port(), quiet_port()
        self.ports = (self.http_port, self.https_port)
        ours = ("KADUN_", "COMPOSE_", "DATABASE_URL", "KERNAL_DATA_KEY")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        copy(folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def script(self, name: str, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a script of the copy's, from elsewhere."""
        return run(self.folder / "scripts" / name, *arguments, **{"env": self.environment, "cwd": "/"} | options)

    def init(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = self.script("init.sh", *arguments, check=check)
        self._tag_image()
        return done

    def _tag_image(self) -> None:
        """Gives the image the name under which Compose would build this stack's, so that it finds it built."""
        names = re.findall(r"^KADUN_APP_IMAGE=(\S+)$", self._dotenv(), re.MULTILINE)
        if self._image and names and run("docker", "image", "inspect", names[0], check=False).returncode != 0:
            run("docker", "tag", self._image, names[0])

    def _dotenv(self) -> str:
        file = self.folder / ".env"
        return file.read_text() if file.exists() else ""

    def init_anew(self, *domains: str) -> None:
        """Runs scripts/init.sh for this stack's ports and name, and for a certificate with these names."""
        ports = ("--http-port", str(self.http_port), "--https-port", str(self.https_port))
        names = (word for domain in domains for word in ("--domain", domain))
        self.init("--project", self.project, *ports, *names)

    def compose(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("docker", "compose", *arguments, check=check, cwd=self.folder, env=self.environment)

    def execute(
        self, service: str, *command: str, user: str = "", text: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command in a service's container, by the engine: `docker compose exec` takes several times as long."""
        as_user = ("--user", user) if user else ()
        return run("docker", "exec", "-i", *as_user, f"{self.project}-{service}-1", *command, check=check, input=text)

    def up(self, *options: str) -> None:
        """Brings it up and waits until it is healthy; its logs are what a failure shows."""
        done = self.compose("up", "--detach", "--wait", *options, check=False)
        if "is unhealthy" in done.stderr:  # perhaps for a moment only: scripts/lib/stack.sh, come_up
            done = self.compose("up", "--detach", "--wait", *options, check=False)
        assert done.returncode == 0, done.stderr + self.compose("logs", "--no-color").stdout

    def cardctl(self, *arguments: str) -> Any:
        """What scripts/cardctl prints as JSON, called from elsewhere."""
        return json.loads(self.script("cardctl", *arguments).stdout)

    def seal(self, source: Path, target: Path, *options: str) -> None:
        self.script("cardctl", "seal", source, "-o", target, *options)

    def new_card(self, *options: str) -> str:
        issued = self.cardctl("card", "issue", "--validity", "30d", "--count", "1", "--format", "json", *options)
        return str(issued[0]["id"])

    def bound_client(self, card: str) -> dict[str, Any]:
        client = self.cardctl("card", "show", card, "--format", "json")["client"]
        assert isinstance(client, dict)
        return client

    def as_role(self, role: str, *command: str, text: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a PostgreSQL program as owner, backup or app, where the vendor's scripts run it."""
        return self.execute("database", "as-role", role, *command, text=text, check=check)

    def listening(self) -> set[str]:
        """Where its processes listen, by TCP and UDP."""
        pids = {f"pid={pid}," for service in SERVICES for pid, _ in self.processes(service)}
        shown = run("ss", "--no-header", "--listening", "--numeric", "--processes", "--tcp", "--udp").stdout
        return {line.split()[4] for line in shown.splitlines() if any(pid in line for pid in pids)}

    def require_no_rights(self, service: str) -> None:
        """Asserts that no process of a service has any right, but for those that it needs."""
        for pid, status in self.processes(service):
            assert status["NoNewPrivs"] == "1", service
            if service == "nginx" and pid == self.inspect("nginx")["State"]["Pid"]:
                continue  # the master: it binds the ports and reads the key, and talks to nobody
            if service == "functions":  # it gives each call a user ID of its own: test_functions.py
                assert int(status["CapEff"], 16) | USER_IDS == USER_IDS
                continue
            assert "0" not in status["Uid"].split(), f"{service} runs a process as root"
            assert int(status["CapEff"], 16) == 0, service

    def reload_nginx(self) -> None:
        """Reloads nginx, and waits until its workers are new ones."""

        def workers() -> set[int]:
            return {pid for pid, status in self.processes("nginx") if "0" not in status["Uid"].split()}

        before = wait_for(workers)
        self.compose("exec", "-T", "nginx", "nginx", "-s", "reload")
        wait_for(lambda: (now := workers()) and not now & before)

    def sql(self, role: str, statement: str, database: str = "kadun") -> str:
        """What a statement returns, unadorned, its rows on lines."""
        options = ("-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose")
        return self.as_role(role, "--database", database, "psql", *options, text=statement).stdout.strip()

    def contents(self) -> str:
        question = (ROOT / "scripts/lib/contents.sql").read_text()
        return self.as_role("owner", "psql", "-qAt", text=question).stdout

    def connection(self) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=self.folder / "https_certificates/fullchain.pem")
        return http.client.HTTPSConnection("localhost", self.https_port, timeout=60, context=context)

    def verify(self, card: str, hardware: str) -> dict[str, Any]:
        body = json.dumps(question(card, hardware)).encode()
        headers = {"Content-Type": "application/json"}
        answer: dict[str, Any] = exchange(self.connection(), "POST", "/v1/verify", body, headers).json()
        return answer

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run("docker", "inspect", f"{self.project}-{service}-1").stdout)[0]
        return found

    def processes(self, service: str) -> Iterator[tuple[int, dict[str, str]]]:
        """The service's processes, by their numbers on the host, each with what /proc says of its status.

        Health checks, and other commands that are executed in the container, are left out.
        """
        container = self.inspect(service)
        main, found = str(container["State"]["Pid"]), {}
        for pid in run("docker", "top", container["Id"], "-eo", "pid").stdout.split()[1:]:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                found[pid] = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        for pid, status in found.items():
            ancestor = pid
            while ancestor in found and ancestor != main:
                ancestor = found[ancestor]["PPid"]
            if ancestor == main:
                yield int(pid), status

    def remove(self) -> None:
        if (self.folder / ".env").exists():
            self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)
            run("docker", "image", "rm", "--force", f"{self.project}-app", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


# scripts/lib/, with functions in place of the database and the engine that answer what a test wants.
SOURCES = "archive replace"
PRELUDE = """
set -euo pipefail
ROOT=$1
for module in {sources}; do source "$ROOT/scripts/lib/$module.sh"; done
LIVE=kadun STAGED=$ROOT/data/staged BACKUP_FOLDER=$ROOT/data
owner_sql() {{ # what the test says that the database answers to this
    printf '%s\\n' "$1: $2" >>"$ROOT/asked"
    answer "$1" "$2"
}}
"""


def checkout_in(folder: Path) -> Path:
    """Return a checkout with the scripts and without a service."""
    for name in ("scripts", "deploy/postgres"):
        shutil.copytree(ROOT / name, folder / name)
    version = "client/src/kadun/version.py"
    (folder / version).parent.mkdir(parents=True)
    shutil.copy(ROOT / version, folder / version)
    (folder / "data/keys").mkdir(parents=True)
    (folder / ".env").touch()
    return folder


def fresh_checkout(folder: Path) -> Path:
    return checkout_in(Path(tempfile.mkdtemp(dir=folder)))


def bash(checkout: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = ("bash", "-c", PRELUDE.format(sources=SOURCES) + code, "script.sh", checkout)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def functions_of(checkout: Path, script: str, *names: str) -> str:
    """Return the text of functions in a script that cannot be sourced."""
    text = (checkout / "scripts" / script).read_text()
    return "".join(text[text.index(f"\n{name}() {{") :].partition("\n}\n")[0] + "\n}\n" for name in names)
