"""README's and CONTRIBUTING's commands run as they stand, in a copy of the checkout.

tests/unit/test_documents.py checks what can be seen without running them.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import kadun
import pytest

from tests.support.documents import ROOT, document
from tests.support.service import wait_for
from tests.support.stack import copy_checkout
from tests.support.trial_runner import TrialRun

pytestmark = [pytest.mark.long, pytest.mark.nightly]

PASSWORD = "a rather long password"


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document(name), re.MULTILINE | re.DOTALL)


def runnable(name: str, containing: str) -> str:
    """Return the one block that has `containing`."""
    (block,) = (block for block in blocks(name, "sh") if containing in block)
    return block


class Checkout:
    """A copy of this checkout, and the environment of a person who works in it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "kadun"
        copy_checkout(self.root)
        (self.root / ".venv").symlink_to(ROOT / ".venv")
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KADUN_", "DATABASE_URL", "KERNAL_DATA_KEY", "COV", "PYTEST", "PYTHON"))
        }

    def run(self, script: str, stdin: str = "") -> str:
        """Run shell commands as they stand, and stop at the first that fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.root,
            env=self.environ,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every account reaches: the trial's PostgreSQL has one of its own."""
    made = Path(tempfile.mkdtemp(prefix="kadun-documented-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def checkout(folder: Path) -> Checkout:
    return Checkout(folder)


def test_readme_from_the_first_card_to_the_vendors_program(checkout: Checkout, folder: Path) -> None:
    with TrialRun(folder, root=checkout.root) as trial:
        checkout.environ |= trial.environ | {"HOME": str(folder), "PIP_REQUIRE_VIRTUALENV": "1"}
        checkout.run(runnable("README.md", "> cards.txt"))
        assert len((checkout.root / "cards.txt").read_text().splitlines()) == 100
        checkout.run(runnable("README.md", "admin add boss"), stdin=f"{PASSWORD}\n")
        assert "boss" in checkout.run("scripts/cardctl admin list")

        checkout.run(runnable("README.md", "pip install ./client"))
        checkout.environ["PATH"] = f"{folder}/kadun-venv/bin:{os.environ['PATH']}"
        version = "import kadun, importlib.metadata; print(kadun.__version__, importlib.metadata.version('kadun'))"
        assert checkout.run(f'python -c "{version}"').split() == [kadun.__version__] * 2
        # The address alone differs: another trial may have the port.
        program = "\n".join(blocks("README.md", "python"))
        assert program.count("http://127.0.0.1:8000") == 1
        (checkout.root / "program.py").write_text(program.replace("http://127.0.0.1:8000", trial.url), "utf-8")
        card = (checkout.root / "cards.txt").read_text().splitlines()[-1]
        wait_for(lambda: "汇率换算" in trial.cardctl("function", "list").stdout)
        ran = checkout.run(runnable("README.md", "python program.py"), stdin=f"{card}\n")
        assert ran.startswith(f"{card}\n卡密: 有效期至 / valid until: 20")
        assert '"USD": "7.12"' in ran
        assert ran.endswith("\n100 USD = 712.00 CNY\n")

        checkout.run(runnable("CONTRIBUTING.md", "events --since 1h"))


@pytest.mark.parametrize("containing", ["pytest", "ruff"])
def test_contributing_runs_single_tests_and_the_formatter(containing: str, checkout: Checkout) -> None:
    checkout.run(runnable("CONTRIBUTING.md", containing))
