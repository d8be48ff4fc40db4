"""Results of `cardctl doctor`."""

import json
from typing import Any

from tests.support.services.service import Service

SERVICE_CHECKS = {
    *("settings", "permissions", "database", "schema", "durability", "hosts", "keys", "data-key", "data-key-in-use"),
    *("files", "functions", "clock", "sealing-key"),
}
"""The checks that need no facts of the host."""
UNKNOWN_SCHEMA = dict.fromkeys(("schema", "hosts", "files", "sealing-key"), "WARN")


def results(service: Service, *arguments: str, text: str = "") -> dict[str, Any]:
    done = service.cardctl("doctor", "--format", "json", *arguments, check=False, text=text)
    assert "Traceback" not in done.stderr
    lines = json.loads(done.stdout)
    failed = any(line["status"] == "FAIL" for line in lines)
    assert (done.returncode, len(done.stderr.splitlines())) == (failed, failed)
    return {line["check"]: line for line in lines}


def differing(found: dict[str, Any]) -> dict[str, str]:
    """The checks that are not OK, apart from those of this machine's clock, of functions, which are down, and of the
    tests' database, which does not wait for the disk."""
    apart = {"clock", "functions", "durability"}
    return {check: line["status"] for check, line in found.items() if line["status"] != "OK" and check not in apart}
