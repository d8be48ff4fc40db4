"""export.sh --join and init.sh --join: what a machine that joins gets, and what is refused."""

import io
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest

from app.tokens import keyring, sealing
from app.tokens.keys import KeyRing
from app.version import read_version
from scripts.lib import archive
from tests.support.archives import rewritten, signed_by, strangers_ring, unsigned
from tests.support.http_exchange import quiet_port
from tests.support.script_libraries import checkout_in

Change = Callable[[bytes], bytes]
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


def _ports() -> list[str]:
    return ["--http-port", str(quiet_port()), "--https-port", str(quiet_port())]


class Machines:
    """A checkout that serves, another that may join it, and what the database and the engine would answer."""

    def __init__(self, folder: Path) -> None:
        self.fake, self.first = folder / "fake", folder / "first"
        self.environment = os.environ | {"PATH": f"{self.fake / 'bin'}:{os.environ['PATH']}", "FAKE": str(self.fake)}
        self.second = _checkout(folder / "second")
        self.ring = KeyRing.new(datetime.now(UTC), "kadun")
        self._bundle = b""
        (self.fake / "bin").mkdir(parents=True)
        for name, text in (("docker", ENGINE), ("stat", STAT)):
            (self.fake / "bin" / name).write_text(text)
            (self.fake / "bin" / name).chmod(0o755)
        answers = {"schema": SCHEMA, "namesakes": "0", "file-system": "ext2/ext3", "identity": IDENTITY}
        for name, text in answers.items():
            (self.fake / name).write_text(f"{text}\n")
        _checkout(self.first)
        done = self.run(self.first, "init.sh", *_ports(), "--database-host", "10.0.0.5,10.0.0.6", "--host", "first")
        assert done.returncode == 0, done.stderr
        data_key = (self.first / "secrets/keys_identity").read_text().strip()
        (self.fake / "sealed").write_text(sealing.seal_text(keyring.encoded(self.ring), data_key))
        (self.first / FUNCTION).parent.mkdir()
        (self.first / FUNCTION).write_text("PRICE = 1\n")
        for name in ("key_id", "secret"):
            (self.first / f"secrets/files_bucket_{name}").write_text(name)
        self.set(SETTINGS)

    def run(self, checkout: Path, script: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [checkout / "scripts" / script, *words],
            env=self.environment, cwd=self.fake, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            timeout=60,
        )  # fmt: skip

    def export(self) -> subprocess.CompletedProcess[str]:
        """Run export.sh --join on the first machine, into `bundle.age`."""
        recipient = str(IDENTITY.to_public())
        return self.run(self.first, "export.sh", "--join", "-o", self.fake / "bundle.age", "--recipient", recipient)

    def bundle(self, change: Change = lambda content: content) -> Path:
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
        options = ("--fingerprint", self.ring.current.kid, "--host", "second", *_ports(), *words)
        return self.run(self.second, "init.sh", "--join", bundle, *options)

    def refuse(self, bundle: Path, complaint: str, *words: str) -> None:
        """Assert that the second machine does not join, and stays as it is."""
        before = self.state()
        done = self.join(bundle, *words)
        assert (done.returncode, done.stdout, complaint in done.stderr) == (1, "", True), done.stderr
        assert self.state() == before

    def state(self) -> dict[str, bytes]:
        """Return everything in the second machine's checkout but its program."""
        return {
            name: path.read_bytes() if path.is_file() else b""
            for path in self.second.rglob("*")
            if not (name := str(path.relative_to(self.second))).startswith(("scripts", "postgres", "app"))
        }


@pytest.fixture
def machines(tmp_path: Path) -> Machines:
    return Machines(tmp_path)


