"""`cardctl healthcheck`: containers ask it all day, so it imports little."""

import http.client
import os
import socket

import click

from app.settings import bind_from

TIMEOUT_SECONDS = 5.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)


@click.command()
def healthcheck() -> None:
    """服务是否就绪 / Ask the service here whether it is ready; exit 1 when it is not."""
    bind = bind_from(os.environ)
    path = bind.removeprefix("unix:")
    connection = _UnixConnection(path) if path != bind else http.client.HTTPConnection(bind, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"服务没有响应 / The service does not answer at {bind}: {error}") from error
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise click.ClickException(f"服务未就绪 / The service is not ready (HTTP {status})")
    click.echo("服务就绪 / The service is ready", err=True)
