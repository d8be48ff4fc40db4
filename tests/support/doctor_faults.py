"""Faults of a running stack that `cardctl doctor` must find, and the checks that find them.

Those that need no host are in tests/integration/test_doctor.py.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pyrage
from hostfacts import cron_runs

from tests.support.backup_faults import (
    altered_jobs,
    backup_gone,
    cut_backup,
    failing_hook,
    nearly_full_backup_disk,
    old_backup,
    old_proof,
)
from tests.support.doctor_facts import DATABASE_CHECKS
from tests.support.folder_faults import (
    altered_file,
    broken_module,
    closed_files,
    keys_replaced,
    other_data_key,
    secret_in_env,
)
from tests.support.nginx_faults import certificate, nginx_sends
from tests.support.stack import Stack, run
from tests.support.stack_changes import mode, more_settings, rewritten, sql, stopped

DOMAIN = "kadun.test"
Statuses = dict[str, str]


@contextmanager
def app_stopped(stack: Stack) -> Iterator[None]:
    """Stop the app, and keep its host's report recent: on a busy machine doctor might miss the host, too."""
    with stopped(stack, "app"):
        stack.sql("owner", "UPDATE host SET seen_at = now() + interval '1 hour'")
        yield


@contextmanager
def other_project(stack: Stack) -> Iterator[None]:
    """Make a container of another project over this stack's database."""
    volume = f"{stack.folder}/data/postgres:/data"
    labels = ("--label", "com.docker.compose.project=kadun-test-other")
    container = run("docker", "create", *labels, "--volume", volume, stack.inspect("nginx")["Image"]).stdout.strip()
    try:
        yield
    finally:
        run("docker", "rm", "--force", container)


Fault = Callable[[Stack], AbstractContextManager[object]]

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
    "another project runs from this folder": (
        other_project,
        {"containers": "FAIL", "images": "WARN", "env-applied": "WARN"},
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
    "the identity is not that of the backups": (
        lambda stack: rewritten(stack.folder / "secrets/backup_identity", str(pyrage.x25519.Identity.generate())),
        {"backup-identity": "FAIL"},
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
            "hosts": "WARN",
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
        {"database": "FAIL"} | dict.fromkeys(DATABASE_CHECKS, "WARN"),
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
    "the app is stopped": (app_stopped, {"containers": "FAIL", "proxy": "WARN"}),
}
