"""Creating a PostgreSQL cluster: under another name first, so that a cluster that exists is whole."""

import os
import secrets
import shutil
from pathlib import Path

from trial.accounts import Account, require_reachable
from trial.binaries import program
from trial.environment import write_secret
from trial.errors import TrialError, tail

USER = "kadun"

# Nothing of the caller's environment: no PG* variable, no locale that this machine may lack.
PROGRAM_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

_INITDB_OPTIONS = (
    f"--username={USER}",
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",  # PostgreSQL's own C.UTF-8: the same on every machine
    "--builtin-locale=C.UTF-8",
    "--no-instructions",
)


def data_folder(cluster: Path) -> Path:
    """Return PostgreSQL's own folder (PGDATA) in a cluster's."""
    return cluster / "data"


def pid_file(cluster: Path) -> Path:
    """Return the file in which the postmaster writes its number."""
    return data_folder(cluster) / "postmaster.pid"


def password_file(cluster: Path) -> Path:
    """Return the file that holds the password of `USER`."""
    return cluster / "password"


def create_cluster(binaries: Path, cluster: Path, account: Account, *, durable: bool) -> None:
    """Create a cluster for `account` to run; `durable` waits until it is on the disk.

    Raises:
        TrialError: It cannot be created; nothing is left behind.
    """
    for path in (binaries, cluster):
        require_reachable(path, account)
    making = cluster.with_name(f".{cluster.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    try:
        making.mkdir(parents=True)
        making.chmod(0o711)  # PostgreSQL's account passes through to its data, and lists nothing
        _initdb(binaries, making, account, durable=durable)
        making.rename(cluster)
    except OSError as error:
        raise TrialError(
            f"无法创建数据库 {cluster}：{error.strerror}。",
            f"Cannot make the database {cluster}: {error.strerror}; set KADUN_DATA_DIR to another folder.",
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _initdb(binaries: Path, making: Path, account: Account, *, durable: bool) -> None:
    password, data = password_file(making), data_folder(making)
    write_secret(password, secrets.token_urlsafe(24))
    data.mkdir(mode=0o700)
    for path in (password, data):
        os.chown(path, account.uid, account.gid)
    options = [*_INITDB_OPTIONS, f"--pwfile={password}", f"--pgdata={data}"]
    if not durable:
        options.append("--no-sync")
    made = account.run([str(program(binaries, "initdb")), *options], PROGRAM_ENVIRONMENT)
    if made.returncode:
        raise TrialError("PostgreSQL 初始化失败。", "PostgreSQL's initdb failed.", detail=tail(made.stdout))
    os.chown(password, os.geteuid(), os.getegid())
