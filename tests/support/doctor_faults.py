"""Faults of a running stack that `cardctl doctor` must find, and that are healed afterwards.

Those that need no host are in tests/integration/test_doctor.py.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hostfacts import cron_runs

from tests.support.service import wait_for
from tests.support.stack import Stack, run

DOMAIN = "kadun.test"
IN_THE_DATABASE = (
    *("schema", "catalog", "roles", "rights", "durability", "journal-seals", "files", "file-digests"),
    *("console", "ceilings", "tokens", "second-factors", "proxy"),
)
Statuses = dict[str, str]

Fault = Callable[[Stack], AbstractContextManager[object]]


@contextmanager
def rewritten(path: Path, text: str) -> Iterator[None]:
    """Overwrite a file in place, as mounted files must be."""
    before = path.read_bytes()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


def reload_nginx(stack: Stack) -> None:
    stack.compose("exec", "-T", "nginx", "nginx", "-s", "reload")


@contextmanager
def certificate(stack: Stack, name: str, *, days: int, served: bool) -> Iterator[None]:
    """Replace the certificate by another self-signed one, and have nginx load it or not."""
    folder = stack.folder / "https_certificates"
    files = [folder / "fullchain.pem", folder / "privkey.pem"]
    before = [file.read_bytes() for file in files]
    key = ec.generate_private_key(ec.SECP256R1())
    subject, now = x509.Name([]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=90))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files[0].write_bytes(made.public_bytes(pem))
    files[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    try:
        if served:
            reload_nginx(stack)
            wait_for(lambda: _served(stack) == made)
        yield
    finally:
        for file, content in zip(files, before, strict=True):
            file.write_bytes(content)
        reload_nginx(stack)
        wait_for(lambda: _served(stack) == x509.load_pem_x509_certificate(before[0]))


def _served(stack: Stack) -> x509.Certificate:
    command = ("openssl", "s_client", "-connect", f"127.0.0.1:{stack.https_port}")
    return x509.load_pem_x509_certificate(run(*command, input="").stdout.encode())


@contextmanager
def nginx_sends(stack: Stack, old: str, new: str) -> Iterator[None]:
    """Change what nginx sends to the app."""
    file = stack.folder / "nginx/kadun/proxy.conf"
    text = file.read_text()
    assert old in text
    try:
        with rewritten(file, text.replace(old, new)):
            _reloaded(stack)
            yield
    finally:
        _reloaded(stack)


def _reloaded(stack: Stack) -> None:
    """Reload nginx, and wait until its workers are new ones."""

    def workers() -> set[int]:
        with suppress(FileNotFoundError):  # one ended meanwhile: try again
            return {pid for pid, status in stack.processes("nginx") if "0" not in status["Uid"].split()}
        return set()

    before = wait_for(workers)
    reload_nginx(stack)
    wait_for(lambda: (now := workers()) and not now & before)


@contextmanager
def sql(stack: Stack, plant: str, heal: str) -> Iterator[None]:
    """Run statements as the database's superuser."""

    def execute(statement: str) -> None:
        stack.compose("exec", "-T", "database", "psql", "-qX", "-U", "postgres", "-d", "kadun", "-c", statement)

    execute(plant)
    try:
        yield
    finally:
        execute(heal)


@contextmanager
def stopped(stack: Stack, service: str) -> Iterator[None]:
    stack.compose("stop", "--timeout", "1", service)
    try:
        yield
    finally:
        stack.up()


@contextmanager
def nearly_full_backup_disk(stack: Stack) -> Iterator[None]:
    folder = stack.folder / "data/backups"
    aside = folder.rename(folder.with_name("aside"))
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield
    finally:
        run("umount", folder)
        folder.rmdir()
        aside.rename(folder)


def old_backup(stack: Stack) -> AbstractContextManager[None]:
    file = stack.folder / "data/backups/last-good"
    name = file.read_text().split()[1]
    return rewritten(file, f"{datetime.now(UTC) - timedelta(hours=27):%Y-%m-%dT%H:%M:%SZ} {name}\n")


@contextmanager
def backup_gone(stack: Stack) -> Iterator[None]:
    name = (stack.folder / "data/backups/last-good").read_text().split()[1]
    file = stack.folder / "data/backups" / name
    file.rename(file.with_name("aside"))
    try:
        yield
    finally:
        file.with_name("aside").rename(file)


def old_proof(stack: Stack) -> AbstractContextManager[None]:
    file = stack.folder / "data/backups/last-verified"
    name = file.read_text().split()[1]
    return rewritten(file, f"{datetime.now(UTC) - timedelta(days=9):%Y-%m-%dT%H:%M:%SZ} {name}\n")


