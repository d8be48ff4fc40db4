"""Every setting: its default, the values that it accepts, and one clear line for any other."""

import socket
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.domain.hosts import default_name
from app.settings import Settings, SettingsError, bind_from, database_url_from
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
        database_url=NEEDED["DATABASE_URL"],
        host=default_name(socket.gethostname()),
        kernal_data_key=NEEDED["KERNAL_DATA_KEY"],
        totp_key=None,
        keys_dir=Path("/var/lib/kadun/keys"),
        keys="folder",
        keys_identity=None,
        files_dir=Path("/var/lib/kadun/files"),
        files_bucket=None,
        functions_socket=Path("/run/kadun-functions/functions.sock"),
        function_seconds=30,
        issuer="kadun",
        behind_proxy=False,
        require_sealed=False,
        owners_need_totp=False,
        confirm_cards=100,
        webhooks_socket=None,
        webhook_private=False,
        offline_grace=None,
        timezone=ZoneInfo("Asia/Shanghai"),
        journal_keep=timedelta(days=365),
        log_level="info",
        bind="127.0.0.1:8000",
        workers=2,
        threads=8,
    )


@for_each("key", ["5a" * 31, "5A" * 32, "zz" * 32, "5a" * 32 + "5a"])
def test_a_malformed_totp_key_is_refused_and_not_printed(key: str) -> None:
    line = refusal(KADUN_TOTP_KEY=key)
    assert line == "KADUN_TOTP_KEY must be 64 random digits from 0-9 and a-f (openssl rand -hex 32)"
    assert key not in line


def test_keys_in_the_database_need_an_identity_which_is_not_printed() -> None:
    read = Settings.from_env({**NEEDED, "KADUN_KEYS": "database", "KADUN_KEYS_IDENTITY": IDENTITY})
    assert (read.keys, read.keys_identity) == ("database", IDENTITY)
    assert IDENTITY not in repr(read)
    assert refusal(KADUN_KEYS="database") == (
        "KADUN_KEYS=database needs KADUN_KEYS_IDENTITY, or KADUN_KEYS_IDENTITY_FILE"
    )
    assert refusal(KADUN_KEYS="cloud") == "KADUN_KEYS is 'cloud': it must be folder or database"


@for_each("identity", ["age1abc", IDENTITY.lower(), IDENTITY[:-1], f"{IDENTITY}\n{IDENTITY}"])
def test_a_malformed_identity_for_the_keys_is_refused_and_not_printed(identity: str) -> None:
    line = refusal(KADUN_KEYS_IDENTITY=identity)
    assert line == "KADUN_KEYS_IDENTITY must be one age identity, AGE-SECRET-KEY-1… (age-keygen)"
    assert identity not in line


OPTIONAL = [
    ("KADUN_HOST", "web-1", "host", "web-1"),
    ("KADUN_KEYS", "folder", "keys", "folder"),
    ("KADUN_KEYS_IDENTITY", IDENTITY, "keys_identity", IDENTITY),
    ("KADUN_TOTP_KEY", "5a" * 32, "totp_key", "5a" * 32),
    ("KADUN_ISSUER", "卡盾", "issuer", "卡盾"),
    ("KADUN_BEHIND_PROXY", "true", "behind_proxy", True),
    ("KADUN_BEHIND_PROXY", "false", "behind_proxy", False),
    ("KADUN_REQUIRE_SEALED", "true", "require_sealed", True),
    ("KADUN_OWNERS_NEED_TOTP", "true", "owners_need_totp", True),
    ("KADUN_CONFIRM_CARDS", "0", "confirm_cards", 0),
    ("KADUN_CONFIRM_CARDS", "1000000", "confirm_cards", 1_000_000),
    ("KADUN_WEBHOOKS_SOCKET", "/run/webhooks.sock", "webhooks_socket", Path("/run/webhooks.sock")),
    ("KADUN_WEBHOOK_PRIVATE", "true", "webhook_private", True),
    ("KADUN_OFFLINE_GRACE", "12h", "offline_grace", timedelta(hours=12)),
    ("KADUN_OFFLINE_GRACE", "week", "offline_grace", timedelta(days=7)),
    ("KADUN_TIMEZONE", "Europe/Berlin", "timezone", ZoneInfo("Europe/Berlin")),
    ("KADUN_JOURNAL_KEEP_DAYS", "1", "journal_keep", timedelta(days=1)),
    ("KADUN_JOURNAL_KEEP_DAYS", "36500", "journal_keep", timedelta(days=36_500)),
    ("KADUN_FUNCTION_SECONDS", "300", "function_seconds", 300),
    ("KADUN_LOG_LEVEL", "debug", "log_level", "debug"),
    ("KADUN_LOG_LEVEL", "error", "log_level", "error"),
    ("KADUN_BIND", "unix:/run/kadun/kadun.sock", "bind", "unix:/run/kadun/kadun.sock"),
    ("KADUN_BIND", "[::1]:8000", "bind", "[::1]:8000"),
    ("KADUN_BIND", "localhost:65535", "bind", "localhost:65535"),
    ("KADUN_WORKERS", "64", "workers", 64),
    ("KADUN_THREADS", "1", "threads", 1),
]


