"""`cardctl doctor` on a running stack: what it gathers, and that each fault is found by its own check only."""

import json
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.hosts.stack import Stack, rewritten, run
from tests.support.services.pki import Issued

pytestmark = pytest.mark.xdist_group("serving")

Statuses = dict[str, str]
UNKNOWN = ("hosts", "files", "console", "sealing-key", "proxy")
"""What is not checked in a database that the service refuses."""


def change_mode(undo: ExitStack, path: Path, bits: int) -> None:
    undo.callback(path.chmod, path.stat().st_mode)
    path.chmod(bits)


def report(stack: Stack) -> tuple[Statuses, dict[str, str]]:
    """Return the status and the message of each check, in the environment of cron, which is enough."""
    bare = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "root"}
    done = run(stack.folder / "scripts/cardctl", "doctor", "--format", "json", check=False, env=bare, cwd="/", input="")
    lines = json.loads(done.stdout)
    statuses = {line["check"]: line["status"] for line in lines}
    assert len(statuses) == len(lines)
    assert done.returncode == ("FAIL" in statuses.values())
    return statuses, {line["check"]: line["message_en"] for line in lines}


@pytest.fixture(scope="module")
def healthy(stack: Stack) -> Statuses:
    """The statuses of the healthy stack; what this machine lacks (a synchronised clock) is a warning."""
    if not (stack.folder / "data/backups/last-verified").exists():
        stack.script("backup.sh")
        stack.script("backup.sh", "--verify")
    found, messages = report(stack)
    assert "FAIL" not in found.values(), messages
    return found


def expired(folder: Path) -> dict[Path, str]:
    """A certificate for the same names that ended yesterday, and its key."""
    present = x509.load_pem_x509_certificate((folder / "fullchain.pem").read_bytes())
    names = present.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    made = Issued.make(*(str(name.value) for name in names), first_day=-90, days=89)
    return {folder / "fullchain.pem": made.pem.decode(), folder / "privkey.pem": made.key_bytes().decode()}


def test_faults_of_nginx_the_functions_and_the_modes_of_files_change_their_own_checks_only(
    stack: Stack, healthy: Statuses
) -> None:
    proxy, module = stack.folder / "nginx/kadun/proxy.conf", stack.folder / "data/functions/prices.py"
    text, header = proxy.read_text(), "X-Real-IP $remote_addr"
    assert header in text
    with ExitStack() as undo:
        undo.callback(stack.reload_nginx)
        gateways_address = {proxy: text.replace(header, "X-Real-IP 172.18.0.1")}
        for path, content in (expired(stack.folder / "https_certificates") | gateways_address).items():
            undo.enter_context(rewritten(path, content))
        stack.reload_nginx()
        undo.callback(stack.script, "cardctl", "function", "reload")
        undo.callback(module.unlink)
        module.write_text("import nothing_of_this_name\n")
        stack.script("cardctl", "function", "reload", check=False)
        change_mode(undo, stack.folder / "data/keys/keyring.json", 0o644)
        found, messages = report(stack)
    faults = ("certificate", "proxy", "functions", "permissions")
    assert found == healthy | dict.fromkeys(faults, "FAIL"), messages


def test_faults_of_the_settings_the_backups_and_the_database_change_their_own_checks_only(
    stack: Stack, healthy: Statuses
) -> None:
    dotenv, cron = stack.folder / ".env", Path("/etc/cron.d") / f"kadun-{stack.project}"
    backup = stack.folder / "data/backups" / (stack.folder / "data/backups/last-good").read_text().split()[1]

    def rename_migrations(name: str) -> None:
        psql = ("psql", "-qX", "-U", "postgres", "-d", "kadun", "-c")
        stack.execute("database", *psql, f"UPDATE schema_migration SET name = {name}")  # noqa: S608

    with ExitStack() as undo:
        undo.enter_context(rewritten(dotenv, f"{dotenv.read_text()}\nKADUN_ADMIN_ALOW=203.0.113.7\n"))
        undo.callback(backup.rename(backup.with_name("aside")).rename, backup)
        stack.script("install-cron.sh")
        undo.callback(stack.script, "install-cron.sh", "--remove")
        cron.write_text("\n".join(line for line in cron.read_text().splitlines() if "/backup.sh" not in line) + "\n")
        rename_migrations("'0000_' || name")
        undo.callback(rename_migrations, "substr(name, 6)")  # the database is behind the program
        found, messages = report(stack)
    faults = dict.fromkeys(("env-names", "backup", "cron-jobs", "schema"), "FAIL")
    assert found == healthy | dict.fromkeys(UNKNOWN, "WARN") | faults, messages
    assert report(stack)[0] == healthy, "all is healed"


def test_it_tells_no_secret_and_leaves_nothing(stack: Stack, healthy: Statuses) -> None:
    probes = "SELECT count(*) FROM event WHERE hardware = 'cardctl doctor'"
    before = stack.sql("owner", probes)
    shown = stack.script("cardctl", "doctor", check=False).stdout
    assert stack.sql("owner", probes) == before
    shown += run(sys.executable, stack.folder / "scripts/lib/hostfacts.py", stack.folder, cwd="/").stdout
    hidden = [file.read_text().strip() for file in (stack.folder / "secrets").iterdir()]
    hidden.append((stack.folder / "https_certificates/privkey.pem").read_text().splitlines()[1])
    ring = json.loads((stack.folder / "data/keys/keyring.json").read_text())["keys"]
    hidden += [key["private"] for key in ring if key["private"]]  # another test may have rotated them
    assert [secret for secret in hidden if secret in shown] == []
    containers = run("docker", "ps", "-aq", "--filter", f"label=com.docker.compose.project={stack.project}")
    assert len(containers.stdout.split()) == len(("database", "migrate", "functions", "webhooks", "app", "nginx"))


def test_the_host_is_checked_when_the_stack_is_down(stack: Stack, healthy: Statuses) -> None:
    stack.compose("stop", "--timeout", "1")
    try:
        with ExitStack() as undo:
            change_mode(undo, stack.folder / "secrets", 0o755)
            found, messages = report(stack)
        assert {"containers", "permissions"} == {check for check, status in found.items() if status == "FAIL"}
        assert "database: exited" in messages["containers"]
        assert "schema" not in found
    finally:
        stack.up()
