"""The settings of the functions service. It gets no others, and no secret."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.environment import LOG_LEVELS, SettingsError, choice, integer, required

SECRETS = ("DATABASE_URL", "KERNAL_DATA_KEY")


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """All settings; their names in the environment and defaults stand in docs/reference.md.

    Args:
        folder: The folder of the vendor's modules; absolute.
        socket: The Unix socket on which the service listens; absolute.
        seconds: How long a call may run.
        memory_mb: How much private memory a call may take beyond that of its modules, in MiB.
        concurrency: How many calls may run at once.
        result_kb: How large a result may be, as JSON in UTF-8, in KiB.
        log_level: `debug`, `info`, `warning` or `error`.
    """

    folder: Path
    socket: Path
    seconds: int
    memory_mb: int
    concurrency: int
    result_kb: int
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
        return cls(
            folder=Path(required(env, "KADUN_FUNCTIONS_DIR")).absolute(),
            socket=Path(required(env, "KADUN_FUNCTIONS_SOCKET")).absolute(),
            seconds=integer(env, "KADUN_FUNCTION_SECONDS", 30, 1, 300),
            memory_mb=integer(env, "KADUN_FUNCTION_MEMORY_MB", 192, 16, 1_048_576),
            concurrency=integer(env, "KADUN_FUNCTION_CONCURRENCY", 4, 1, 64),
            result_kb=integer(env, "KADUN_FUNCTION_RESULT_KB", 256, 1, 512),
            log_level=choice(env, "KADUN_LOG_LEVEL", "info", LOG_LEVELS),
        )
