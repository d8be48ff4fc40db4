"""examples/desk as a customer has it: the vendor's settings in it, the core data sealed beside it."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DESK = ROOT / "examples" / "desk"
CORE = DESK / "tariff.json"


class DeskProgram:
    """The program, and a customer's home for what it keeps; the vendor's settings are those in shop.py."""

    def __init__(self, folder: Path, settings: dict[str, object], sealed: bytes) -> None:
        self.home = folder / "home"
        self.source = folder / "source"
        self.working = folder / "working"
        self.home.mkdir()
        self.working.mkdir()
        shutil.copytree(
            DESK, self.source, ignore=shutil.ignore_patterns("__pycache__", "*.age", "*.spec", "build", "dist")
        )
        with (self.source / "shop.py").open("a", encoding="utf-8") as shop:
            shop.writelines(f"{name} = {value!r}\n" for name, value in settings.items())
        (self.source / "tariff.json.age").write_bytes(sealed)
        self.command: Sequence[str] = [sys.executable, str(self.source / "desk.py")]
        sources = str(ROOT / "client" / "src")
        self.environment = {"HOME": str(self.home), "LANG": "C.UTF-8", "PYTHONPATH": sources}

    @property
    def remembered(self) -> Path:
        return self.home / ".config" / "kadun-desk" / "card.txt"

    def run(self, *typed: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        """Run it, type these lines, and leave."""
        return subprocess.run(
            [*self.command, *options],
            cwd=self.working,
            env=self.environment,
            input="".join(f"{line}\n" for line in typed),
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )

    def start(self) -> subprocess.Popen[str]:
        """Run it, and leave it to the test what is typed when."""
        return subprocess.Popen(
            self.command,
            cwd=self.working,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            bufsize=1,
        )
