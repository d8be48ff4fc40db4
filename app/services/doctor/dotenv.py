"""The check of .env: no unknown name, and no line that is no setting. Containers check the values when they start."""

from difflib import get_close_matches

from app.services.doctor.facts import Facts
from app.services.doctor.results import CheckResult, fail, listing, ok, warn

SETTINGS = frozenset(
    (
        *("COMPOSE_PROJECT_NAME", "KADUN_HTTP_PORT", "KADUN_HTTPS_PORT", "KADUN_DOMAIN", "KADUN_HOST", "KADUN_UID"),
        *("KADUN_APP_IMAGE", "KADUN_PYTHON_IMAGE", "KADUN_POSTGRES_IMAGE", "KADUN_NGINX_IMAGE", "PIP_INDEX_URL"),
        *("KADUN_RATE", "KADUN_BURST", "KADUN_ADMIN_ALLOW", "KADUN_PROXY_PROTOCOL", "KADUN_PROXY_FROM"),
        *("KADUN_HSTS", "KADUN_CERTIFICATE_HOSTS", "KADUN_RESOLVER"),
        *("KADUN_ISSUER", "KADUN_KEYS", "KADUN_REQUIRE_SEALED", "KADUN_OFFLINE_GRACE", "KADUN_TIMEZONE"),
        *("KADUN_OWNERS_NEED_TOTP", "KADUN_CONFIRM_CARDS", "KADUN_WEBHOOK_PRIVATE", "KADUN_JOURNAL_KEEP_DAYS"),
        *("KADUN_LOG_LEVEL", "KADUN_WORKERS", "KADUN_THREADS"),
        *("KADUN_FUNCTION_SECONDS", "KADUN_FUNCTION_MEMORY_MB", "KADUN_FUNCTION_CONCURRENCY"),
        *("KADUN_FUNCTION_RESULT_KB", "KADUN_FUNCTION_CALLS_PER_CARD", "KADUN_FUNCTION_CALLS_PER_ADDRESS"),
        *("KADUN_FUNCTION_FIRST_UID", "KADUN_FUNCTIONS_MEMORY", "KADUN_FUNCTIONS_NETWORK"),
        *("KADUN_FILES_BUCKET", "KADUN_FILES_BUCKET_ENDPOINT", "KADUN_FILES_BUCKET_REGION"),
        *("KADUN_FILES_BUCKET_STYLE", "KADUN_FILES_BUCKET_CA"),
        *("KADUN_DB_MEMORY", "KADUN_DB_SHARED_BUFFERS"),
        *("KADUN_BACKUP_DIR", "KADUN_BACKUP_KEEP_DAILY", "KADUN_BACKUP_KEEP_WEEKLY", "KADUN_BACKUP_KEEP_MONTHLY"),
        *("KADUN_BACKUP_RECIPIENT", "KADUN_BACKUP_HOOKS", "KADUN_BACKUP_HOOK_SECONDS", "KADUN_BACKUP_WEBHOOK"),
    )
)
"""Every setting of .env that is Kadun's."""

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


def env_names(facts: Facts) -> CheckResult:
    """Check that each line of .env is a setting that somebody reads."""
    host, known = facts.host, SETTINGS | COMPOSE
    unknown = [name for name in host.settings if name not in known]
    near = {name: get_close_matches(name.upper(), known, n=1, cutoff=0.8) for name in unknown}
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
