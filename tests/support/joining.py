"""A machine that serves, and one that may join it: checkouts, and an engine that answers as the database would."""

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import pyrage

from app.tokens import keyring, sealing
from app.tokens.keys import KeyRing
from tests.support.http_exchange import quiet_port
from tests.support.script_libraries import checkout_in

IDENTITY = pyrage.x25519.Identity.generate()
SCHEMA = "0005_release_1_1"
ENGINE = """#!/bin/bash
printf '%s\\n' "${*//$'\\n'/ }" >>"$FAKE/calls"
case "$*" in
    *to_regclass*) [[ ! -e $FAKE/away ]] || { echo 'psql: error: Connection refused' >&2; exit 2; }; echo t ;;
    *'max(name)'*) cat "$FAKE/schema" ;;
    *'SELECT sealed'*) cat "$FAKE/sealed" ;;
    *'FROM host'*) cat "$FAKE/namesakes" ;;
    'compose ps --services'*) printf '%s\\n' database app nginx ;;
esac
"""
STAT = '#!/bin/bash\n[[ $* == *--file-system* ]] || exec /usr/bin/stat "$@"\ncat "$FAKE/file-system"\n'
SETTINGS = """
KADUN_KEYS=database
KADUN_HOST=first
KADUN_OFFLINE_GRACE=12h
KADUN_FILES_BUCKET=licensed
KADUN_FILES_BUCKET_ENDPOINT=https://bucket.example
KADUN_CERTIFICATE_HOSTS=root@10.0.0.9
KADUN_NGINX_IMAGE=elsewhere/nginx:1
COMPOSE_FILE=docker-compose.yml:evil.yml
"""
FUNCTION = "data/functions/shop/prices.py"
SECRETS = (
    *("owner_url", "backup_url", "database_url"),
    *("kernal_data_key", "sealing_key", "keys_identity", "backup_identity"),
)


def _checkout(folder: Path) -> Path:
    checkout = checkout_in(folder)
    (checkout / ".env").unlink()
    shutil.rmtree(checkout / "data")
    (checkout / "https_certificates").mkdir()
    (checkout / "app/storage/migrations").mkdir(parents=True)
    (checkout / f"app/storage/migrations/{SCHEMA}.sql").touch()
    return checkout


class Machines:
    """A checkout that serves, another that may join it, and what the database and the engine would answer."""

    def __init__(self, folder: Path) -> None:
        self.fake, self.first = folder / "fake", folder / "first"
        self.environment = os.environ | {"PATH": f"{self.fake / 'bin'}:{os.environ['PATH']}", "FAKE": str(self.fake)}
        self.second = _checkout(folder / "second")
        self.ring = KeyRing.new(datetime.now(UTC), "kadun")
        self._bundle = b""

    @classmethod
    def new(cls, folder: Path) -> Self:
        """Prepare the first machine, and export its bundle."""
        machines = cls(folder)
        machines.prepare()
        machines.bundle()
        return machines

    def copy(self, folder: Path) -> "Machines":
        """Return the same machines in another folder."""
        shutil.copytree(self.fake, folder / "fake")
        shutil.copytree(self.first, folder / "first")
        machines = Machines(folder)
        machines.ring, machines._bundle = self.ring, self._bundle
        return machines

    def prepare(self) -> None:
        """Make the first machine, the engine, and what the database answers."""
        (self.fake / "bin").mkdir(parents=True)
        for name, text in (("docker", ENGINE), ("stat", STAT)):
            (self.fake / "bin" / name).write_text(text)
            (self.fake / "bin" / name).chmod(0o755)
        for name, text in (("schema", SCHEMA), ("namesakes", "0"), ("file-system", "ext2/ext3")):
            (self.fake / name).write_text(f"{text}\n")
        (self.fake / "identity").write_text(f"{IDENTITY}\n")
        _checkout(self.first)
        done = self.run(self.first, "init.sh", *self.ports(), "--database-host", "10.0.0.5,10.0.0.6", "--host", "first")
        assert done.returncode == 0, done.stderr
        data_key = (self.first / "secrets/keys_identity").read_text().strip()
        (self.fake / "sealed").write_text(sealing.seal_text(keyring.encoded(self.ring), data_key))
        with (self.first / ".env").open("a") as env:
            env.write(SETTINGS)
        (self.first / FUNCTION).parent.mkdir()
        (self.first / FUNCTION).write_text("PRICE = 1\n")
        for name in ("key_id", "secret"):
            (self.first / f"secrets/files_bucket_{name}").write_text(name)

    @staticmethod
    def ports() -> list[str]:
        """Return init.sh's options for ports that are free."""
        return ["--http-port", str(quiet_port()), "--https-port", str(quiet_port())]

    def run(self, checkout: Path, script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a script of a checkout."""
        return subprocess.run(
            [checkout / "scripts" / script, *words],
            env=self.environment, cwd=self.fake, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip

    def export(self) -> subprocess.CompletedProcess[str]:
        """Run export.sh --join on the first machine, into `bundle.age`."""
        recipient = str(IDENTITY.to_public())
        return self.run(self.first, "export.sh", "--join", "-o", self.fake / "bundle.age", "--recipient", recipient)

    def bundle(self, change: Callable[[bytes], bytes] = lambda content: content) -> Path:
        """Return a bundle in clear, as somebody has changed it."""
        if not self._bundle:
            assert (done := self.export()).returncode == 0, done.stderr
            encrypted = self.fake / "bundle.age"
            self._bundle = pyrage.decrypt(encrypted.read_bytes(), [IDENTITY])
            encrypted.unlink()
        bundle = self.fake / "bundle"
        bundle.write_bytes(change(self._bundle))
        return bundle

    def set(self, *lines: str) -> None:
        """Change the first machine's settings, for the next bundle."""
        with (self.first / ".env").open("a") as env:
            env.write("".join(f"{line}\n" for line in lines))
        self._bundle = b""

    def join(self, bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run init.sh --join on the second machine."""
        options = ("--fingerprint", self.ring.current.kid, "--host", "second", *self.ports(), *words)
        return self.run(self.second, "init.sh", "--join", bundle, *options)

    def state(self) -> dict[str, bytes]:
        """Return everything in the second machine's checkout but its program."""
        return {
            name: path.read_bytes() if path.is_file() else b""
            for path in self.second.rglob("*")
            if not (name := str(path.relative_to(self.second))).startswith(("scripts", "postgres", "app"))
        }
