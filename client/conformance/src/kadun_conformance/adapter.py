"""The Python SDK under the kit's contract; also the shortest example of what the kit asks of any client.

python -m kadun_conformance -- python -m kadun_conformance.adapter
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kadun import CardRejected, Client, KadunError

OPENED, REFUSED, REJECTED = 0, 1, 3


def main() -> int:
    """Open the program, write the unsealed core data, and return the exit status."""
    client = Client(
        os.environ["KADUN_URL"],
        public_keys=Path(os.environ["KADUN_KEYS"]).read_text(encoding="utf-8"),
        card_id=os.environ["KADUN_CARD"],
        hardware=os.environ["KADUN_HARDWARE"],
        language="en",
        state_dir=os.environ["KADUN_STATE"] or None,
        timeout_seconds=float(os.environ["KADUN_TIMEOUT_SECONDS"]),
    )
    try:
        client.open()
        sys.stdout.buffer.write(client.unseal(os.environ["KADUN_CORE"]))
    except KadunError as error:
        sys.stderr.write(f"{type(error).__name__}: {error.detail or error}\n")
        return REJECTED if isinstance(error, CardRejected) else REFUSED
    return OPENED


if __name__ == "__main__":
    sys.exit(main())
