"""The settings of the functions service. It gets no others, and no secret."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.domain.functions import CallLimits
from app.functions.messages import Limits
from app.functions.places import IDS
from app.runtime.environment import TABLE, SettingsError, is_set, value


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """All settings; docs/reference.md explains them."""

    folder: Path
    socket: Path
    limits: Limits
    calls: CallLimits
    user: tuple[int, int] | None  # of the service and the zygotes; None for those that start it
    first_uid: int | None  # of those of the places for calls; None where all have the service's user
    log_level: str

    @classmethod
    def from_env(cls, env: Mapping[str, str] = os.environ) -> "FunctionSettings":
        """Read the settings; raise SettingsError for a wrong one, and for a secret, which vendors' code could read."""
        for secret in (setting.name for setting in TABLE.values() if setting.is_secret):
            if is_set(env, secret):
                raise SettingsError(f"{secret} is set: the functions service runs without secrets, take it away")
        first_uid, user = value(env, "KADUN_FUNCTION_FIRST_UID"), value(env, "KADUN_FUNCTIONS_USER")
        if user and not first_uid:
            raise SettingsError("KADUN_FUNCTIONS_USER is set without KADUN_FUNCTION_FIRST_UID: set both or neither")
        if user and {*user} & {*range(first_uid, first_uid + IDS)}:
            raise SettingsError(
                f"KADUN_FUNCTIONS_USER is {user[0]}:{user[1]}: it must not be among the {IDS} IDs from "
                f"KADUN_FUNCTION_FIRST_UID, {first_uid}, on"
            )
        return cls(
            folder=value(env, "KADUN_FUNCTIONS_DIR").absolute(),
            socket=value(env, "KADUN_FUNCTIONS_SOCKET").absolute(),
            limits=Limits(
                value(env, "KADUN_FUNCTION_SECONDS"),
                value(env, "KADUN_FUNCTION_MEMORY_MB") * 1024 * 1024,
                value(env, "KADUN_FUNCTION_RESULT_KB") * 1024,
            ),
            calls=CallLimits(
                value(env, "KADUN_FUNCTION_CONCURRENCY"),
                value(env, "KADUN_FUNCTION_CALLS_PER_CARD"),
                value(env, "KADUN_FUNCTION_CALLS_PER_ADDRESS"),
            ),
            user=user,
            first_uid=first_uid,
            log_level=value(env, "KADUN_LOG_LEVEL"),
        )
