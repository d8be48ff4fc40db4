"""`cardctl healthcheck`. Containers run it all day, so it imports little."""

import http.client
import os
from pathlib import Path

import click

from app.environment import value
from app.unix_http import UnixConnection

TIMEOUT_SECONDS = 5.0


@click.command()
@click.option(
    "--live",
    is_flag=True,
    help="只问应用是否应答，不问数据库 / ask only whether the app answers, not whether the database does",
)
def healthcheck(*, live: bool) -> None:
    """服务是否就绪 / Ask the service whether it is ready; exit 1 when it is not."""
    bind = value(os.environ, "KADUN_BIND")
    connection = (
        UnixConnection(Path(bind.removeprefix("unix:")), TIMEOUT_SECONDS)
        if bind.startswith("unix:")
        else http.client.HTTPConnection(bind, timeout=TIMEOUT_SECONDS)
    )
    try:
        connection.request("GET", "/healthz" if live else "/readyz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"服务没有响应 / The service does not answer at {bind}: {error}") from error
    finally:
        connection.close()
    if status != http.HTTPStatus.OK:
        raise click.ClickException(f"服务未就绪 / The service is not ready (HTTP {status})")
    click.echo("服务就绪 / The service is ready", err=True)
