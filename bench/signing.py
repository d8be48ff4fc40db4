"""S: the signatures alone, by the app's own signer."""

import os
import time
from pathlib import Path
from typing import Any

from app.tokens.signer import Signer

_BATCH = 100


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def signatures_a_second(keys_dir: Path, claims: dict[str, Any], *, seconds: float) -> float:
    """Return how many verdicts one core signs a second, times the cores."""
    signer = Signer(keys_dir)
    signed = 0
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        for _ in range(_BATCH):
            signer.sign_verdict(claims)
        signed += _BATCH
    return signed / elapsed * cores()
