"""What the programs of a trial are told."""

from pathlib import Path

from trial.environment import CHECKOUT, Trial, write_secret

TRIAL = Trial(Path("/srv/trial"), 8123)
VENDORS = {
    "PATH": "/usr/bin", "HOME": "/home/a", "AWS_SECRET_ACCESS_KEY": "somebody's", "KADUN_BEHIND_PROXY": "true",
    "DATABASE_URL": "postgresql://elsewhere", "DATABASE_URL_FILE": "/elsewhere", "KADUN_PORT": "8123",
    "KERNAL_DATA_KEY": "another", "KERNAL_DATA_KEY_FILE": "/elsewhere", "KADUN_SEALING_KEY": "another",
    "KADUN_KEYS_DIR": "/elsewhere", "KADUN_FUNCTIONS_DIR": "/elsewhere",
    "KADUN_OFFLINE_GRACE": "7d", "KADUN_FUNCTION_SECONDS": "5",
}  # fmt: skip


def test_the_service_is_told_this_trials_database_and_key_and_no_other() -> None:
    told = TRIAL.service_environment(VENDORS)
    for name in ("DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_SEALING_KEY"):
        assert told[f"{name}_FILE"] == f"/srv/trial/{name.lower().removeprefix('kadun_')}"
    assert (told["KADUN_BIND"], told["KADUN_BEHIND_PROXY"]) == ("127.0.0.1:8123", "false")
    assert not {"DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_SEALING_KEY", "KADUN_PORT"} & set(told)
    assert (told["KADUN_OFFLINE_GRACE"], told["HOME"]) == ("7d", "/home/a")


def test_the_functions_service_is_told_nothing_that_it_could_give_away() -> None:
    assert TRIAL.functions_environment(VENDORS) == {
        "PATH": "/usr/bin",
        "PYTHONPATH": str(CHECKOUT),
        "KADUN_FUNCTION_SECONDS": "5",
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
