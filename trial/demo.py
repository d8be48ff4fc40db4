"""The demonstration: the main job done once, with the same commands that a vendor would use."""

import shlex
import sys

from trial.environment import CHECKOUT, LOOPBACK, Trial, write_secret
from trial.programs import TrialError, run, say

_HELLO, _CORE = "examples/hello/hello.py", "examples/hello/core.json"


def show(trial: Trial, environ: dict[str, str]) -> None:
    """Issue a card, export the public keys, seal core data, and open the sample program; print each step.

    Last time's card is used again while it opens the program.
    """
    environ = environ | {"NO_PROXY": LOOPBACK, "no_proxy": LOOPBACK, "PYTHONIOENCODING": "utf-8"}
    keys, sealed, card_file = (trial.demo / name for name in ("keys.json", "core.json.age", "card"))

    def python(what: str, *words: str) -> str:
        failure = (f"演示失败（{what}）。", f"The demo failed ({what}).")
        # -P: no module of the caller's folder takes the place of ours
        return run([sys.executable, "-P", *words], failure, env=environ, cwd=CHECKOUT)

    def cardctl(*words: str, more: tuple[str, ...] = ()) -> str:
        say(f"   $ scripts/cardctl {shlex.join(words)}")
        return python(f"cardctl {words[0]}", "-m", "app", *words, *more)

    def program(card: str) -> list[str]:
        # A machine can hold one live card only, so that each demo card gets a machine of its own.
        words = (f"--server {trial.url} --card {card} --hardware demo-{card}").split()
        return [*words, "--keys", str(keys), "--core", str(sealed), "--state", str(trial.demo / "state")]

    say("1. 随程序发布：公钥与加密的核心数据。  Ship with the program: public keys, sealed core data.")
    keys.write_text(cardctl("key", "export"), encoding="utf-8")
    sealed.unlink(missing_ok=True)
    cardctl("seal", _CORE, "-o", str(sealed))
    try:
        card = card_file.read_text(encoding="ascii")
        output = python("sample client", _HELLO, *program(card))
        say("2. 沿用上次的演示卡密。  The demo card of last time still opens it.")
    except (FileNotFoundError, TrialError):
        say("2. 发卡：一张有效期一天的卡密。  Issue a card that lasts a day.")
        issue = ("card", "issue", "--validity", "1d", "--count", "1", "--batch", "demo")
        card = cardctl(*issue, more=("--format", "txt")).strip()
        write_secret(card_file, card)
        say(f"   {card}")
        output = python("sample client", _HELLO, *program(card))
    say("3. 客户运行程序：激活、绑定、验签、解密核心数据。  The customer's program: activate, bind, verify, decrypt.")
    say(f"   $ python {_HELLO} {shlex.join(program(card))}")
    say(*(f"   {line}" for line in output.splitlines()))
