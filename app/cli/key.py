"""`cardctl key …`."""

import sys

import click

from app.cli import files, output
from app.cli.context import Session, operator_name, pass_session
from app.clock import utc_now
from app.services import signing_keys
from app.tokens import canary, keyring, sealing
from app.tokens.keys import KeyState


@click.group()
def key() -> None:
    """签名密钥 / The signing keys."""


@key.command("list")
@pass_session
def list_keys(session: Session) -> None:
    """列出密钥 / List the keys, oldest first."""
    ring = keyring.load(session.settings.keys_dir)
    states = {KeyState.CURRENT: "当前 current", KeyState.NEXT: "下一个 next", KeyState.RETIRED: "已停用 retired"}
    rows = (
        (k.kid, states[ring.state(k)], k.created_at.isoformat(), k.retired_at.isoformat() if k.retired_at else None)
        for k in ring.keys
    )
    output.print_table(("kid", "状态 state", "创建 created", "停用 retired"), rows)


@key.command()
@click.option(
    "--force", is_flag=True, help="距上次轮换不足 15 分钟时仍轮换 / Even within 15 minutes of the last rotation."
)
@pass_session
def rotate(session: Session, *, force: bool) -> None:
    """轮换 / Make the next key the current one; the running service uses it within seconds."""
    settings = session.settings
    ring = signing_keys.rotate(
        session.database, settings.keys_dir, operator_name(), issuer=settings.issuer, clock=utc_now, force=force
    )
    output.say(f"当前密钥 / The current key is now {ring.current.kid}")


@key.command()
@pass_session
def create(session: Session) -> None:
    """新建密钥（仅在丢失时） / Make signing keys where there are none."""
    folder = session.settings.keys_dir
    if keyring.exists(folder):
        raise keyring.KeyRingError(
            f"{folder} 中已有密钥，未更改 / there are keys in {folder} already: nothing was changed"
        )
    ring = keyring.create(folder, utc_now(), session.settings.issuer)
    output.say(f"已新建密钥，请重启服务 / Made {ring.current.kid}: restart the service")


@key.command()
@click.argument("source", metavar="FILE", type=files.InputPath())
@pass_session
def restore(session: Session, source: str) -> None:
    """放回签名密钥的副本，现有的较新则保留 / Put back a copy of keyring.json, unless the present keys are newer."""
    with files.open_input(source) as (file, _):
        restored = keyring.restore(session.settings.keys_dir, file.read(), utc_now())
    kid = keyring.load(session.settings.keys_dir).current.kid
    if restored:
        output.say(f"已放回签名密钥 / The signing keys are in place: {kid}")
    else:
        output.say(f"现有签名密钥较新，已保留 / The present signing keys are newer, and stay: {kid}")


@key.command()
@pass_session
def accept(session: Session) -> None:
    """确认已更换 KERNAL_DATA_KEY / Accept a KERNAL_DATA_KEY that you replaced on purpose."""
    canary.accept(session.settings.keys_dir, session.settings.kernal_data_key)
    output.say("已确认 / KERNAL_DATA_KEY is accepted as the one in use")


@key.command()
@pass_session
def export(session: Session) -> None:
    """导出公钥 / Print the public keys for clients to pin, as {"iss", "keys"}."""
    ring = keyring.load(session.settings.keys_dir)
    output.print_json({"iss": session.settings.issuer, "keys": ring.pinned})


@key.command()
@pass_session
def recipient(session: Session) -> None:
    """核心数据加密公钥 / Print the age recipient, to seal files on any machine."""
    sys.stdout.write(f"{sealing.age_recipient(session.settings.kernal_data_key)}\n")