@for_each(("name", "value", "attribute", "read"), OPTIONAL)
def test_a_setting_is_read(name: str, value: str, attribute: str, read: object) -> None:
    assert getattr(Settings.from_env({**NEEDED, name: value}), attribute) == read


@for_each("name", sorted({name for name, *_ in OPTIONAL}))
def test_an_optional_setting_that_is_empty_counts_as_absent(name: str) -> None:
    assert Settings.from_env({**NEEDED, name: ""}) == Settings.from_env(NEEDED)


def test_every_setting_is_tested_here() -> None:
    needed = {"database_url", "kernal_data_key", "keys_dir", "files_dir", "functions_socket"}
    needed.add("files_bucket")  # tests/unit/test_bucket_settings.py
    assert {field.name for field in fields(Settings)} == needed | {attribute for *_, attribute, _ in OPTIONAL}


@for_each(
    ("name", "value", "right"),
    [
        ("DATABASE_URL", "mysql://kadun@localhost/kadun", "postgresql://user:password@host:5432/name"),
        ("DATABASE_URL", "localhost", "postgresql://user:password@host:5432/name"),
        ("KADUN_FUNCTION_SECONDS", "0", "from 1 to 300"),
        ("KADUN_BEHIND_PROXY", "yes", "true or false"),
        ("KADUN_BEHIND_PROXY", "True", "true or false"),
        ("KADUN_REQUIRE_SEALED", "1", "true or false"),
        ("KADUN_OWNERS_NEED_TOTP", "yes", "true or false"),
        ("KADUN_CONFIRM_CARDS", "-1", "0 to 1000000"),
        ("KADUN_CONFIRM_CARDS", "1000001", "0 to 1000000"),
        ("KADUN_OFFLINE_GRACE", "soon", "write 30s"),
        ("KADUN_OFFLINE_GRACE", "0s", "from 1 second"),
        ("KADUN_OFFLINE_GRACE", "permanent", "write 30s"),
        ("KADUN_TIMEZONE", "Shanghai", "Asia/Shanghai"),
        ("KADUN_TIMEZONE", "Asia", "Asia/Shanghai"),
        ("KADUN_TIMEZONE", "../../etc/passwd", "Asia/Shanghai"),
        ("KADUN_TIMEZONE", "/etc/localtime", "Asia/Shanghai"),
        ("KADUN_TIMEZONE", "tzdata.zi", "Asia/Shanghai"),
        ("KADUN_JOURNAL_KEEP_DAYS", "0", "from 1 to 36500"),
        ("KADUN_JOURNAL_KEEP_DAYS", "36501", "from 1 to 36500"),
        ("KADUN_JOURNAL_KEEP_DAYS", "1.5", "from 1 to 36500"),
        ("KADUN_LOG_LEVEL", "INFO", "debug or info or warning or error"),
        ("KADUN_BIND", "8000", "host:port or unix:/path"),
        ("KADUN_BIND", "localhost", "host:port or unix:/path"),
        ("KADUN_BIND", "::1:8000", "host:port or unix:/path"),
        ("KADUN_BIND", "unix:kadun.sock", "host:port or unix:/path"),
        ("KADUN_BIND", "127.0.0.1:http", "host:port or unix:/path"),
        ("KADUN_BIND", "http://127.0.0.1:8000", "host:port or unix:/path"),
        ("KADUN_BIND", "127.0.0.1:65536", "host:port or unix:/path"),
        ("KADUN_WORKERS", "0", "from 1 to 64"),
        ("KADUN_WORKERS", "65", "from 1 to 64"),
        ("KADUN_WORKERS", "two", "from 1 to 64"),
        ("KADUN_WORKERS", "２", "from 1 to 64"),
        ("KADUN_THREADS", "-1", "from 1 to 64"),
        ("KADUN_THREADS", " 8", "from 1 to 64"),
        ("KADUN_THREADS", "1" * 5000, "from 1 to 64"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(name: str, value: str, right: str) -> None:
    line = refusal(**{name: value})
    assert line.startswith(name)
    assert right in line


@for_each("name", sorted(NEEDED))
@for_each("value", [None, ""])
def test_a_missing_setting_is_named(name: str, value: str | None) -> None:
    env = {**NEEDED, name: value or ""}
    if value is None:
        del env[name]
    with pytest.raises(SettingsError, match=f"^{name} is not set"):
        Settings.from_env(env)


@pytest.mark.parametrize("name", ["DATABASE_URL", "KERNAL_DATA_KEY"])
class TestASecret:
    """Each secret is also read from a file."""

    def test_is_read_from_a_file_without_the_last_line_end(self, name: str, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text(NEEDED[name] + "\r\n")
        env = {key: value for key, value in NEEDED.items() if key != name}
        assert Settings.from_env({**env, f"{name}_FILE": str(file)}) == Settings.from_env(NEEDED)

    def test_is_not_given_twice(self, name: str, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_text(NEEDED[name])
        assert refusal(**{f"{name}_FILE": str(file)}) == f"both {name} and {name}_FILE are set: keep one"

    @pytest.mark.parametrize(
        ("content", "why"), [(b"", "is empty"), (b" \n\n", "is empty"), (b"\xff\xfe", "is not UTF-8 text")]
    )
    def test_is_refused_where_its_file_holds_none(self, name: str, content: bytes, why: str, tmp_path: Path) -> None:
        file = tmp_path / "secret"
        file.write_bytes(content)
        assert refusal(**{name: "", f"{name}_FILE": str(file)}) == f"{name}_FILE: {file} {why}"

    def test_is_refused_where_its_file_is_missing(self, name: str, tmp_path: Path) -> None:
        line = refusal(**{name: "", f"{name}_FILE": str(tmp_path / "none")})
        assert line == f"{name}_FILE: cannot read {tmp_path / 'none'}: No such file or directory"

    def test_is_refused_where_its_file_is_a_folder(self, name: str, tmp_path: Path) -> None:
        line = refusal(**{name: "", f"{name}_FILE": str(tmp_path)})
        assert line == f"{name}_FILE: cannot read {tmp_path}: Is a directory"

    def test_of_white_space_is_none(self, name: str) -> None:
        assert f"{name} is not set: set it, or {name}_FILE" in refusal(**{name: " \n"})

    def test_is_not_in_the_repr(self, name: str) -> None:
        assert NEEDED[name] not in repr(Settings.from_env(NEEDED))


def test_several_keys_stay_several_lines() -> None:
    settings = Settings.from_env({**NEEDED, "KERNAL_DATA_KEY": "newest\nolder\n"})
    assert settings.kernal_data_key == "newest\nolder"


def test_a_wrong_database_url_is_not_quoted() -> None:
    assert "hunter2" not in refusal(DATABASE_URL="postgres:kadun:hunter2@localhost")


def test_a_migration_needs_only_the_databases_url() -> None:
    assert database_url_from({"DATABASE_URL": "postgres://localhost/kadun"}) == "postgres://localhost/kadun"


def test_a_health_check_needs_no_setting() -> None:
    assert bind_from({}) == "127.0.0.1:8000"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**NEEDED, "KADUN_ISSUER": "from-the-environment"}.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_env().issuer == "from-the-environment"