@contextmanager
def failing_hook(stack: Stack) -> Iterator[None]:
    """Add a hook that has never run."""
    hook = stack.folder / "data/backup-hooks.d/50-away"
    hook.parent.mkdir()
    hook.touch(0o755)
    try:
        yield
    finally:
        shutil.rmtree(hook.parent)


@contextmanager
def cut_backup(stack: Stack) -> Iterator[None]:
    """Cut the last backup off."""
    name = (stack.folder / "data/backups/last-good").read_text().split()[1]
    file = stack.folder / "data/backups" / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-512])
    try:
        yield
    finally:
        file.write_bytes(whole)


@contextmanager
def altered_jobs(stack: Stack) -> Iterator[None]:
    """Remove the daily backup from the cron file."""
    stack.script("install-cron.sh")
    file = Path("/etc/cron.d") / f"kadun-{stack.project}"
    try:
        kept = [line for line in file.read_text().splitlines() if "/backup.sh" not in line]
        file.write_text("\n".join(kept) + "\n")
        yield
    finally:
        stack.script("install-cron.sh", "--remove")


def more_settings(stack: Stack, line: str) -> AbstractContextManager[None]:
    file = stack.folder / ".env"
    return rewritten(file, f"{file.read_text()}\n{line}\n")


@contextmanager
def keys_replaced(stack: Stack) -> Iterator[None]:
    """Put a copy in the place of the folder of the keys; the running containers see the old folder."""
    folder = stack.folder / "data/keys"
    aside = folder.rename(folder.with_name("aside"))
    try:
        shutil.copytree(aside, folder)
        yield
    finally:
        shutil.rmtree(folder)
        aside.rename(folder)


def secret_in_env(stack: Stack) -> AbstractContextManager[None]:
    return more_settings(stack, f"NOTE={(stack.folder / 'secrets/db_password').read_text().strip()}")


@contextmanager
def closed_files(stack: Stack) -> Iterator[None]:
    folder = stack.folder / "data/files"
    owner = folder.stat().st_uid
    os.chown(folder, 0, -1)
    try:
        yield
    finally:
        os.chown(folder, owner, -1)


@contextmanager
def broken_module(stack: Stack) -> Iterator[None]:
    module = stack.folder / "data/functions/prices.py"
    module.write_text("import nothing_of_this_name\n")
    try:
        stack.script("cardctl", "function", "reload", check=False)
        yield
    finally:
        module.unlink()
        stack.script("cardctl", "function", "reload")


@contextmanager
def altered_file(stack: Stack) -> Iterator[None]:
    """Change the bytes of a licensed file, but not their number."""
    source = stack.folder / "core.bin"
    source.write_text("core data")
    stack.script("cardctl", "file", "add", source)
    (stored,) = (file for file in (stack.folder / "data/files").iterdir() if file.read_text() == "core data")
    try:
        with rewritten(stored, "core dat4"):
            yield
    finally:
        stack.script("cardctl", "file", "remove", "core.bin")


def other_data_key(stack: Stack) -> AbstractContextManager[None]:
    return rewritten(stack.folder / "secrets/kernal_data_key", str(pyrage.x25519.Identity.generate()))


