"""What the programs of a trial are told, and who its functions run as."""

from pathlib import Path

import pytest

from app.functions.places import IDS
from trial import isolation
from trial.environment import CHECKOUT, Trial, write_secret
from trial.isolation import FUNCTION_UIDS, first_function_uid


def test_the_service_is_told_this_trials_database_and_key_and_no_other() -> None:
    trial = Trial(Path("/srv/trial"), 8123)
    told = trial.service_environment(
        {
            "DATABASE_URL": "postgresql://elsewhere",
            "DATABASE_URL_FILE": "/elsewhere",
            "KERNAL_DATA_KEY": "another",
            "KADUN_TOTP_KEY": "another",
            "KADUN_BEHIND_PROXY": "true",
            "KADUN_PORT": "8123",
            "KADUN_OFFLINE_GRACE": "7d",
            "HOME": "/home/a",
        }
    )
    assert told["DATABASE_URL_FILE"] == "/srv/trial/database_url"
    assert told["KERNAL_DATA_KEY_FILE"] == "/srv/trial/kernal_data_key"
    assert told["KADUN_TOTP_KEY_FILE"] == "/srv/trial/totp_key"
    assert told["KADUN_BIND"] == "127.0.0.1:8123"
    assert told["KADUN_BEHIND_PROXY"] == "false"
    assert not {"DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_TOTP_KEY", "KADUN_PORT"} & set(told)
    assert (told["KADUN_OFFLINE_GRACE"], told["HOME"]) == ("7d", "/home/a")


def test_the_functions_service_is_told_nothing_that_it_could_give_away() -> None:
    told = Trial(Path("/srv/trial"), 8123).functions_environment(
        {
            "PATH": "/usr/bin",
            "HOME": "/home/a",
            "DATABASE_URL": "postgresql://elsewhere",
            "KERNAL_DATA_KEY_FILE": "/elsewhere",
            "AWS_SECRET_ACCESS_KEY": "somebody's",
            "KADUN_KEYS_DIR": "/elsewhere",
            "KADUN_FUNCTION_SECONDS": "5",
            "KADUN_FUNCTIONS_DIR": "/elsewhere",
        },
        400_000_000,
    )
    assert told == {
        "PATH": "/usr/bin",
        "PYTHONPATH": str(CHECKOUT),
        "KADUN_FUNCTION_SECONDS": "5",
        "KADUN_FUNCTION_FIRST_UID": "400000000",
        "KADUN_FUNCTIONS_DIR": "/srv/trial/functions",
        "KADUN_FUNCTIONS_SOCKET": "/srv/trial/functions.sock",
    }


def test_a_secret_is_its_owners_only_and_replaced_whole(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write_secret(secret, "first and longer")
    write_secret(secret, "second")
    assert secret.read_text() == "second"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [secret]


def test_functions_have_user_ids_that_follow_from_the_folder_and_that_no_account_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert FUNCTION_UIDS == IDS
    first = first_function_uid(Path("/srv/trial"))
    assert first_function_uid(Path("/srv/trial")) == first
    assert abs(first_function_uid(Path("/srv/other")) - first) >= IDS
    taken = first + IDS - 1
    monkeypatch.setattr(isolation, "_has_account", lambda uid: uid == taken)
    assert first_function_uid(Path("/srv/trial")) > taken
