"""Every setting: its default, the values that it accepts, and one clear line for any other."""
# Owns settings.

import socket
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.domain.hosts import default_name
from app.runtime.settings import Settings, SettingsError
from tests.support.tables import for_each

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


@for_each(("name", "value", "attribute", "read"), OPTIONAL)
def test_a_setting_is_read_unless_empty(name: str, value: str, attribute: str, read: object) -> None:
    assert getattr(Settings.from_env({**NEEDED, name: value}), attribute) == read
    assert Settings.from_env({**NEEDED, name: ""}) == Settings.from_env(NEEDED)


def test_every_setting_is_tested_here() -> None:
    needed = {"database_url", "kernal_data_key", "keys_dir", "files_dir", "functions_socket"}
    needed.add("files_bucket")  # tests/unit/files/test_files.py
    assert {field.name for field in fields(Settings)} == needed | {attribute for *_, attribute, _ in OPTIONAL}


def test_a_wrong_setting_is_named_with_what_would_be_right() -> None:
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


def test_a_missing_setting_is_named() -> None:
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
    assert NEEDED[name] not in repr(Settings.from_env(NEEDED))
    assert refusal(**{f"{name}_FILE": str(file)}) == f"both {name} and {name}_FILE are set: keep one"
    assert f"{name} is not set: set it, or {name}_FILE" in refusal(**{name: " \n"})
    for content, why in ((b"", "is empty"), (b" \n\n", "is empty"), (b"\xff\xfe", "is not UTF-8 text")):
        file.write_bytes(content)
        assert refusal(**{name: "", f"{name}_FILE": str(file)}) == f"{name}_FILE: {file} {why}"
    for path, why in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        assert refusal(**{name: "", f"{name}_FILE": str(path)}) == f"{name}_FILE: cannot read {path}: {why}"


def test_several_keys_stay_several_lines_and_a_wrong_database_url_is_not_quoted() -> None:
    assert Settings.from_env({**NEEDED, "KERNAL_DATA_KEY": "newest\nolder\n"}).kernal_data_key == "newest\nolder"
    assert "hunter2" not in refusal(DATABASE_URL="postgres:kadun:hunter2@localhost")
