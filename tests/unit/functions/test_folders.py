"""The functions service: a call's own folder, the vendor's modules with their digest, and its settings."""

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.functions import modules
from app.functions.modules import digest, packages_dir, signature
from app.functions.places import remove
from app.functions.processes import MAX_TASKS
from app.functions.settings import FunctionSettings
from app.runtime.environment import SettingsError
from tests.support.services.service import ROOT
from tests.support.tables import for_each


@pytest.fixture
def own() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="kadun-call-"))
    yield made
    remove(made)
    assert not made.exists()


def test_a_calls_folder_is_private_and_removed_with_its_contents_but_not_what_links_point_to(
    own: Path, tmp_path: Path
) -> None:
    (tmp_path / "kept").touch()
    tmp_path.chmod(0o750)
    (own / "link").symlink_to(tmp_path)
    (own / "locked").mkdir()
    (own / "locked" / "file").touch()
    at = os.open(own, os.O_RDONLY)
    for _ in range(2_000):  # deeper than Python calls functions
        os.mkdir("x", dir_fd=at)
        deeper = os.open("x", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = deeper
    os.close(at)
    (own / "locked").chmod(0)
    own.chmod(0o500)
    remove(own)
    assert not own.exists()
    assert (tmp_path / "kept").exists()
    assert tmp_path.stat().st_mode & 0o777 == 0o750


def test_an_import_that_hangs_and_blocks_signals_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "IMPORT_SECONDS", 1)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kadun_hangs.py").write_text(
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\ntime.sleep(600)\n"
    )
    error = modules.functions_or_error("kadun_hangs", tmp_path)
    assert isinstance(error, str)
    assert error.startswith("Timeout (0:00:01)!")
    assert 'kadun_hangs.py", line 3' in error


def fill(folder: Path) -> None:
    (folder / "tables").mkdir(parents=True)
    (folder / "shop.py").write_text("PRICE = 1\n")
    (folder / "tables/rates.csv").write_text("EUR,7.8\n")


def test_the_same_modules_have_the_same_digest(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    fill(one)
    fill(other)
    os.utime(other / "shop.py", (0, 0))
    (other / ".shop.py.swp").write_text("an editor's")
    (other / "__pycache__").mkdir()
    (other / "__pycache__/shop.pyc").write_bytes(b"compiled")
    assert digest(one) == digest(other)
    assert signature(one) != signature(other)  # of times and inodes
    os.mkfifo(one / "pipe.py")  # which is not waited for
    assert digest(one) != digest(other)


@for_each(
    "change, is_seen, is_other",
    [
        (lambda folder: (folder / "shop.py").write_text("PRICE = 2"), True, True),
        (lambda folder: (folder / "shop.py").chmod(0o600), True, False),
        (lambda folder: (folder / "shop.py").rename(folder / "store.py"), True, True),
        (lambda folder: (folder / "empty.py").touch(), True, True),
        (lambda folder: (folder / "tables/rates.csv").write_text("EUR,7.9"), True, True),
        (lambda folder: (folder / "tables/link").symlink_to("nowhere"), True, True),
        (lambda folder: packages_dir(folder).mkdir(parents=True), True, False),
        # As a backup may.
        (lambda folder: (folder.parent / "exported.py").hardlink_to(folder / "shop.py"), False, False),
        (lambda folder: (folder / "again").symlink_to(folder), False, False),
        (lambda folder: (folder / "__pycache__").mkdir(), False, False),
        *((lambda folder, n=n: (folder / n).touch(), False, False) for n in (".shop.py.swp", "shop.py~", "#shop.py#")),
    ],
)
def test_a_change_below_the_folder_changes_signature_and_digest_and_an_editors_file_neither(
    tmp_path_factory: pytest.TempPathFactory, change: Callable[[Path], object], *, is_seen: bool, is_other: bool
) -> None:
    folder = tmp_path_factory.mktemp("kadun") / "functions"
    fill(folder)
    before = (signature(folder), digest(folder))
    change(folder)
    assert (signature(folder) != before[0], digest(folder) != before[1]) == (is_seen, is_other)
    assert signature(folder) == signature(folder)


LEAST = {"KADUN_FUNCTIONS_DIR": "/data/functions", "KADUN_FUNCTIONS_SOCKET": "/run/functions.sock"}


def test_a_value_out_of_bounds_is_refused() -> None:
    for name, *values in (
        ("KADUN_FUNCTION_SECONDS", "0", "301"),
        ("KADUN_FUNCTION_MEMORY_MB", "8"),
        ("KADUN_FUNCTION_CONCURRENCY", "65"),
        ("KADUN_FUNCTION_RESULT_KB", "513"),
        ("KADUN_FUNCTION_CALLS_PER_CARD", "0"),
        ("KADUN_FUNCTION_CALLS_PER_ADDRESS", "65"),
        ("KADUN_FUNCTION_FIRST_UID", "999"),
        ("KADUN_FUNCTIONS_USER", "kadun", "10001"),
        ("KADUN_LOG_LEVEL", "loud"),
    ):
        for value in values:
            with pytest.raises(SettingsError, match=name):
                FunctionSettings.from_env({**LEAST, name: value})


def test_the_container_allows_as_many_processes_as_calls_may_start_and_has_the_default_user_ids() -> None:
    compose = (ROOT / "docker-compose.yml").read_text().partition("\n  functions:\n")[2]
    limit = re.search(r"pids_limit: (\d+)", compose)
    assert limit
    calls = FunctionSettings.from_env(LEAST).calls.places * (1 + MAX_TASKS)  # and their supervisors
    assert calls + 64 <= int(limit[1])  # the service itself, and its threads
    assert "${KADUN_FUNCTION_FIRST_UID:-20001}" in (ROOT / "docker-compose.yml").read_text()


def test_user_ids_are_numbers_and_the_service_has_none_of_those_for_calls() -> None:
    env = {**LEAST, "KADUN_FUNCTION_FIRST_UID": "20001", "KADUN_FUNCTIONS_USER": "10001:101"}
    settings = FunctionSettings.from_env(env)
    assert (settings.first_uid, settings.user) == (20_001, (10_001, 101))
    for user in ("20001:101", "10001:20129"):
        with pytest.raises(
            SettingsError, match="must not be among the 129 IDs from KADUN_FUNCTION_FIRST_UID, 20001, on"
        ):
            FunctionSettings.from_env({**env, "KADUN_FUNCTIONS_USER": user})
    with pytest.raises(SettingsError, match="KADUN_FUNCTIONS_USER is set without KADUN_FUNCTION_FIRST_UID"):
        FunctionSettings.from_env({**LEAST, "KADUN_FUNCTIONS_USER": "10001:101"})
