"""Every setting, with one clear line for a wrong one; what does not start, such as a service that has moved away.

Also what a trial tells its programs, and how many requests of a kind there may be at once.
"""
# Owns settings, run-moved-away.

import os
import socket
import subprocess
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import falcon
import pytest
from click.testing import CliRunner
from falcon.testing import create_environ

from app.cli.commands.migrate import migrate
from app.domain.hosts import default_name
from app.http import middleware as bounds
from app.http.middleware import Bounds
from app.http.problems import Problem
from app.runtime.clock import utc_now
from app.runtime.settings import Settings, SettingsError
from app.services.system.startup import MOVED, MovedAwayError, check_home, prepare
from app.storage.database import Database
from tests.support.services.service import ROOT
from tests.support.tables import for_each
from trial.environment import CHECKOUT, Trial, write_secret

NEEDED = {
    "DATABASE_URL": "postgresql://kadun:pass-word@localhost:5432/kadun",
    "KERNAL_DATA_KEY": "AGE-SECRET-KEY-1EXAMPLE",
    "KADUN_KEYS_DIR": "/var/lib/kadun/keys",
    "KADUN_FILES_DIR": "/var/lib/kadun/files",
    "KADUN_FUNCTIONS_SOCKET": "/run/kadun-functions/functions.sock",
}
IDENTITY = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"


