"""Packages of core functions, installed by pip from local wheels."""

import fcntl
import os
import subprocess
import sysconfig
import tarfile
from pathlib import Path
from typing import Any

import pytest

from app.domain.texts import RefusedError
from app.functions.modules import packages_dir
from app.services.requirements import install
from tests.support.wheels import write_wheel


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    folder = tmp_path / "functions"
    folder.mkdir()
    return folder


def require(functions: Path, text: str) -> None:
    (functions / "requirements.txt").write_text(text)


def test_the_installed_packages_are_those_of_the_file_and_a_failure_leaves_the_old_ones(functions: Path) -> None:
    (functions / "json.py").write_text("raise SystemExit('the vendor has a json.py, and pip its own')")
    write_wheel(functions, "1.0")
    write_wheel(functions, "2.0", name="other")
    require(functions, "./tiny-1.0-py3-none-any.whl\n")
    target = install(functions)
    assert target == functions.parent / "functions-packages" / sysconfig.get_config_var("SOABI")
    assert (target / "tiny.py").read_text() == 'VERSION = "1.0"\n'
    assert (target / "tiny.py").stat().st_mode & 0o444 == 0o444
    require(functions, "./other-2.0-py3-none-any.whl\n./missing-1.0-py3-none-any.whl\n")
    with pytest.raises(RefusedError, match="nothing was changed"):
        install(functions)
    assert {path.name for path in target.glob("*.py")} == {"tiny.py"}
    require(functions, "./other-2.0-py3-none-any.whl\n")
    assert install(functions) == target
    assert {path.name for path in target.glob("*.py")} == {"other.py"}
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    require(functions, "# nothing any more\n")
    assert list(install(functions).iterdir()) == []


def test_source_distributions_are_refused_because_building_them_runs_their_code(
    functions: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = functions / "setup.py"
    setup.write_text("raise SystemExit('this ran')")
    with tarfile.open(functions / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "evil-1.0/setup.py")
    require(functions, "--no-index\n--find-links .\nevil\n")
    with pytest.raises(RefusedError, match="pip failed"):
        install(functions)
    assert "No matching distribution found for evil" in capfd.readouterr().err


def test_pip_is_given_no_setting_and_none_of_our_modules(functions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        given.update(options["env"])
        return subprocess.CompletedProcess(command, 0)

    for name in ("KERNAL_DATA_KEY", "DATABASE_URL", "KADUN_TOTP_KEY", "KADUN_FILES_BUCKET_SECRET", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setattr(subprocess, "run", run)
    require(functions, "")
    install(functions)
    assert "PATH" in given
    assert "secret" not in given.values()


def test_without_requirements_nothing_is_installed(functions: Path) -> None:
    with pytest.raises(RefusedError, match=r"requirements\.txt: nothing to install"):
        install(functions)
    assert not packages_dir(functions).parent.exists()


def test_two_installations_cannot_run_at_once(functions: Path) -> None:
    require(functions, "")
    folder = packages_dir(functions).parent
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(RefusedError, match="another installation"):
            install(functions)
    finally:
        os.close(handle)
