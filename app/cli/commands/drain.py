"""`cardctl drain`."""

import click

from app.cli import output
from app.cli.context import Session, pass_session
from app.services.system import startup


@click.command()
@click.option("--end", is_flag=True, help="恢复 / Be ready again.")
@pass_session
def drain(session: Session, *, end: bool) -> None:
    """让负载均衡移出本机 / Take this machine out of the balancer: /readyz is 503, and requests are still served."""
    keys_dir = session.settings.keys_dir
    if end:
        startup.end_draining(keys_dir)
        output.say("本机恢复就绪 / This machine is ready again")
    else:
        startup.begin_draining(keys_dir)
        output.say(
            "本机已排空，重启或 --end 后恢复 / This machine is draining until it is restarted, or --end is given"
        )
