"""The settings of the functions service. It gets no others, and no secret."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.domain.calls import CallLimits
from app.environment import LOG_LEVELS, SettingsError, choice, integer, required
from app.functions.places import IDS, MAX_PLACES

MIN_UID, MAX_UID = 1_000, 999_000_000
SECRETS = ("DATABASE_URL", "KERNAL_DATA_KEY")


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """All settings; their names in the environment and defaults stand in docs/reference.md.

    Args:
        folder: The folder of the vendor's modules; absolute.
        socket: The Unix socket on which the service listens; absolute.
        seconds: How long a call may run.
        memory_mb: How much private memory a call may take beyond that of its modules, in MiB.
        calls: How many calls may run at once.
        result_kb: How large a result may be, as JSON in UTF-8, in KiB.
        user: User and group ID of the service and of the zygotes; None for those that start it.
        first_uid: The first of the user IDs of the places for calls, None where all have the service's user.
        log_level: `debug`, `info`, `warning` or `error`.
    """

    folder: Path
    socket: Path
    seconds: int
    memory_mb: int
    calls: CallLimits
    result_kb: int
    user: tuple[int, int] | None
    first_uid: int | None
    log_level: str

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "FunctionSettings":
        """Read the settings.

        Raises:
            SettingsError: a setting is invalid or missing, or a secret is set, which the vendor's code could read.
        """
        for name in SECRETS:
            for present in (name, f"{name}_FILE"):
                if env.get(present):
                    raise SettingsError(f"{present} is set: the functions service runs without secrets, take it away")
        name = "KADUN_FUNCTION_FIRST_UID"
        first_uid = integer(env, name, 0, MIN_UID, MAX_UID) if env.get(name) else None
        user = _user(env, "KADUN_FUNCTIONS_USER")
        if user and not first_uid:
            raise SettingsError(f"KADUN_FUNCTIONS_USER is set without {name}: set both or neither")
        if first_uid and user and {*user} & {*range(first_uid, first_uid + IDS)}:
            raise SettingsError(
                f"KADUN_FUNCTIONS_USER is {user[0]}:{user[1]}: it must not be among the {IDS} IDs from "
                f"{name}, {first_uid}, on"
            )
        return cls(
            folder=Path(required(env, "KADUN_FUNCTIONS_DIR")).absolute(),
            socket=Path(required(env, "KADUN_FUNCTIONS_SOCKET")).absolute(),
            seconds=integer(env, "KADUN_FUNCTION_SECONDS", 30, 1, 300),
            memory_mb=integer(env, "KADUN_FUNCTION_MEMORY_MB", 192, 16, 1_048_576),
            calls=CallLimits(
                integer(env, "KADUN_FUNCTION_CONCURRENCY", 4, 1, MAX_PLACES),
                integer(env, "KADUN_FUNCTION_CALLS_PER_CARD", 1, 1, MAX_PLACES),
                integer(env, "KADUN_FUNCTION_CALLS_PER_ADDRESS", 2, 1, MAX_PLACES),
            ),
            result_kb=integer(env, "KADUN_FUNCTION_RESULT_KB", 256, 1, 512),
            user=user,
            first_uid=first_uid,
            log_level=choice(env, "KADUN_LOG_LEVEL", "info", LOG_LEVELS),
        )


def _user(env: Mapping[str, str], name: str) -> tuple[int, int] | None:
    value = env.get(name, "")
    if not value:
        return None
    if not re.fullmatch(r"[0-9]{1,9}:[0-9]{1,9}", value):
        raise SettingsError(f"{name} is {value!r}: it must be a user ID and a group ID, such as 10001:101")
    user, group = map(int, value.split(":"))
    return user, group
