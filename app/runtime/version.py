"""The version of this release, as the SDK in the same checkout has it."""

import runpy
from pathlib import Path

# The image has this one file of the SDK at the same place (see Dockerfile), and not the package `kadun`.
_SOURCE = Path(__file__).resolve().parents[2] / "client" / "src" / "kadun" / "version.py"


def read_version() -> str:
    """Return the version, such as `1.0.0`."""
    return str(runpy.run_path(str(_SOURCE))["__version__"])
