"""What this machine's HTTPS port serves, and what the app sees of requests through it. For hostfacts.py."""

import http.client
import ipaddress
import json
import os
import re
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hostfacts_access import inode_of, output, text_of

Facts = dict[str, Any]

FORGED = "203.0.113.113"  # an address for documentation (RFC 5737)
PROBE = "cardctl doctor"  # app/storage/inspection.py knows it
_MAX_ANSWER_BYTES = 64 * 1024


def certificate_facts(files: Path, port: int, domains: str) -> Facts:
    """Return the chain that nginx serves, what this machine's trust store says of it, and the files."""
    name = public_name(domains)
    server = ("-servername", name) if name else ("-noservername",)
    # -no_check_time: the age is checked from the dates.
    command = ("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *server, "-showcerts", "-no_check_time")
    said = output(*command) or ""
    kept = re.findall(
        r"-----BEGIN CERT.*?-----END CERT[^\n]*|^ *Verify return code: [^\n]*", said, re.DOTALL | re.MULTILINE
    )
    key = files / "privkey.pem"
    public = (output("openssl", "pkey", "-in", str(key), "-pubout") or "invalid") if os.access(key, os.R_OK) else None
    return {
        "tls_handshake": "\n".join(kept) or None,
        "certificate": text_of(files / "fullchain.pem"),
        "certificate_key": public,
        "trust_store": inode_of(Path("/etc/ssl/certs/ca-certificates.crt")) is not None,
    }


def public_name(domains: str) -> str:
    """Return the first of the service's names, without `*.`; an empty text where it is an address."""
    first = re.split(r'[\s,"]+', domains.strip(' ,"'))[0]
    return first.removeprefix("*.") if re.search("[a-zA-Z]", first) and ":" not in first else ""


def is_bridge(interface: Facts) -> bool:
    """Tell whether an interface is the engine's: only this machine and its containers reach it."""
    return re.match("docker|br-|veth", interface["ifname"]) is not None


def own_addresses(interfaces: list[Facts]) -> list[str]:
    """Return the loopback addresses, and this machine's first global address of each family."""
    first: dict[str, str] = {}
    for interface in interfaces:
        for address in interface["addr_info"] if not is_bridge(interface) else ():
            if address["scope"] == "global":
                first.setdefault(address["family"], address["local"])
    loopback = ["127.0.0.1", *(["::1"] if Path("/proc/net/if_inet6").exists() else [])]
    return [*loopback, *first.values()]


def proxy_targets(port: int, interfaces: list[Facts], domains: str, *, has_balancer: bool) -> list[tuple[str, int]]:
    """Return where this machine's own requests go: to its addresses, and to its public name as customers' do.

    Behind a balancer nginx talks PROXY protocol except on the loopback addresses, and customers use the port of HTTPS.
    """
    addresses = own_addresses(interfaces)
    if has_balancer:
        addresses = [address for address in addresses if ipaddress.ip_address(address).is_loopback]
    name = public_name(domains)
    return [*((address, port) for address in addresses), *([(name, 443 if has_balancer else port)] if name else [])]


def proxy_probes(targets: list[tuple[str, int]]) -> Iterator[Facts]:
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
