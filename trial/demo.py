"""The demonstration: the main job done once, with the same commands that a vendor would use."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from trial.environment import CHECKOUT, Trial, write_secret
from trial.errors import TrialError, tail
from trial.speech import say, step

_HELLO = CHECKOUT / "examples" / "hello" / "hello.py"
_CORE = CHECKOUT / "examples" / "hello" / "core.json"
_AGE_IDENTITY = "AGE-SECRET-KEY-1"
_PYTHON = (sys.executable, "-P")  # -P: no module of the caller's folder takes the place of ours
_ISSUE = ("card", "issue", "--validity", "1d", "--count", "1", "--batch", "demo")


class Demo:
    """Issues a card, exports the public keys, seals core data, and opens the sample program with the card."""

    def __init__(self, trial: Trial, environ: dict[str, str]) -> None:
        self._trial = trial
        self._environ = environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

    def show(self) -> None:
        """Run the demonstration and print each step; last time's card is used again while it opens the program.

        Raises:
            TrialError: A step failed.
        """
        if not self._trial.kernal_data_key_file.read_text(encoding="utf-8").startswith(_AGE_IDENTITY):
            step("跳过演示：核心数据密钥不是 age 密钥。", "No demo: KERNAL_DATA_KEY is no age identity.")
            return
        self._trial.demo.mkdir(mode=0o700, exist_ok=True)
        self._prepare()
        card = self._last_card()
        opened = self._open(card) if card else None
        if card and opened and opened.returncode == 0:
            step("2. 沿用上次的演示卡密。", "The demo card of last time still opens it.")
        else:
            card = self._issue()
            opened = self._open(card)
        self._tell(card, opened)

    def _prepare(self) -> None:
        """Export the public keys and seal the core data, which a vendor ships with the program."""
        step("1. 随程序发布：公钥与加密的核心数据。", "Ship with the program: public keys, sealed core data.")
        self._announce("key", "export")
        self._keys.write_text(self._cardctl("key", "export"), encoding="utf-8")
        self._announce("seal", _relative(_CORE), "-o", str(self._sealed))
        self._sealed.unlink(missing_ok=True)
        self._cardctl("seal", str(_CORE), "-o", str(self._sealed))

    def _issue(self) -> str:
        step("2. 发卡：一张有效期一天的卡密。", "Issue a card that lasts a day.")
        self._announce(*_ISSUE)
        issued = json.loads(self._cardctl(*_ISSUE, "--format", "json"))
        card = str(issued[0]["id"])
        write_secret(self._card_file, card)
        say(f"   {card}")
        return card

    def _open(self, card: str) -> subprocess.CompletedProcess[str]:
        return self._run([*_PYTHON, str(_HELLO), *self._options(card)])

    def _tell(self, card: str, opened: subprocess.CompletedProcess[str]) -> None:
        step(
            "3. 客户运行程序：激活、绑定、验签、解密核心数据。",
            "The customer's program: activate, bind, verify, decrypt.",
        )
        say(f"   $ python {_relative(_HELLO)} {shlex.join(self._options(card))}")
        if opened.returncode:
            raise _failure("sample client", opened)
        say(*(f"   {line}" for line in opened.stdout.splitlines()))

    def _options(self, card: str) -> list[str]:
        # A machine can hold one live card only, so that each demo card gets a machine of its own.
        options = {
            "server": self._trial.url,
            "card": card,
            "hardware": f"demo-{card}",
            "keys": str(self._keys),
            "core": str(self._sealed),
            "state": str(self._trial.demo / "state"),
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _last_card(self) -> str | None:
        return self._card_file.read_text(encoding="ascii") if self._card_file.exists() else None

    def _announce(self, *arguments: str) -> None:
        say(f"   $ scripts/cardctl {shlex.join(arguments)}")

    def _cardctl(self, *arguments: str) -> str:
        done = self._run([*_PYTHON, "-m", "app", *arguments])
        if done.returncode:
            raise _failure(f"cardctl {arguments[0]}", done)
        return done.stdout

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self._environ | {"PYTHONIOENCODING": "utf-8"},
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )

    @property
    def _card_file(self) -> Path:
        return self._trial.demo / "card"

    @property
    def _keys(self) -> Path:
        return self._trial.demo / "keys.json"

    @property
    def _sealed(self) -> Path:
        return self._trial.demo / "core.json.age"


def _relative(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


def _failure(what: str, done: subprocess.CompletedProcess[str]) -> TrialError:
    return TrialError(f"演示失败（{what}）。", f"The demo failed ({what}).", detail=tail(done.stderr or done.stdout))