def refusal(**changes: str) -> str:
    """Return the line that refuses these settings."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({**NEEDED, **changes})
    line = str(refused.value)
    assert "\n" not in line
    return line


def test_five_settings_are_required() -> None:
    assert Settings.from_env(NEEDED) == Settings(
        database_url=NEEDED["DATABASE_URL"], kernal_data_key=NEEDED["KERNAL_DATA_KEY"], sealing_key=None,
        keys_dir=Path("/var/lib/kadun/keys"), keys="folder", keys_identity=None,
        files_dir=Path("/var/lib/kadun/files"), files_bucket=None,
        functions_socket=Path("/run/kadun-functions/functions.sock"), function_seconds=30,
        issuer="kadun", behind_proxy=False, require_sealed=False, owners_need_totp=False, confirm_cards=100,
        webhooks_socket=None, webhook_private=False, offline_grace=None, timezone=ZoneInfo("Asia/Shanghai"),
        journal_keep=timedelta(days=365), log_level="info", bind="127.0.0.1:8000", workers=2, threads=8,
        host=default_name(socket.gethostname()),
    )  # fmt: skip


def test_a_malformed_key_is_refused_and_not_printed_and_keys_in_the_database_need_an_identity() -> None:
    secret = "64 random digits from 0-9 and a-f (openssl rand -hex 32)"
    for name, right, values in (
        ("KADUN_SEALING_KEY", secret, ["5a" * 31, "5A" * 32, "zz" * 32, "5a" * 33]),
        ("KADUN_KEYS_IDENTITY", "one age identity, AGE-SECRET-KEY-1… (age-keygen)",
         ["age1abc", IDENTITY.lower(), IDENTITY[:-1], f"{IDENTITY}\n{IDENTITY}"]),
    ):  # fmt: skip
        assert [refusal(**{name: value}) for value in values] == [f"{name}: it must be {right}"] * len(values)
    read = Settings.from_env({**NEEDED, "KADUN_KEYS": "database", "KADUN_KEYS_IDENTITY": IDENTITY})
    assert (read.keys, read.keys_identity, IDENTITY in repr(read)) == ("database", IDENTITY, False)
    needs = "KADUN_KEYS=database needs KADUN_KEYS_IDENTITY, or KADUN_KEYS_IDENTITY_FILE"
    assert refusal(KADUN_KEYS="database") == needs
    assert refusal(KADUN_KEYS="cloud") == "KADUN_KEYS is 'cloud': it must be folder or database"


OPTIONAL = [
    ("KADUN_HOST", "web-1", "host", "web-1"),
    ("KADUN_KEYS", "folder", "keys", "folder"),
    ("KADUN_KEYS_IDENTITY", IDENTITY, "keys_identity", IDENTITY),
    ("KADUN_SEALING_KEY", "5a" * 32, "sealing_key", "5a" * 32),
    ("KADUN_ISSUER", "卡盾", "issuer", "卡盾"),
    ("KADUN_BEHIND_PROXY", "true", "behind_proxy", True),
    ("KADUN_BEHIND_PROXY", "false", "behind_proxy", False),
    ("KADUN_REQUIRE_SEALED", "true", "require_sealed", True),
    ("KADUN_OWNERS_NEED_TOTP", "true", "owners_need_totp", True),
    ("KADUN_CONFIRM_CARDS", "1000000", "confirm_cards", 1_000_000),
    ("KADUN_WEBHOOKS_SOCKET", "/run/webhooks.sock", "webhooks_socket", Path("/run/webhooks.sock")),
    ("KADUN_WEBHOOK_PRIVATE", "true", "webhook_private", True),
    ("KADUN_OFFLINE_GRACE", "12h", "offline_grace", timedelta(hours=12)),
    ("KADUN_TIMEZONE", "Europe/Berlin", "timezone", ZoneInfo("Europe/Berlin")),
    ("KADUN_JOURNAL_KEEP_DAYS", "36500", "journal_keep", timedelta(days=36_500)),
    ("KADUN_FUNCTION_SECONDS", "300", "function_seconds", 300),
    ("KADUN_LOG_LEVEL", "debug", "log_level", "debug"),
    ("KADUN_BIND", "unix:/run/kadun/kadun.sock", "bind", "unix:/run/kadun/kadun.sock"),
    ("KADUN_BIND", "[::1]:8000", "bind", "[::1]:8000"),
    ("KADUN_WORKERS", "64", "workers", 64),
    ("KADUN_THREADS", "1", "threads", 1),
]


def test_a_setting_is_read_unless_empty_and_every_setting_is_tested_here() -> None:
    for name, value, attribute, read in OPTIONAL:
        assert getattr(Settings.from_env({**NEEDED, name: value}), attribute) == read, name
        assert Settings.from_env({**NEEDED, name: ""}) == Settings.from_env(NEEDED), name
    needed = {"database_url", "kernal_data_key", "keys_dir", "files_dir", "functions_socket"}
    needed.add("files_bucket")  # tests/unit/files/test_files.py
    assert {field.name for field in fields(Settings)} == needed | {attribute for *_, attribute, _ in OPTIONAL}


def test_a_wrong_or_missing_setting_is_named_with_what_would_be_right() -> None:
    for name, right, values in (
        ("DATABASE_URL", "postgresql://user:password@host:5432/name", ["mysql://kadun@localhost/kadun", "localhost"]),
        ("KADUN_FUNCTION_SECONDS", "from 1 to 300", ["0"]),
        ("KADUN_BEHIND_PROXY", "true or false", ["yes", "True"]),
        ("KADUN_REQUIRE_SEALED", "true or false", ["1"]),
        ("KADUN_OWNERS_NEED_TOTP", "true or false", ["yes"]),
        ("KADUN_CONFIRM_CARDS", "0 to 1000000", ["-1", "1000001"]),
        ("KADUN_OFFLINE_GRACE", "write 30s", ["soon", "permanent"]),
        ("KADUN_OFFLINE_GRACE", "from 1 second", ["0s"]),
        ("KADUN_TIMEZONE", "Asia/Shanghai", ["Shanghai", "Asia", "../../etc/passwd", "/etc/localtime", "tzdata.zi"]),
        ("KADUN_JOURNAL_KEEP_DAYS", "from 1 to 36500", ["0", "36501", "1.5"]),
        ("KADUN_LOG_LEVEL", "debug or info or warning or error", ["INFO"]),
        ("KADUN_BIND", "host:port or unix:/path", ["8000", "localhost", "::1:8000", "unix:kadun.sock"]),
        ("KADUN_BIND", "host:port or unix:/path", ["127.0.0.1:http", "http://127.0.0.1:8000", "127.0.0.1:65536"]),
        ("KADUN_WORKERS", "from 1 to 64", ["0", "65", "two", "２"]),
        ("KADUN_THREADS", "from 1 to 64", ["-1", " 8", "1" * 5000]),
    ):
        for value in values:
            line = refusal(**{name: value})
            assert (line.startswith(name), right in line) == (True, True), line
    assert "hunter2" not in refusal(DATABASE_URL="postgres:kadun:hunter2@localhost")
    for name in NEEDED:
        without = {key: value for key, value in NEEDED.items() if key != name}
        for env in (without, {**NEEDED, name: ""}):
            with pytest.raises(SettingsError, match=f"^{name} is not set"):
                Settings.from_env(env)


@for_each("name", ["DATABASE_URL", "KERNAL_DATA_KEY"])
def test_a_secret_is_also_read_from_a_file_and_never_shown(name: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(NEEDED[name] + "\r\n")
    env = {key: value for key, value in NEEDED.items() if key != name} | {f"{name}_FILE": str(file)}
    assert Settings.from_env(env) == Settings.from_env(NEEDED)
    lines = Settings.from_env({**NEEDED, "KERNAL_DATA_KEY": "newest\nolder\n"}).kernal_data_key
    assert lines == "newest\nolder", "several keys stay several lines"
    assert NEEDED[name] not in repr(Settings.from_env(NEEDED))
    assert refusal(**{f"{name}_FILE": str(file)}) == f"both {name} and {name}_FILE are set: keep one"
    assert f"{name} is not set: set it, or {name}_FILE" in refusal(**{name: " \n"})
    for content, why in ((b"", "is empty"), (b" \n\n", "is empty"), (b"\xff\xfe", "is not UTF-8 text")):
        file.write_bytes(content)
        assert refusal(**{name: "", f"{name}_FILE": str(file)}) == f"{name}_FILE: {file} {why}"
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        assert refusal(**{name: "", f"{name}_FILE": str(path)}) == f"{name}_FILE: cannot read {path}: {why}"


def test_a_service_that_has_moved_names_the_new_server_before_it_looks_at_database_and_keys(tmp_path: Path) -> None:
    check_home(tmp_path)
    check_home(tmp_path / "no such folder")
    (tmp_path / MOVED).write_text("2026-11-25T12:00:00Z root@new:/srv/kadun\n")
    with pytest.raises(MovedAwayError) as caught:
        check_home(tmp_path)
    assert "scripts/migrate-to.sh --resume-here" in str(caught.value)
    assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in str(caught.value)
    (tmp_path / MOVED).write_text("2026-11-25T12:00:00Z from old:/srv/kadun\n")
    with pytest.raises(MovedAwayError, match="This is an unfinished copy from old:/srv/kadun and does not start"):
        check_home(tmp_path)
    done = CliRunner().invoke(migrate, env={"KADUN_KEYS_DIR": str(tmp_path), "DATABASE_URL": "postgresql://nowhere/x"})
    assert isinstance(done.exception, MovedAwayError)
    keys: Any = SimpleNamespace(folder=tmp_path)
    with pytest.raises(MovedAwayError):
        prepare(Database("postgresql://nowhere/x"), keys, utc_now)
    # A mark that is no file is neither waited for nor called a move.
    mark = tmp_path / MOVED
    mark.unlink()
    mark.mkdir()
    with pytest.raises(MovedAwayError) as caught:
        check_home(tmp_path)
    assert f"Cannot read {mark} (Is a directory)" in str(caught.value)
    assert "--resume-here" not in str(caught.value)
    mark.rmdir()
    for place in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        place(mark)
        with pytest.raises(MovedAwayError):
            check_home(tmp_path)
        mark.unlink()


def test_only_a_held_lock_is_taken_for_another_database(tmp_path: Path) -> None:
    (tmp_path / "postmaster.opts").write_text('postgres "-c" "cluster_name=first"\n')
    flock = tmp_path / "flock"
    flock.touch(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PGDATA": str(tmp_path)}
    command = ["bash", ROOT / "deploy/postgres/entrypoint.sh"]
    for status, said in ((1, "The database of project first runs over this"), (65, "cannot lock (flock's status 65)")):
        flock.write_text(f"#!/bin/sh\nexit {status}\n")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stderr, len(done.stderr.splitlines())) == (1, True, 1), status


VENDORS = {
    "PATH": "/usr/bin", "HOME": "/home/a", "AWS_SECRET_ACCESS_KEY": "somebody's", "KADUN_BEHIND_PROXY": "true",
    "DATABASE_URL": "postgresql://elsewhere", "DATABASE_URL_FILE": "/elsewhere", "KADUN_PORT": "8123",
    "KERNAL_DATA_KEY": "another", "KERNAL_DATA_KEY_FILE": "/elsewhere", "KADUN_SEALING_KEY": "another",
    "KADUN_KEYS_DIR": "/elsewhere", "KADUN_FUNCTIONS_DIR": "/elsewhere",
    "KADUN_OFFLINE_GRACE": "7d", "KADUN_FUNCTION_SECONDS": "5",
}  # fmt: skip


def test_a_trials_service_is_told_its_database_and_key_and_its_functions_nothing_to_give_away() -> None:
    trial = Trial(Path("/srv/trial"), 8123)
    told = trial.service_environment(VENDORS)
    for name in ("DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_SEALING_KEY"):
        assert told[f"{name}_FILE"] == f"/srv/trial/{name.lower().removeprefix('kadun_')}"
    assert (told["KADUN_BIND"], told["KADUN_BEHIND_PROXY"]) == ("127.0.0.1:8123", "false")
    assert not {"DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_SEALING_KEY", "KADUN_PORT"} & set(told)
    assert (told["KADUN_OFFLINE_GRACE"], told["HOME"]) == ("7d", "/home/a")
    at = {f"KADUN_FUNCTIONS_{name}": f"/srv/trial/functions{end}" for name, end in (("DIR", ""), ("SOCKET", ".sock"))}
    expected = {"PATH": "/usr/bin", "PYTHONPATH": str(CHECKOUT), "KADUN_FUNCTION_SECONDS": "5"} | at
    assert trial.functions_environment(VENDORS) == expected


def test_a_secret_is_its_owners_only_and_replaced_whole(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    write_secret(secret, "first and longer")
    write_secret(secret, "second")
    assert secret.read_text() == "second"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [secret]


def test_customers_operators_and_verifications_have_places_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_PATIENCE_SECONDS", 0)
    middleware, response = Bounds(8), falcon.Response()

    def begin(path: str) -> falcon.Request:
        request = falcon.Request(create_environ(path))
        middleware.process_request(request, response)
        return request

    for taken, other, number in (("/card", "/v1/self/status", 2), ("/admin/cards", "/v1/shop/cards", 4)):
        first, *_others = [begin(taken) for _ in range(number)]
        with pytest.raises(Problem):
            begin(other)
        middleware.process_response(first, response, None, True)  # noqa: FBT003  # Falcon's signature
        begin(other)
        with pytest.raises(Problem):
            begin(taken)
    for path in ("/v1/verify", "/admin/login", "/admin/static/console.js"):
        begin(path)
