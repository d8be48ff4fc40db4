"""The package as a vendor's program sees it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import kadun

SOURCE = Path(kadun.__file__).parent


def test_everything_promised_is_there() -> None:
    assert set(kadun.__all__) >= {"Client", "CardRejected", "ServerUnreachable", "UntrustedAnswer"}
    assert all(hasattr(kadun, name) for name in kadun.__all__)
    assert (SOURCE / "py.typed").is_file()


def test_every_error_of_ours_is_a_kadun_error() -> None:
    errors = [value for value in vars(kadun).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(errors) == 7
    assert all(issubclass(error, kadun.KadunError) for error in errors)


def test_it_imports_nothing_of_the_server() -> None:
    imported = set()
    for path in SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).split(".")[0])
    assert "app" not in imported
    ours = imported - set(sys.stdlib_module_names)
    assert ours == {"kadun", "cryptography", "joserfc", "jwt", "pyrage", "requests", "urllib3"}


def test_importing_it_prints_nothing_and_warns_of_nothing() -> None:
    command = [sys.executable, "-W", "error", "-c", "import kadun"]
    done = subprocess.run(command, env={"PYTHONPATH": str(SOURCE.parent)}, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
