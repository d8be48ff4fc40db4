"""The check of .env: no unknown name, and no line that is no setting. Containers check the values when they start."""

from difflib import get_close_matches

from app.runtime.environment import By, names
from app.services.system.doctor.facts import Facts
from app.services.system.doctor.results import CheckResult, fail, listing, ok, warn

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
    host, known = facts.host, names(By.DOTENV) | COMPOSE
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
