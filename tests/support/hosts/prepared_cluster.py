"""A PostgreSQL cluster with a migrated database that is made once; the tests start copies of it.

To create a cluster and to migrate takes two seconds of processor time, and to copy it a twentieth. Each process of
tests starts a server of its own: of a shared one, tests would see the roles, the locks and the transactions of others.
"""

import fcntl
import hashlib
import shutil
import subprocess
import time
from functools import cache
from pathlib import Path

from app.storage import schema
from app.storage.database import Database, connect_to
from trial.postgres import EmbeddedPostgres

_SOURCES = Path(schema.__file__).parent
_KEPT_SECONDS = 7 * 86_400
"""How long a cluster that no tests start any more is kept, such as that of another branch."""


@cache
def prepared_cluster(binaries: Path) -> Path:
    """Return the cluster's folder, after making it if there is none for these programs and this schema."""
    clusters = binaries.with_name("clusters")
    clusters.mkdir(exist_ok=True)
    cluster = clusters / _digest(binaries)
    with (clusters / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cluster.exists():
            _make(binaries, cluster)
        (cluster / "used").touch()
        for other in clusters.glob("*/used"):
            if other.stat().st_mtime < time.time() - _KEPT_SECONDS:
                shutil.rmtree(other.parent)
    return cluster


def copy_to(cluster: Path, binaries: Path) -> None:
    """Make `cluster` a copy that a server can start; the files keep their owner."""
    subprocess.run(["cp", "-a", prepared_cluster(binaries), cluster], check=True)


def _digest(binaries: Path) -> str:
    digest = hashlib.sha256((binaries / "kadun-installed").read_bytes())
    for path in sorted([*_SOURCES.rglob("*.py"), *_SOURCES.rglob("*.sql")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:32]


def _make(binaries: Path, cluster: Path) -> None:
    """Make it under another name first: one that exists is whole."""
    making = cluster.with_suffix(".new")
    shutil.rmtree(making, ignore_errors=True)
    with EmbeddedPostgres(binaries, making, settings={"fsync": "off"}) as running:
        owner = connect_to(Database(running.url(), bulk=True))
        schema.migrate(owner, lambda _line: None)
        owner.close()
    making.rename(cluster)
