"""The demonstration: the main job done once, with the same commands that a vendor would use."""

import json
import shlex
import subprocess
import sys

from trial.environment import CHECKOUT, LOOPBACK, Trial, write_secret
from trial.messages import TrialError, say, step, tail

_HELLO, _CORE = "examples/hello/hello.py", "examples/hello/core.json"
_AGE_IDENTITY = "AGE-SECRET-KEY-1"
_PYTHON = (sys.executable, "-P")  # -P: no module of the caller's folder takes the place of ours


def show(trial: Trial, environ: dict[str, str]) -> None:
    """Issue a card, export the public keys, seal core data, and open the sample program; print each step.

    Last time's card is used again while it opens the program.

    Raises:
        TrialError: A step failed.
    """
    environ = environ | {"NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK, "PYTHONIOENCODING": "utf-8"}
    if not trial.kernal_data_key_file.read_text(encoding="utf-8").startswith(_AGE_IDENTITY):
        step("跳过演示：核心数据密钥不是 age 密钥。", "No demo: KERNAL_DATA_KEY is no age identity.")
        return
    keys, sealed, card_file = (trial.demo / name for name in ("keys.json", "core.json.age", "card"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*_PYTHON, *words], env=environ, cwd=CHECKOUT, check=False, stdin=subprocess.DEVNULL,
            capture_output=True, encoding="utf-8", errors="replace",
        )  # fmt: skip

    def cardctl(*words: str, more: tuple[str, ...] = ()) -> str:
        say(f"   $ scripts/cardctl {shlex.join(words)}")
        done = run("-m", "app", *words, *more)
        if done.returncode:
            raise _failure(f"cardctl {words[0]}", done)
        return done.stdout

    def program(card: str) -> list[str]:
        # A machine can hold one live card only, so that each demo card gets a machine of its own.
        words = (f"--server {trial.url} --card {card} --hardware demo-{card}").split()
        return [*words, "--keys", str(keys), "--core", str(sealed), "--state", str(trial.demo / "state")]

    step("1. 随程序发布：公钥与加密的核心数据。", "Ship with the program: public keys, sealed core data.")
    keys.write_text(cardctl("key", "export"), encoding="utf-8")
    sealed.unlink(missing_ok=True)
    cardctl("seal", _CORE, "-o", str(sealed))
    card = card_file.read_text(encoding="ascii") if card_file.exists() else ""
    opened = run(_HELLO, *program(card)) if card else None
    if opened and opened.returncode == 0:
        step("2. 沿用上次的演示卡密。", "The demo card of last time still opens it.")
    else:
        step("2. 发卡：一张有效期一天的卡密。", "Issue a card that lasts a day.")
        issue = ("card", "issue", "--validity", "1d", "--count", "1", "--batch", "demo")
        card = str(json.loads(cardctl(*issue, more=("--format", "json")))[0]["id"])
        write_secret(card_file, card)
        say(f"   {card}")
        opened = run(_HELLO, *program(card))
    step(
        "3. 客户运行程序：激活、绑定、验签、解密核心数据。", "The customer's program: activate, bind, verify, decrypt."
    )
    say(f"   $ python {_HELLO} {shlex.join(program(card))}")
    if opened.returncode:
        raise _failure("sample client", opened)
    say(*(f"   {line}" for line in opened.stdout.splitlines()))


def _failure(what: str, done: subprocess.CompletedProcess[str]) -> TrialError:
    return TrialError(f"演示失败（{what}）。", f"The demo failed ({what}).", detail=tail(done.stderr or done.stdout))
