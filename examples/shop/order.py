"""Sells one card: sends an order, and again with the same key until there is an answer (docs/selling.md)."""

import json
import time
import urllib.error
import urllib.request
from typing import Any

SERVER = "https://card.example.com"
TOKEN = "kd_…"  # noqa: S105  # from a secret of the shop's server


def ask(method: str, path: str, body: dict[str, Any], key: str) -> Any:  # noqa: ANN401  # JSON
    """Return the answer. Without one, try again with the same key, so that nothing is done twice."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Idempotency-Key": key}
    for seconds in (1, 2, 4, 8, 16):
        wait = seconds
        request = urllib.request.Request(SERVER + path, json.dumps(body).encode(), headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code not in {429, 500, 502, 503, 504}:
                raise RuntimeError(error.read().decode()) from error
            wait = int(error.headers.get("Retry-After", seconds))
        except (OSError, ValueError):
            pass  # the outcome is unknown: try again
        time.sleep(wait)
    raise RuntimeError(f"no answer: send {key} again later")


order = "20261111-0042"
sold = ask("POST", "/v1/shop/cards", {"validity": "month", "note": order}, key=f"issue-{order}")
print(sold["cards"][0]["id"])