def test_a_machine_that_joins_has_the_secrets_and_the_settings_and_no_data(machines: Machines) -> None:
    exported = machines.export()
    assert exported.returncode == 0, exported.stderr
    bundle, kid = machines.fake / "bundle.age", machines.ring.current.kid
    assert bundle.stat().st_mode & 0o777 == 0o600
    assert (
        f"scripts/init.sh --join 'bundle.age' --identity backup-identity.txt --fingerprint {kid}\n" in exported.stdout
    )
    assert "Delete the bundle" in exported.stdout
    done = machines.join(bundle, "--identity", str(machines.fake / "identity"))
    assert done.returncode == 0, done.stderr
    for name in (*(f"secrets/{name}" for name in SECRETS), "https_certificates/privkey.pem", FUNCTION):
        assert (machines.second / name).read_bytes() == (machines.first / name).read_bytes(), name
        if name != FUNCTION:
            assert (machines.second / name).stat().st_mode & 0o777 == 0o600, name
    assert (machines.second / "secrets/files_bucket_secret").read_text() == "secret"
    assert (machines.second / FUNCTION).stat().st_mode & 0o777 == 0o644
    found = set(machines.state())
    assert not {name for name in found if name.startswith(("data/keys/", "data/postgres", "data/files/", "data/.join"))}
    env = (machines.second / ".env").read_text()
    assert "\nKADUN_HOST=second\n" in env
    assert "10.0.0.9" not in env, "one machine alone sends certificates"
    assert "\nKADUN_OFFLINE_GRACE=12h\n" in env
    files = "docker-compose.yml:deploy/bucket.yml:docker-compose.external-database.yml"
    assert f"\nCOMPOSE_FILE={files}\n" in env
    assert "\nKADUN_NGINX_IMAGE=nginx:1.28-trixie\n" in env, "a bundle names no program"
    assert "KADUN_NGINX_IMAGE=elsewhere/nginx:1" in done.stderr
    assert "joins as second" in done.stdout
    assert "docker compose up -d --wait" in done.stdout
    runs = [call for call in (machines.fake / "calls").read_text().splitlines() if call.startswith("run ")]
    (asked,) = {call.split(" psql ")[0].partition("--entrypoint")[2] for call in runs}
    assert asked == " as-role postgres:17-trixie owner --database kadun"
    again = machines.join(bundle, "--identity", str(machines.fake / "identity"))
    assert "This checkout is initialised already, and nothing was changed" in again.stderr


@pytest.mark.nightly
def test_a_service_that_no_other_machine_could_share_is_not_exported(machines: Machines) -> None:
    settings, url = machines.first / ".env", machines.first / "secrets/owner_url"
    before, hosts = settings.read_text(), url.read_text()
    (machines.first / "data/files" / ("a" * 64)).touch()
    for setting, complaint in (
        ("KADUN_KEYS=folder", "KADUN_KEYS must be database"),
        ("KADUN_HOST=", "KADUN_HOST must be this machine's name"),
        ("KADUN_FILES_BUCKET=", "set KADUN_FILES_BUCKET and run scripts/cardctl file"),
        ("", "licensed files that are not in the bucket: run scripts/cardctl file move-to bucket"),
    ):
        machines.set(setting)
        done = machines.export()
        assert (done.returncode, complaint in done.stderr) == (1, True), done.stderr
        settings.write_text(before)
    url.write_text(hosts.replace("10.0.0.5,10.0.0.6", "database:5432"))
    assert "must name a database outside this stack's container" in machines.export().stderr
    assert not (machines.fake / "bundle.age").exists()

    (machines.fake / "file-system").write_text("nfs\n")  # a shared mount needs no bucket
    for named, warns in (("127.0.0.1:5433", True), ("10.0.0.5,localhost", True), ("127.net", False)):
        url.write_text(hosts.replace("10.0.0.5,10.0.0.6", named))
        done = machines.export()
        assert (done.returncode, "means this machine itself" in done.stderr) == (0, warns), done.stderr
        (machines.fake / "bundle.age").unlink()


@pytest.mark.nightly
def test_a_bundle_for_joining_and_one_of_a_whole_service_are_not_mixed_up(machines: Machines, tmp_path: Path) -> None:
    bundle, kid = machines.bundle(), machines.ring.current.kid
    imported = machines.run(machines.second, "import.sh", bundle, "--fingerprint", kid)
    assert "use it with scripts/init.sh --join FILE" in imported.stderr
    assert not (machines.second / ".env").exists()
    (machines.fake / "namesakes").write_text("")  # nor does another machine serve the database
    restored = machines.run(machines.first, "restore.sh", bundle)
    assert "use it with scripts/init.sh --join FILE" in restored.stderr
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "database.dump").touch()
    (whole / archive.CONTENTS).write_text(f"schema {SCHEMA}\ntable card 0 0\n")
    output = io.BytesIO()
    archive.pack(whole, {}, output)
    bundle.write_bytes(output.getvalue())
    machines.refuse(bundle, "to join, make a bundle with scripts/export.sh --join")


