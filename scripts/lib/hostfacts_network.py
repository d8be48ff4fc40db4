"""Requests through this machine's nginx, whose journal entries show which address the app sees. For hostfacts.py."""

import http.client
import json
import re
import secrets
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FORGED = "203.0.113.113"  # an address for documentation (RFC 5737)
PROBE = "cardctl doctor"  # app/storage/journal.py knows it
_MAX_ANSWER_BYTES = 64 * 1024


def https_port(settings: Mapping[str, str]) -> int:
    """Return the port of HTTPS, by .env."""
    port = settings.get("KADUN_HTTPS_PORT") or ""
    return int(port) if re.fullmatch("[0-9]{1,5}", port) and int(port) < 1 << 16 else 443


def public_name(settings: Mapping[str, str]) -> str:
    """Return the first of the service's names, without `*.`; an empty text where it is an address."""
    first = re.split(r'[\s,"]+', settings.get("KADUN_DOMAIN", "").strip(' ,"'))[0]
    return first.removeprefix("*.") if re.search("[a-zA-Z]", first) and ":" not in first else ""


def proxy_targets(settings: Mapping[str, str]) -> list[tuple[str, int]]:
    """Return where this machine's own requests go: to loopback addresses, and to its public name as customers' do.

    Behind a balancer, customers use the port of HTTPS, and nginx talks PROXY protocol except on the loopback addresses.
    """
    port, name = https_port(settings), public_name(settings)
    loopback = ["127.0.0.1", *(["::1"] if Path("/proc/net/if_inet6").exists() else [])]
    public = 443 if settings.get("KADUN_PROXY_PROTOCOL") == "true" else port
    return [*((address, port) for address in loopback), *([(name, public)] if name else [])]


def proxy_probes(targets: list[tuple[str, int]]) -> Iterator[dict[str, Any]]:
    """Request a card that cannot exist, from addresses of this machine, with headers that give another one.

    The answer names the journal's entry, and that entry holds the address that the app recorded.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # another check looks at the certificate
    forged = {"X-Real-IP": FORGED, "X-Forwarded-For": FORGED, "Forwarded": f"for={FORGED}"}
    for host, port in targets:
        question = {"card_id": PROBE, "hardware": PROBE, "function": PROBE, "nonce": secrets.token_hex(16)}
        connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
        try:
            connection.connect()
            own: str = connection.sock.getsockname()[0]
            headers = {"Content-Type": "application/json", **forged}
            connection.request("POST", "/v1/verify", json.dumps(question), headers)
            answer = connection.getresponse()
            yield {
                "host": host,
                "address": own,
                "status": answer.status,
                "answer": answer.read(_MAX_ANSWER_BYTES).decode("utf-8", "replace"),
            }
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
