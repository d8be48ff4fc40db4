"""A PostgreSQL that is not the stack's own."""

from uuid import uuid4

from tests.support.hosts.stack import run
from tests.support.services.http_exchange import quiet_port
from tests.support.services.service import wait_for


class Server:
    """A PostgreSQL that nobody prepared for Kadun, as a distribution sets it up: on 127.0.0.1, roles by password."""

    def __init__(self) -> None:
        self.name, self.port = f"kadun-test-server-{uuid4().hex[:8]}", quiet_port()

    def start(self) -> None:
        settings = ("--env", "POSTGRES_PASSWORD=administrator", "--publish", f"127.0.0.1:{self.port}:5432")
        run("docker", "run", "--detach", "--name", self.name, *settings, "postgres:17-trixie")
        ready = ("docker", "exec", self.name, "pg_isready", "--quiet", "--host=127.0.0.1")
        wait_for(lambda: run(*ready, check=False).returncode == 0, 60)

    def administer(self, sql: str) -> None:
        psql = ("psql", "-U", "postgres", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "postgres")
        run("docker", "exec", "-i", self.name, *psql, input=sql)

    def remove(self) -> None:
        run("docker", "rm", "--force", "--volumes", self.name, check=False)
