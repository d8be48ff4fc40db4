"""scripts/lib/ in bash itself, with commands in a database's or an engine's place that answer what a test wants."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.services.service import ROOT

SOURCES = "archive replace"
PRELUDE = """
set -euo pipefail
ROOT=$1
for module in {sources}; do source "$ROOT/scripts/lib/$module.sh"; done
LIVE=kadun STAGED=$ROOT/data/staged BACKUP_FOLDER=$ROOT/data
owner_sql() {{ # what the test says that the database answers to this
    printf '%s\\n' "$1: $2" >>"$ROOT/asked"
    answer "$1" "$2"
}}
"""


def checkout_in(folder: Path) -> Path:
    """Return a checkout with the scripts and without a service."""
    for name in ("scripts", "deploy/postgres"):
        shutil.copytree(ROOT / name, folder / name)
    version = "client/src/kadun/version.py"
    (folder / version).parent.mkdir(parents=True)
    shutil.copy(ROOT / version, folder / version)
    (folder / "data/keys").mkdir(parents=True)
    (folder / ".env").touch()
    return folder


def fresh_checkout(folder: Path) -> Path:
    """Return another such checkout each time."""
    return checkout_in(Path(tempfile.mkdtemp(dir=folder)))


def bash(checkout: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in bash with all libraries."""
    command = ("bash", "-c", PRELUDE.format(sources=SOURCES) + code, "script.sh", checkout)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def functions_of(checkout: Path, script: str, *names: str) -> str:
    """Return the text of functions in a script that cannot be sourced."""
    text = (checkout / "scripts" / script).read_text()
    return "".join(text[text.index(f"\n{name}() {{") :].partition("\n}\n")[0] + "\n}\n" for name in names)
