"""Installs the packages that core functions require: those of `requirements.txt` in the functions folder.

They go into a folder beside it, one for each SOABI, since extension modules load in one Python only. No setting and no
secret is needed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from app.domain.texts import RefusedError
from app.functions.modules import packages_dir
from app.runtime.environment import without_settings

_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--only-binary=:all:")


def install(functions_dir: Path) -> Path:
    """Install the packages of `functions_dir/requirements.txt`, from an index only as wheels; pip prints to stderr.

    The new packages replace the old ones when all of them are installed. pip reads its own settings from the
    environment (PIP_INDEX_URL, proxies). Return the folder of the packages. Raise RefusedError if there is no
    requirements.txt or pip failed, OSError if the folder cannot be written.
    """
    requirements = functions_dir / "requirements.txt"
    if not requirements.is_file():
        raise RefusedError(f"没有 {requirements}，无需安装", f"there is no {requirements}: nothing to install")
    target = packages_dir(functions_dir)
    new, old = (target.with_name(f"{target.name}.{what}") for what in ("new", "old"))
    target.parent.mkdir(exist_ok=True)
    shutil.rmtree(new, ignore_errors=True)
    _run_pip(requirements, new)
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    return target


def _run_pip(requirements: Path, new: Path) -> None:
    # -P: no module in the working directory, where relative paths in the file begin, replaces one of pip's.
    command = [sys.executable, "-P", *_PIP, "--target", str(new), "--requirement", str(requirements)]
    # pip may build a folder that the file names, which runs its code: that gets neither secrets nor our modules.
    env = without_settings(os.environ)
    env.pop("PYTHONPATH", None)
    done = subprocess.run(
        command,
        check=False,
        cwd=requirements.parent,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        umask=0o022,  # the functions service reads the packages
    )
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        raise RefusedError(
            "安装失败，未做更改；可用 PIP_INDEX_URL 指定镜像站",
            "pip failed and nothing was changed; PIP_INDEX_URL names a mirror",
        )
    new.mkdir(exist_ok=True)  # pip makes no folder for an empty file