def test_a_bundle_that_was_changed_or_that_somebody_else_has_signed_is_refused(machines: Machines) -> None:
    """Other damage, and what a signature vouches for: tests/unit/test_archive.py and test_archive_signature.py."""
    changes: list[tuple[Change, str]] = [
        (lambda content: rewritten(content, lambda manifest: manifest.update(host="x")), "signature does not match"),
        (unsigned, "It is not signed"),
        (lambda content: content[:0] + b"age-encryption.org/v1\n-> x", "Cannot decrypt the bundle"),
        (lambda content: signed_by(content, strangers_ring(machines.fake)), "which is not one of this server's"),
    ]
    for change, complaint in changes:
        machines.refuse(machines.bundle(change), complaint)
    machines.set("KADUN_DOMAIN=$(touch /tmp/ran)")  # more such values: tests/unit/test_env_file.py
    machines.refuse(machines.bundle(), "The value of KADUN_DOMAIN must not contain $")
    careless = machines.run(machines.second, "init.sh", "--join", machines.bundle())
    assert (careless.returncode, "--join needs --fingerprint KEY" in careless.stderr) == (2, True)


def test_a_machine_that_does_not_reach_the_same_database_or_differs_stays_as_it_is(machines: Machines) -> None:
    bundle = machines.bundle()
    for fact, answer, complaint in (
        ("away", "", "does not reach the database at 10.0.0.5,10.0.0.6: let its firewall and its pg_hba.conf admit"),
        ("schema", "0099_later", f"The database's schema is 0099_later, this program's {SCHEMA}"),
        ("schema", "", "The database's schema is empty"),
        ("sealed", "", "no signing keys that open with the bundle's secrets/keys_identity"),
        ("sealed", sealing.seal_text(b"{}", str(IDENTITY)), "no signing keys that open with the bundle's"),
        ("namesakes", "1", "second is one of them: give this machine another name with --host NAME"),
    ):
        file = machines.fake / fact
        before = file.read_bytes() if file.exists() else None
        file.write_text(f"{answer}\n")
        machines.refuse(bundle, complaint)
        file.unlink() if before is None else file.write_bytes(before)
    machines.refuse(bundle, "first is one of them: give this machine another name", "--host", "first")
    (machines.second / "app/storage/migrations/0006_more.sql").touch()
    machines.refuse(bundle, f"Both machines need the same version of the program: there it is {read_version()}")


@pytest.mark.nightly
def test_an_interrupted_run_is_run_again_and_meanwhile_the_machine_does_not_go_on_alone(machines: Machines) -> None:
    """It would make signing keys of its own."""
    bundle, place = machines.bundle(), machines.second / "scripts/lib/secrets.sh"
    text = place.read_text()
    place.write_text(text + "make_secrets() { die interrupted; }\n")
    assert "interrupted" in machines.join(bundle).stderr
    assert (machines.second / "secrets/owner_url").exists()
    place.write_text(text)
    alone = machines.run(machines.second, "init.sh")
    assert "This machine has not joined yet: run scripts/init.sh --join again" in alone.stderr
    assert (alone.returncode, (machines.second / ".env").exists()) == (1, False)
    theirs, here = (one / "secrets/sealing_key" for one in (machines.first, machines.second))
    here.write_text("another\n")
    assert "secrets/sealing_key exists, and is not the bundle's: move it away" in machines.join(bundle).stderr
    assert here.read_text() == "another\n"
    here.unlink()
    assert (done := machines.join(bundle)).returncode == 0, done.stderr
    assert here.read_text() == theirs.read_text()
    assert not (machines.second / "data/.joining").exists()
    (machines.second / "data/.joining").touch()  # killed just before its end
    assert "nothing changed" in machines.run(machines.second, "init.sh").stdout
    assert not (machines.second / "data/.joining").exists()


@pytest.mark.nightly
def test_a_vendors_own_recipient_and_this_machines_mirror_stay_and_no_bundle_makes_the_service_root(
    machines: Machines,
) -> None:
    (machines.first / "secrets/backup_identity").unlink()
    (machines.first / "https_certificates/hsts.conf").touch()
    machines.set(f"KADUN_BACKUP_RECIPIENT={IDENTITY.to_public()}", "PIP_INDEX_URL=", "KADUN_UID=0")
    bundle = machines.bundle()
    (machines.second / "data").mkdir()
    (machines.second / "data/pip-index-url").write_text("https://mirror.example/simple\n")
    done = machines.join(bundle)
    assert done.returncode == 0, done.stderr
    assert "HSTS" not in done.stderr
    assert not (machines.second / "secrets/backup_identity").exists()
    env = (machines.second / ".env").read_text()
    assert "\nPIP_INDEX_URL=https://mirror.example/simple\n" in env
    assert f"\nKADUN_UID={os.geteuid() or 10001}\n" in env
