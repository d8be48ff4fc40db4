"""The SDK's hook for PyInstaller, which finds it by the entry point in the package's metadata."""

from __future__ import annotations


def hook_dirs() -> list[str]:
    """Return the folder of the hook."""
    return list(__path__)
