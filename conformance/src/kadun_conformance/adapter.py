"""The Python SDK under the kit's contract; also the shortest example of what the kit asks of any client.

python -m kadun_conformance -- python -m kadun_conformance.adapter
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from kadun import CardRejected, Client, KadunError

if TYPE_CHECKING:
    from collections.abc import Mapping

OPENED, REFUSED, REJECTED = 0, 1, 3


def run(environment: Mapping[str, str], output: BinaryIO, errors: TextIO) -> int:
    """Open the program, and write the unsealed core data.

    Returns:
        The exit status: 0 opened, 3 a signed rejection, 1 anything else.
    """
    client = Client(
        environment["KADUN_URL"],
        public_keys=Path(environment["KADUN_KEYS"]).read_text(encoding="utf-8"),
        card_id=environment["KADUN_CARD"],
        hardware=environment["KADUN_HARDWARE"],
        language="en",
        state_dir=environment.get("KADUN_STATE"),
        timeout_seconds=float(environment.get("KADUN_TIMEOUT_SECONDS", "10")),
    )
    try:
        client.open()
        core = client.unseal(environment["KADUN_CORE"])
    except KadunError as error:
        errors.write(f"{type(error).__name__}: {error.detail or error}\n")
        return REJECTED if isinstance(error, CardRejected) else REFUSED
    output.write(core)
    return OPENED


if __name__ == "__main__":
    sys.exit(run(os.environ, sys.stdout.buffer, sys.stderr))
