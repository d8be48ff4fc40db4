"""What tests of licensed files behind nginx share."""

import json

import jwt

from tests.support.downloads import DOWNLOAD
from tests.support.nginx import JSON, Gateway
from tests.support.service import question

NAME = "数据 (v1) [α]@a,b=c~d+e.bin"
CONTENT = b"".join(number.to_bytes(4, "big") for number in range(75_000))


def links(gateway: Gateway, card: str) -> dict[str, str]:
    """Return the addresses of the files that are offered, by name."""
    body = json.dumps(question(card, f"pc of {card}", DOWNLOAD)).encode()
    answer = gateway.ask("POST", "/v1/files", body, JSON)
    claims = jwt.decode(answer.json()["token"], options={"verify_signature": False})
    return {entry["name"]: entry["url"] for entry in claims["files"]}