FAULTS: dict[str, tuple[Fault, Statuses]] = {
    "an expired certificate is served": (
        lambda stack: certificate(stack, DOMAIN, days=-1, served=True),
        {"certificate": "FAIL"},
    ),
    "the certificate ends in ten days": (
        lambda stack: certificate(stack, DOMAIN, days=10, served=True),
        {"certificate": "WARN"},
    ),
    "the certificate has another name": (
        lambda stack: certificate(stack, "else.test", days=90, served=True),
        {"certificate-names": "FAIL"},
    ),
    "nginx does not serve the new certificate": (
        lambda stack: certificate(stack, DOMAIN, days=90, served=False),
        {"certificate-file": "FAIL"},
    ),
    "others may read the signing keys": (
        lambda stack: mode(stack.folder / "data/keys/keyring.json", 0o644),
        {"permissions": "FAIL"},
    ),
    "others may read the folder of secrets": (
        lambda stack: mode(stack.folder / "secrets", 0o755),
        {"permissions": "FAIL"},
    ),
    "a secret is in .env": (secret_in_env, {"env": "FAIL", "env-names": "WARN"}),
    "a setting's name is misspelt": (
        lambda stack: more_settings(stack, "KADUN_ADMIN_ALOW=203.0.113.7"),
        {"env-names": "FAIL"},
    ),
    "a setting is changed and not applied": (
        lambda stack: more_settings(stack, "KADUN_ADMIN_ALLOW=203.0.113.7"),
        {"env-applied": "WARN"},
    ),
    "a setting is invalid, and not applied yet": (
        lambda stack: more_settings(stack, "KADUN_WORKERS=many"),
        {"env-values": "FAIL", "env-applied": "WARN"},
    ),
    "the folder of the keys is replaced under the running service": (keys_replaced, {"mounts": "FAIL"}),
    "the last backup is 27 hours old": (old_backup, {"backup": "FAIL"}),
    "the last backup's file is gone": (backup_gone, {"backup": "FAIL", "backup-checksum": "WARN"}),
    "the last backup is cut off": (cut_backup, {"backup-checksum": "FAIL"}),
    "the cron file has no backup": (
        altered_jobs,
        {"cron-jobs": "FAIL", "cron-daemon": "OK" if cron_runs() else "FAIL"},
    ),
    "the last verification of a backup is nine days old": (old_proof, {"backup-proof": "WARN"}),
    "no backup was ever copied elsewhere": (failing_hook, {"backup-away": "WARN"}),
    "the identity of the backups is one that was not copied elsewhere": (
        lambda stack: rewritten(stack.folder / "secrets/backup_identity", str(pyrage.x25519.Identity.generate())),
        {"backup-identity": "WARN"},
    ),
    "the disk of the backups is nearly full": (nearly_full_backup_disk, {"disk-backups": "FAIL"}),
    "the schema is behind the program": (
        lambda stack: sql(
            stack,
            "UPDATE schema_migration SET name = '0000_' || name",
            "UPDATE schema_migration SET name = substr(name, 6)",
        ),
        {
            "schema": "FAIL",
            "catalog": "WARN",
            "journal-seals": "WARN",
            "files": "WARN",
            "file-digests": "WARN",
            "console": "WARN",
            "ceilings": "WARN",
            "tokens": "WARN",
            "second-factors": "WARN",
            "proxy": "WARN",
        },  # the service refuses such a database
    ),
    "somebody added a column by hand": (
        lambda stack: sql(stack, "ALTER TABLE card ADD COLUMN colour text", "ALTER TABLE card DROP COLUMN colour"),
        {"catalog": "FAIL"},
    ),
    "the service's role may not write usage": (
        lambda stack: sql(stack, "REVOKE INSERT ON usage FROM kadun_app", "GRANT INSERT ON usage TO kadun_app"),
        {"rights": "FAIL"},
    ),
    "the service's role may not connect": (
        lambda stack: sql(
            stack,
            "REVOKE CONNECT ON DATABASE kadun FROM kadun_app;"
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'kadun_app'",
            "GRANT CONNECT ON DATABASE kadun TO kadun_app",
        ),
        {"database": "FAIL"} | dict.fromkeys(IN_THE_DATABASE, "WARN"),
    ),
    "a licensed file's bytes are altered": (altered_file, {"file-digests": "FAIL"}),
    "KERNAL_DATA_KEY is another one": (other_data_key, {"data-key-in-use": "FAIL"}),
    "nginx sends the gateway's address": (
        lambda stack: nginx_sends(stack, "X-Real-IP $remote_addr", "X-Real-IP 172.18.0.1"),
        {"proxy": "FAIL"},
    ),
    "nginx believes a client's address header": (
        lambda stack: nginx_sends(
            stack, "proxy_http_version", "set_real_ip_from 0.0.0.0/0;\nset_real_ip_from ::/0;\nproxy_http_version"
        ),
        {"proxy": "FAIL"},
    ),
    "nginx sends no address": (
        lambda stack: nginx_sends(stack, "proxy_set_header X-Real-IP $remote_addr;", ""),
        {"proxy": "FAIL"},
    ),
    "nginx is stopped": (
        lambda stack: stopped(stack, "nginx"),
        {"containers": "FAIL", "proxy": "WARN"}
        | dict.fromkeys(
            ("certificate", "certificate-names", "certificate-chain", "certificate-file"), "WARN"
        ),  # not checked
    ),
    "the service cannot write to the folder of licensed files": (closed_files, {"files": "FAIL"}),
    "a module of functions is broken": (broken_module, {"functions": "FAIL"}),
    "the functions service is stopped": (
        lambda stack: stopped(stack, "functions"),
        {"containers": "FAIL", "functions": "WARN"},
    ),
    "the app is stopped": (lambda stack: stopped(stack, "app"), {"containers": "FAIL", "proxy": "WARN"}),
}
