"""Our own client under the kit's contract; also the shortest example of what the kit asks of any client.

python -m kadun.hostile -- python -m kadun.hostile.adapter
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


def run(environment: Mapping[str, str], output: BinaryIO, complaints: TextIO) -> int:
    """Open, and write what the core data holds.

    Returns:
        The exit status: 0 opened, 3 a signed no was believed, 1 anything else.
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
    except CardRejected as rejection:
        complaints.write(f"{rejection.code}\n")
        return REJECTED
    except KadunError as error:
        complaints.write(f"{error}\n")
        return REFUSED
    output.write(core)
    return OPENED


if __name__ == "__main__":
    sys.exit(run(os.environ, sys.stdout.buffer, sys.stderr))
