import re
from pathlib import Path

import pytest

from app.environment import SettingsError
from app.functions.settings import FunctionSettings
from app.functions.supervisor import MAX_PROCESSES
from tests.support.service import ROOT

LEAST = {"KADUN_FUNCTIONS_DIR": "/data/functions", "KADUN_FUNCTIONS_SOCKET": "/run/functions.sock"}


def test_defaults() -> None:
    assert FunctionSettings.from_env(LEAST) == FunctionSettings(
        folder=Path("/data/functions"),
        socket=Path("/run/functions.sock"),
        seconds=30,
        memory_mb=192,
        concurrency=4,
        result_kb=256,
        log_level="info",
    )


@pytest.mark.parametrize("name", sorted(LEAST))
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is not set"):
        FunctionSettings.from_env({**LEAST, name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KADUN_FUNCTION_SECONDS", "0"),
        ("KADUN_FUNCTION_SECONDS", "301"),
        ("KADUN_FUNCTION_MEMORY_MB", "8"),
        ("KADUN_FUNCTION_CONCURRENCY", "65"),
        ("KADUN_FUNCTION_RESULT_KB", "513"),
        ("KADUN_LOG_LEVEL", "loud"),
    ],
)
def test_a_value_out_of_bounds_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        FunctionSettings.from_env({**LEAST, name: value})


def test_relative_paths_start_in_the_working_directory() -> None:
    settings = FunctionSettings.from_env({"KADUN_FUNCTIONS_DIR": "functions", "KADUN_FUNCTIONS_SOCKET": "x.sock"})
    assert settings.folder == Path.cwd() / "functions"
    assert settings.socket == Path.cwd() / "x.sock"


@pytest.mark.parametrize("name", ["DATABASE_URL", "KERNAL_DATA_KEY", "DATABASE_URL_FILE", "KERNAL_DATA_KEY_FILE"])
def test_a_secret_is_refused_and_not_shown(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is set") as refusal:
        FunctionSettings.from_env({**LEAST, name: "hunter2"})
    assert "hunter2" not in str(refusal.value)
    assert FunctionSettings.from_env({**LEAST, name: ""})


def test_the_container_allows_as_many_processes_as_calls_may_start() -> None:
    compose = (ROOT / "docker-compose.yml").read_text().partition("\n  functions:\n")[2]
    limit = re.search(r"pids_limit: (\d+)", compose)
    assert limit
    processes_of_a_call = 1 + 1 + MAX_PROCESSES  # supervisor, function, what it starts
    calls = FunctionSettings.from_env(LEAST).concurrency * processes_of_a_call
    assert calls + 64 <= int(limit[1])  # the service itself, and threads
    for guide in ("files-and-functions.md", "files-and-functions.zh-CN.md"):
        text = (ROOT / "docs" / guide).read_text()
        assert re.search(rf"\| {limit[1]}( 个)? \|", text), guide
        assert re.search(rf"\| {MAX_PROCESSES}( 个)? \|", text), guide
