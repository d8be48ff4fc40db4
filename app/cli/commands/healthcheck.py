"""`cardctl healthcheck`. Scripts repeat it until the service is ready, so it imports little."""

import http.client
import os
from pathlib import Path

import click

from app.runtime.environment import value
from app.runtime.unix_http import UnixConnection

TIMEOUT_SECONDS = 5.0


@click.command()
def healthcheck() -> None:
    """服务是否就绪 / Ask the service whether it is ready; exit 1 when it is not."""
    bind = value(os.environ, "KADUN_BIND")
    connection = (
        UnixConnection(Path(bind.removeprefix("unix:")), TIMEOUT_SECONDS)
        if bind.startswith("unix:")
        else http.client.HTTPConnection(bind, timeout=TIMEOUT_SECONDS)
    )
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
