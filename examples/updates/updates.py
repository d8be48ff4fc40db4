"""更新核心数据: a program that loads new core data while it runs.

The vendor seals a new version of the data and adds it under the same name (`scripts/cardctl file add`). Every running
program loads it within its interval; without a valid card nobody can. The program runs until Ctrl-C, or ends with exit
status 1 if the card is rejected.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from kadun import CardRejected, Client, KadunError


class CoreData:
    """The newest core data: a sealed file on disk, the plain data in memory only."""

    def __init__(self, client: Client, sealed: Path) -> None:
        self._client = client
        self._sealed = sealed
        self._seen: tuple[int, int] | None = None
        self.content: dict[str, object] = {}

    def refresh(self) -> bool:
        """Load a new version, if there is one, and return whether there was.

        Nothing is downloaded if the same version is on disk already.
        """
        self._client.download(self._sealed.name, self._sealed)
        status = self._sealed.stat()
        version = (status.st_mtime_ns, status.st_size)
        if version == self._seen:
            return False
        content = json.loads(self._client.unseal(self._sealed))
        if not isinstance(content, dict):
            raise ValueError("the core data is not a JSON object")  # noqa: TRY004 - one handler for all errors
        self.content, self._seen = content, version
        return True


def main() -> int:
    """Open the card, then check for new data at each interval."""
    chosen = arguments()
    client = Client(
        chosen.server,
        public_keys=Path(chosen.keys).read_text(encoding="utf-8"),
        card_id=chosen.card,
        ca_file=chosen.ca,
        program="kadun-updates",
    )
    data = CoreData(client, Path(chosen.core))
    try:
        client.open()
        while True:
            look(data)
            time.sleep(chosen.interval)
    except (KadunError, ValueError) as error:
        print(f"无法使用 / Cannot run: {error}", file=sys.stderr)
        return 1


def look(data: CoreData) -> None:
    """Load new data; without the server the program continues with the current data, without a card it ends."""
    try:
        if data.refresh():
            print(f"核心数据 / core data: {data.content.get('title')}", flush=True)
    except CardRejected:
        raise
    except (KadunError, ValueError) as error:  # ValueError: the vendor sealed something else than JSON
        if not data.content:
            raise
        print(f"暂时无法更新 / no update at the moment: {error}", file=sys.stderr)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="核心数据在线更新示例 / core data that is updated while the program runs"
    )
    parser.add_argument("--server", required=True, help="服务器地址 / the card server")
    parser.add_argument("--card", required=True, help="卡密 / the card")
    parser.add_argument("--keys", required=True, help="固定公钥 / pinned keys: the output of `cardctl key export`")
    parser.add_argument(
        "--core",
        required=True,
        help="加密的核心数据，文件名即服务器上的名称 / sealed core data, named as on the server",
    )
    parser.add_argument("--ca", help="私有根证书 / a private CA's PEM file")
    parser.add_argument("--interval", type=float, default=300, help="检查间隔，秒 / seconds between two checks (300)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(1)
