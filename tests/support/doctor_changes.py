"""Changes of a healthy installation's facts (tests/support/doctor_facts.py), and the results of the checks on them."""

from dataclasses import replace
from typing import Any

from app.services.doctor import CheckResult, Facts, Status, run_checks
from app.services.doctor.facts import ServiceFacts
from tests.support.doctor_facts import DATABASE, HOST, LOCAL_SOCKETS, PROBE, SERVICE, answer, handshake, host_facts

BY_NAME = PROBE | {"host": "card.example.com", "address": "10.0.0.5", "answer": answer("OUTSIDE1")}
PUBLISHED = 'tcp LISTEN 0 128 0.0.0.0:8080 0.0.0.0:* users:(("docker-proxy",pid=9,fd=5))'


def stranger(address: str) -> str:
    return f'tcp LISTEN 0 128 {address}:5000 {address}:* users:(("python3",pid=9,fd=5))'


STRANGER = stranger("0.0.0.0")  # noqa: S104


def checked(service: ServiceFacts = SERVICE, **host: Any) -> dict[str, CheckResult]:
    return run_checks(Facts(host_facts(**host), service))


def differing(results: dict[str, CheckResult]) -> dict[str, str]:
    return {check: result.status.value for check, result in results.items() if result.status is not Status.OK}


def setting(name: str, value: str | None) -> dict[str, Any]:
    return {"settings": HOST["settings"] | {name: value}}


def containers(*changed: dict[str, Any]) -> dict[str, Any]:
    by_service = {c["service"]: c for c in [*HOST["containers"], *changed]}
    return {"containers": list(by_service.values())}


def sockets(*lines: str) -> dict[str, Any]:
    return {"sockets": "\n".join([LOCAL_SOCKETS, *lines])}


def served(text: str) -> dict[str, Any]:
    return {"tls_handshake": handshake(text), "certificate": text}


def database(**changes: Any) -> dict[str, Any]:
    return {"database": replace(DATABASE, **changes)}
