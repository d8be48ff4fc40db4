"""What core functions import and the service lacks: installed by pip, beside the functions' folder.

The vendor's `requirements.txt` names it. The folder is one of its own, by the interpreter's SOABI: another Python's
extension modules would not load. This knows no setting and no secret, so that it can run where there is none.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.domain.texts import RefusedError
from app.functions.modules import packages_dir

# A folder that the file names may be built, which runs what is in it; and our modules are no package's business.
_NOT_PASSED_ON = ("DATABASE_URL", "KERNAL_DATA_KEY", "PYTHONPATH")
_PIP = ("-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--only-binary=:all:")


def install(functions_dir: Path) -> Path:
    """Install what `functions_dir/requirements.txt` names, from an index wheels alone; pip's words go to stderr.

    The new packages stand whole before they take the old ones' place, and only then. pip takes its own settings
    from the environment (PIP_INDEX_URL, proxies).

    Returns:
        Where they are.

    Raises:
        RefusedError: there is no requirements.txt, pip failed, or another installation is under way.
        OSError: the folder cannot be written.
    """
    requirements = functions_dir / "requirements.txt"
    if not requirements.is_file():
        raise RefusedError(f"没有 {requirements}，无需安装", f"there is no {requirements}: nothing to install")
    target = packages_dir(functions_dir)
    making, leaving = (target.with_name(f"{target.name}.{what}") for what in ("new", "old"))
    target.parent.mkdir(exist_ok=True)
    with _alone(target.parent):
        shutil.rmtree(making, ignore_errors=True)
        _run_pip(requirements, making)
        shutil.rmtree(leaving, ignore_errors=True)
        if target.exists():
            target.rename(leaving)
        making.rename(target)
        shutil.rmtree(leaving, ignore_errors=True)
    return target


def _run_pip(requirements: Path, making: Path) -> None:
    # -P: nothing in the vendor's folder, where paths in the file start from, takes the place of pip's own modules.
    command = [sys.executable, "-P", *_PIP, "--target", str(making), "--requirement", str(requirements)]
    done = subprocess.run(
        command,
        check=False,
        cwd=requirements.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith(_NOT_PASSED_ON)},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        umask=0o022,  # whoever runs the functions reads them
    )
    if done.returncode:
        shutil.rmtree(making, ignore_errors=True)
        raise RefusedError(
            "安装失败，未做更改；可用 PIP_INDEX_URL 指定镜像站",
            "pip failed and nothing was changed; PIP_INDEX_URL names a mirror",
        )
    making.mkdir(exist_ok=True)  # pip makes none where nothing is named


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RefusedError("另一个安装正在进行", "another installation is under way") from error
