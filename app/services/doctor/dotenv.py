"""Checks of .env: no secret in it, no unknown name, no invalid value."""

import ipaddress
import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

from app.environment import SettingsError, integer
from app.functions.settings import FunctionSettings
from app.services.doctor.facts import Facts
from app.services.doctor.results import CheckResult, fail, listing, ok, warn
from app.settings import MAX_PORT, Settings

_BUCKET_FILE = "deploy/bucket.yml"
Check = Callable[[str, str], object]
"""Takes a setting's name and value, which is not empty; raises SettingsError."""


def env(facts: Facts) -> CheckResult:
    """Check that .env, which everybody may read, holds no secret."""
    names = facts.host.secrets_in_env
    if names:
        return fail(
            f".env 中疑似有密码或密钥：{names}。请移入 secrets/ 并更换",
            f".env seems to contain a secret: {names}. Move it into secrets/ and replace it by a new one",
        )
    return ok(".env 中没有密码或密钥", ".env contains no secret")


def env_names(facts: Facts) -> CheckResult:
    """Check that each line of .env is a setting that somebody reads."""
    host = facts.host
    unknown = [name for name in host.settings if name not in SETTINGS and name not in COMPOSE]
    near = {name: get_close_matches(name.upper(), [*SETTINGS, *COMPOSE], n=1, cutoff=0.8) for name in unknown}
    misspelt = [f"{name} → {found[0]}" for name, found in near.items() if found]
    lines = [f"line {number}" for number in host.unreadable_lines]
    if misspelt or lines:
        listed = listing([*lines, *misspelt])
        return fail(
            f".env 中有写错的名称，或不是“名称=值”的行：{listed}",
            f"Misspelt names, or lines that are not NAME=VALUE, in .env: {listed}",
        )
    if unknown:
        return warn(f"卡盾不认识 .env 中的 {listing(unknown)}", f"Kadun has no setting {listing(unknown)}: see .env")
    return ok(".env 中的名称无误", "Every name in .env is a setting")


def env_values(facts: Facts) -> CheckResult:
    """Check the values in .env: not empty ones, for the default, nor those that are secret or that Compose expands."""
    host = facts.host
    errors = []
    for name, value in host.settings.items():
        try:
            if value and "$" not in value and name in SETTINGS:
                SETTINGS[name](name, value)
        except SettingsError as error:
            errors.append(str(error))
    if host.setting("KADUN_HTTP_PORT") and host.setting("KADUN_HTTP_PORT") == host.setting("KADUN_HTTPS_PORT"):
        errors.append("KADUN_HTTP_PORT and KADUN_HTTPS_PORT must differ")
    if (host.setting("KADUN_PROXY_PROTOCOL") == "true") != bool(host.setting("KADUN_PROXY_FROM")):
        errors.append("KADUN_PROXY_PROTOCOL=true and KADUN_PROXY_FROM need each other")
    if bool(host.setting("KADUN_FILES_BUCKET")) != (_BUCKET_FILE in (host.setting("COMPOSE_FILE") or "")):
        errors.append(f"KADUN_FILES_BUCKET and {_BUCKET_FILE} in COMPOSE_FILE need each other")
    if errors:
        listed = "; ".join(errors)
        return fail(f".env 中的值有误：{listed}", f"Invalid values in .env: {listed}")
    return ok(".env 中的值无误", "The values in .env are valid")


def _anything(_name: str, _value: str) -> None:
    pass


def _service(name: str, value: str, **more: str) -> None:
    paths = dict.fromkeys(("KADUN_KEYS_DIR", "KADUN_FILES_DIR", "KADUN_FUNCTIONS_SOCKET"), "/")
    Settings.from_env({"DATABASE_URL": "postgresql://", "KERNAL_DATA_KEY": "-", **paths, **more, name: value})


def _bucket(name: str, value: str) -> None:
    rest = dict.fromkeys(("REGION", "KEY_ID", "SECRET"), "x") | {"ENDPOINT": "https://x", "STYLE": "path"}
    _service(name, value, KADUN_FILES_BUCKET="name", **{f"KADUN_FILES_BUCKET_{key}": one for key, one in rest.items()})


def _functions(name: str, value: str) -> None:
    FunctionSettings.from_env({"KADUN_FUNCTIONS_DIR": "/", "KADUN_FUNCTIONS_SOCKET": "/", name: value})


def _number(low: int, high: int) -> Check:
    return lambda name, value: integer({name: value}, name, 0, low, high)


def _matching(pattern: str, example: str, name: str, value: str) -> None:
    if not re.fullmatch(pattern, value):
        raise SettingsError(f"{name} is {value!r}: it must be like {example}")


def _like(pattern: str, example: str) -> Check:
    return partial(_matching, pattern, example)


def _networks(name: str, value: str) -> None:
    words = [word for word in re.split(r"[\s,]+", value) if word]
    for word in words or [value]:
        try:
            ipaddress.ip_network(word, strict=False)
        except ValueError as error:
            raise SettingsError(
                f"{name}: {word!r} is not an address or network (203.0.113.7, 2001:db8::/32)"
            ) from error


