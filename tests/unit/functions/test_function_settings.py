import re

import pytest

from app.environment import SettingsError
from app.functions.places import IDS
from app.functions.processes import MAX_TASKS
from app.functions.settings import FunctionSettings
from tests.support.service import ROOT
from tests.support.tables import for_each

LEAST = {"KADUN_FUNCTIONS_DIR": "/data/functions", "KADUN_FUNCTIONS_SOCKET": "/run/functions.sock"}


@for_each(
    "name, values",
    [
        ("KADUN_FUNCTION_SECONDS", ["0", "301"]),
        ("KADUN_FUNCTION_MEMORY_MB", ["8"]),
        ("KADUN_FUNCTION_CONCURRENCY", ["65"]),
        ("KADUN_FUNCTION_RESULT_KB", ["513"]),
        ("KADUN_FUNCTION_CALLS_PER_CARD", ["0"]),
        ("KADUN_FUNCTION_CALLS_PER_ADDRESS", ["65"]),
        ("KADUN_FUNCTION_FIRST_UID", ["999"]),
        ("KADUN_FUNCTIONS_USER", ["kadun", "10001"]),
        ("KADUN_LOG_LEVEL", ["loud"]),
    ],
)
def test_a_value_out_of_bounds_is_refused(name: str, values: list[str]) -> None:
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
    assert f"first + {IDS - 1}" in (ROOT / "scripts/init.sh").read_text()
    for guide in ("files-and-functions.md", "files-and-functions.zh-CN.md"):
        text = (ROOT / "docs" / guide).read_text()
        assert re.search(rf"\| {limit[1]}( 个)? \|", text), guide
        assert re.search(rf"\| {MAX_TASKS}( 个)? \|", text), guide


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
