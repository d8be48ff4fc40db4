"""Tells a webhook how a backup or another run went.

    notify.py EVENT STATUS MESSAGE PROJECT FILE     the webhook's URL comes on standard input: it is a secret

Runs with the host's python3 (3.10 or newer).
"""

import json
import platform
import sys
import urllib.request
from http.client import HTTPException

_SECONDS = 20
_ATTEMPTS = 3


def document(event: str, status: str, message: str, project: str, file: str) -> dict[str, object]:
    """Return the notice. Robots of WeCom and DingTalk read `msgtype` and `text`, Feishu's `msg_type` and `content`."""
    host = platform.node()
    facts = {"event": event, "status": status, "project": project, "host": host, "file": file, "message": message}
    text = f"Kadun {event} {status} ({project}@{host}): {message}"
    return {**facts, "msgtype": "text", "text": {"content": text}, "msg_type": "text", "content": {"text": text}}


def send(url: str, content: dict[str, object]) -> str:
    """Post a notice and return what went wrong, without the URL; empty when it was sent."""
    body = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    try:
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310  # the vendor's own
        urllib.request.urlopen(request, timeout=_SECONDS).close()  # noqa: S310
    except (OSError, HTTPException, ValueError) as error:
        return " ".join(str(error).replace(url, "…").split())
    return ""


if __name__ == "__main__":
    address, problem = sys.stdin.read().strip(), ""
    for _ in range(_ATTEMPTS):
        problem = send(address, document(*sys.argv[1:]))
        if not problem:
            break
    sys.exit(problem or None)
