"""Faults of a running stack's keys, secrets, licensed files and modules of functions, which are healed afterwards."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pyrage

from tests.support.stack import Stack
from tests.support.stack_changes import more_settings, rewritten


@contextmanager
def keys_replaced(stack: Stack) -> Iterator[None]:
    """Put a copy in the place of the folder of the keys; the running containers see the old folder."""
    folder = stack.folder / "data/keys"
    aside = folder.rename(folder.with_name("aside"))
    try:
        shutil.copytree(aside, folder)
        yield
    finally:
        shutil.rmtree(folder)
        aside.rename(folder)


def other_data_key(stack: Stack) -> AbstractContextManager[None]:
    return rewritten(stack.folder / "secrets/kernal_data_key", str(pyrage.x25519.Identity.generate()))


def secret_in_env(stack: Stack) -> AbstractContextManager[None]:
    return more_settings(stack, f"NOTE={(stack.folder / 'secrets/db_password').read_text().strip()}")


@contextmanager
def closed_files(stack: Stack) -> Iterator[None]:
    folder = stack.folder / "data/files"
    owner = folder.stat().st_uid
    os.chown(folder, 0, -1)
    try:
        yield
    finally:
        os.chown(folder, owner, -1)


@contextmanager
def altered_file(stack: Stack) -> Iterator[None]:
    """Change the bytes of a licensed file, but not their number."""
    source = stack.folder / "core.bin"
    source.write_text("core data")
    stack.script("cardctl", "file", "add", source)
    (stored,) = (file for file in (stack.folder / "data/files").iterdir() if file.read_text() == "core data")
    try:
        with rewritten(stored, "core dat4"):
            yield
    finally:
        stack.script("cardctl", "file", "remove", "core.bin")


@contextmanager
def broken_module(stack: Stack) -> Iterator[None]:
    module = stack.folder / "data/functions/prices.py"
    module.write_text("import nothing_of_this_name\n")
    try:
        stack.script("cardctl", "function", "reload", check=False)
        yield
    finally:
        module.unlink()
        stack.script("cardctl", "function", "reload")