_PORT = _number(1, MAX_PORT)
_OPEN_PORT = r"[0-9]{1,5}(/(tcp|udp))?"
_PLACE = r"([\w.-]+@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:/\S*)?"  # as scripts/lib/certificate-hosts.sh
_MEMORY = _like(r"(?i)[0-9]+(\.[0-9]+)? ?([kmgtp]i?)?b?", "256m")  # as Docker reads it
_IMAGE = _like(r"[^\s]+", "nginx:1.28-trixie")
SETTINGS: dict[str, Check] = {
    "COMPOSE_PROJECT_NAME": _like("[a-z0-9][a-z0-9_-]*", "kadun"),
    "KADUN_HTTP_PORT": _PORT,
    "KADUN_HTTPS_PORT": _PORT,
    "KADUN_DOMAIN": _like(r"[A-Za-z0-9.:*\-\s,\"]+", "example.com www.example.com"),
    "KADUN_DOCTOR_PORTS": _like(rf"[\s,]*{_OPEN_PORT}([\s,]+{_OPEN_PORT})*[\s,]*", "8888 51820/udp"),
    "KADUN_UID": _number(0, 999_999_999),
    "KADUN_APP_IMAGE": _IMAGE,
    "KADUN_PYTHON_IMAGE": _IMAGE,
    "KADUN_POSTGRES_IMAGE": _IMAGE,
    "KADUN_NGINX_IMAGE": _IMAGE,
    "PIP_INDEX_URL": _like(r"https?://\S+", "https://mirror.example.com/simple"),
    "KADUN_RATE": _number(1, 999_999_999),
    "KADUN_BURST": _number(1, 999_999_999),
    "KADUN_ADMIN_ALLOW": _networks,
    "KADUN_PROXY_PROTOCOL": _like("true|false", "true"),
    "KADUN_PROXY_FROM": _networks,
    "KADUN_KEYS": _like("folder|database", "folder"),
    "KADUN_CERTIFICATE_HOSTS": _like(rf"{_PLACE}(\s+{_PLACE})*", "root@10.0.0.5 root@10.0.0.6:/opt/kadun"),
    "KADUN_HSTS": _like(r"max-age=[0-9]+(;\s*[A-Za-z]+)*", "max-age=63072000"),
    **dict.fromkeys(
        (
            *("KADUN_ISSUER", "KADUN_REQUIRE_SEALED", "KADUN_OFFLINE_GRACE", "KADUN_TIMEZONE"),
            *("KADUN_HOST", "KADUN_OWNERS_NEED_TOTP", "KADUN_CONFIRM_CARDS", "KADUN_WEBHOOK_PRIVATE"),
            *("KADUN_JOURNAL_KEEP_DAYS", "KADUN_LOG_LEVEL", "KADUN_WORKERS", "KADUN_THREADS", "KADUN_FUNCTION_SECONDS"),
        ),
        _service,
    ),
    **dict.fromkeys(
        (
            *("KADUN_FUNCTION_MEMORY_MB", "KADUN_FUNCTION_CONCURRENCY", "KADUN_FUNCTION_RESULT_KB"),
            *("KADUN_FUNCTION_CALLS_PER_CARD", "KADUN_FUNCTION_CALLS_PER_ADDRESS", "KADUN_FUNCTION_FIRST_UID"),
        ),
        _functions,
    ),
    **dict.fromkeys(
        (
            *("KADUN_FILES_BUCKET", "KADUN_FILES_BUCKET_ENDPOINT", "KADUN_FILES_BUCKET_REGION"),
            "KADUN_FILES_BUCKET_STYLE",
        ),
        _bucket,
    ),
    "KADUN_FILES_BUCKET_CA": _anything,
    "KADUN_RESOLVER": _like(r"[0-9A-Fa-f.:\[\] ]+", "10.0.0.2 10.0.0.3"),
    "KADUN_FUNCTIONS_MEMORY": _MEMORY,
    "KADUN_FUNCTIONS_NETWORK": _anything,
    "KADUN_DB_MEMORY": _MEMORY,
    "KADUN_DB_SHARED_BUFFERS": _like("[0-9]+(kB|MB|GB)?", "128MB"),
    "KADUN_BACKUP_DIR": _anything,
    "KADUN_BACKUP_KEEP_DAILY": _number(0, 9999),
    "KADUN_BACKUP_KEEP_WEEKLY": _number(0, 9999),
    "KADUN_BACKUP_KEEP_MONTHLY": _number(0, 9999),
    "KADUN_BACKUP_RECIPIENT": _like("age1[a-z0-9]+|none", "age1…, or none"),
    "KADUN_BACKUP_HOOKS": _anything,
    "KADUN_BACKUP_HOOK_SECONDS": _number(1, 999_999),
    "KADUN_BACKUP_WEBHOOK": _anything,
}
"""Every setting of .env that is Kadun's, with the check of its value."""

COMPOSE = frozenset(
    (
        *("COMPOSE_FILE", "COMPOSE_PROFILES", "COMPOSE_PATH_SEPARATOR", "COMPOSE_IGNORE_ORPHANS"),
        *("COMPOSE_REMOVE_ORPHANS", "COMPOSE_PARALLEL_LIMIT", "COMPOSE_ANSI", "COMPOSE_STATUS_STDOUT"),
        *("COMPOSE_ENV_FILES", "COMPOSE_MENU", "COMPOSE_PROGRESS", "COMPOSE_EXPERIMENTAL", "COMPOSE_BAKE"),
        *("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_BUILDKIT", "DOCKER_DEFAULT_PLATFORM"),
        *("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"),
    )
)
"""Names that Docker and Compose read from .env themselves."""
