import os
from pathlib import Path

import pytest

from trial.environment import CHECKOUT, Trial, default_data_dir, write_secret
from trial.errors import TrialError, tail

ORDINARY = 1000


def test_an_ordinary_users_state_lies_in_the_checkout() -> None:
    assert default_data_dir(uid=ORDINARY, checkout=Path("/home/a/kadun")) == Path("/home/a/kadun/.trial")


def test_roots_state_lies_where_other_accounts_can_reach_it() -> None:
    folder = default_data_dir(uid=0, checkout=Path("/root/kadun"))
    assert folder.parent == Path("/var/lib/kadun-trial")
    assert folder.name.startswith("kadun-")


def test_two_checkouts_of_one_name_keep_their_state_apart() -> None:
    assert default_data_dir(uid=0, checkout=Path("/root/kadun")) != default_data_dir(uid=0, checkout=Path("/srv/kadun"))


def test_the_folder_and_the_port_are_the_callers_to_choose() -> None:
    trial = Trial.from_environ({"KADUN_DATA_DIR": "/srv/trial", "KADUN_PORT": "8123"}, uid=ORDINARY)
    assert (trial.data_dir, trial.url) == (Path("/srv/trial"), "http://127.0.0.1:8123")


def test_a_command_to_paste_names_a_folder_that_is_not_the_usual_one() -> None:
    usual = Trial(default_data_dir(uid=os.geteuid()), 8000)
    assert usual.command("admin", "add", "boss").endswith("scripts/cardctl admin add boss")
    assert Trial(Path("/srv/my kit"), 8000).command("--help") == "KADUN_DATA_DIR='/srv/my kit' scripts/cardctl --help"
    assert usual.console_url == "http://127.0.0.1:8000/admin"


def test_empty_variables_count_as_unset() -> None:
    trial = Trial.from_environ({"KADUN_DATA_DIR": "", "KADUN_PORT": ""}, uid=ORDINARY)
    assert (trial.data_dir, trial.port) == (CHECKOUT / ".trial", 8000)


def test_a_relative_folder_is_the_callers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Trial.from_environ({"KADUN_DATA_DIR": "here"}, uid=ORDINARY).data_dir == tmp_path / "here"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "80a", " 80", "８０", "1e3"])
def test_what_is_no_port_is_refused_by_name(port: str) -> None:
    with pytest.raises(TrialError, match=r"KADUN_PORT is no port"):
        Trial.from_environ({"KADUN_PORT": port}, uid=ORDINARY)


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


def test_an_error_is_one_line_in_both_languages() -> None:
    error = TrialError("端口被占用。", "The port is taken.", detail="a log")
    assert str(error) == "端口被占用。 The port is taken."


def test_a_tail_has_the_last_lines_and_no_blank_ones() -> None:
    assert tail("1\n2\n\n3\n\n", lines=2) == "2\n3"
