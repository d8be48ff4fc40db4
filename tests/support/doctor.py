"""Results of `cardctl doctor`, and faults of a running stack that it must find, one for each way of gathering facts.

A fault is undone at the end of its block.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.support.hosts.stack import Stack, rewritten, run
from tests.support.services.pki import Issued
from tests.support.services.service import Service, wait_for

SERVICE_CHECKS = {
    *("settings", "permissions", "database", "schema", "durability", "hosts", "keys", "data-key", "data-key-in-use"),
    *("files", "functions", "clock", "sealing-key"),
}
"""The checks that need no facts of the host."""
UNKNOWN_SCHEMA = dict.fromkeys(("schema", "hosts", "files", "sealing-key"), "WARN")


def results(service: Service, *arguments: str, text: str = "") -> dict[str, Any]:
    done = service.cardctl("doctor", "--format", "json", *arguments, check=False, text=text)
    assert "Traceback" not in done.stderr
    lines = json.loads(done.stdout)
    failed = any(line["status"] == "FAIL" for line in lines)
    assert (done.returncode, len(done.stderr.splitlines())) == (failed, failed)
    return {line["check"]: line for line in lines}


def differing(found: dict[str, Any]) -> dict[str, str]:
    """The checks that are not OK, apart from those of this machine's clock, of functions, which are down, and of the
    tests' database, which does not wait for the disk."""
    apart = {"clock", "functions", "durability"}
    return {check: line["status"] for check, line in found.items() if line["status"] != "OK" and check not in apart}


@contextmanager
def nginx_with(stack: Stack, changes: dict[Path, str]) -> Iterator[None]:
    """Have nginx serve with other files."""
    with ExitStack() as undo:
        undo.callback(reload_nginx, stack)
        for path, text in changes.items():
            undo.enter_context(rewritten(path, text))
        reload_nginx(stack)
        yield


def expired_certificate(stack: Stack) -> AbstractContextManager[None]:
    """Have nginx serve a certificate for the same names that ended yesterday."""
    folder = stack.folder / "https_certificates"
    present = x509.load_pem_x509_certificate((folder / "fullchain.pem").read_bytes())
    names = present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    made = Issued.make(*(str(name.value) for name in names), first_day=-90, days=89)
    files = {folder / "fullchain.pem": made.pem.decode(), folder / "privkey.pem": made.key_bytes().decode()}
    return nginx_with(stack, files)


def gateways_address(stack: Stack) -> AbstractContextManager[None]:
    """Have nginx send the app another address than the client's."""
    file = stack.folder / "nginx/kadun/proxy.conf"
    text, header = file.read_text(), "X-Real-IP $remote_addr"
    assert header in text
    return nginx_with(stack, {file: text.replace(header, "X-Real-IP 172.18.0.1")})


def reload_nginx(stack: Stack) -> None:
    """Reload nginx, and wait until its workers are new ones."""

    def workers() -> set[int]:
        return {pid for pid, status in stack.processes("nginx") if "0" not in status["Uid"].split()}

    before = wait_for(workers)
    stack.compose("exec", "-T", "nginx", "nginx", "-s", "reload")
    wait_for(lambda: (now := workers()) and not now & before)


@contextmanager
def broken_module(stack: Stack) -> Iterator[None]:
    """Add a module of functions that cannot be imported."""
    module = stack.folder / "data/functions/prices.py"
    module.write_text("import nothing_of_this_name\n")
    try:
        stack.script("cardctl", "function", "reload", check=False)
        yield
    finally:
        module.unlink()
        stack.script("cardctl", "function", "reload")


@contextmanager
def older_schema(stack: Stack) -> Iterator[None]:
    """Rename the migrations in the database, so that it seems to be behind the program."""

    psql = ("docker", "compose", "exec", "-T", "database", "psql", "-qX", "-U", "postgres", "-d", "kadun", "-c")
    run(*psql, "UPDATE schema_migration SET name = '0000_' || name", cwd=stack.folder)
    try:
        yield
    finally:
        run(*psql, "UPDATE schema_migration SET name = substr(name, 6)", cwd=stack.folder)


@contextmanager
def lost_backup(stack: Stack) -> Iterator[None]:
    """Take the last backup away."""
    file = stack.folder / "data/backups" / (stack.folder / "data/backups/last-good").read_text().split()[1]
    aside = file.rename(file.with_name("aside"))
    try:
        yield
    finally:
        aside.rename(file)


@contextmanager
def no_daily_backup(stack: Stack) -> Iterator[None]:
    """Remove the daily backup from the cron file."""
    stack.script("install-cron.sh")
    file = Path("/etc/cron.d") / f"kadun-{stack.project}"
    try:
        kept = [line for line in file.read_text().splitlines() if "/backup.sh" not in line]
        file.write_text("\n".join(kept) + "\n")
        yield
    finally:
        stack.script("install-cron.sh", "--remove")
