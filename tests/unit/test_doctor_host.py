"""What `cardctl doctor` says of a host: its containers, certificate, ports and folders, and the way through nginx."""

from dataclasses import replace
from typing import Any

from app.services.doctor.facts import ServiceFacts
from app.storage.catalog import CatalogDifference
from tests.support.doctor_facts import (
    BY_NAME,
    DISK,
    HOST,
    PERMISSIONS,
    PROBE,
    PUBLISHED,
    SERVICE,
    answer,
    checked,
    container,
    containers,
    database,
    differing,
    pem,
    rsa_key,
    served,
    sockets,
)
from tests.support.tables import for_each

MOVED = "2026-11-25T12:00:00Z root@new:/srv/kadun"
STOPPED = containers(container("app", state="exited", health=None))
RELAY_EXPECTED = {"config_hashes": HOST["config_hashes"] | {"bucket-relay": "hash of bucket-relay"}}
SERVED_BY_NGINX = ("certificate", "certificate-names", "certificate-chain", "certificate-file", "proxy")
NOT_SERVED: dict[str, Any] = {"tls_handshake": None, "proxy": []}
BUSY = {"proxy": [PROBE | {"status": 503, "answer": "{}"}]}
UNSEEN_KEYS = {"permissions": "\n".join(line for line in PERMISSIONS.splitlines() if "data/keys" not in line)}


def relay(**state: Any) -> dict[str, Any]:
    return containers(container("bucket-relay", **state)) | RELAY_EXPECTED


@for_each(
    "host, check, status, said",
    [
        (
            containers(container("app", state="paused")),
            *("containers", "FAIL", "app: paused. See docker compose logs, then run docker compose unpause app &&"),
        ),
        (
            containers(container("nginx", health="unhealthy")),
            *("containers", "FAIL", "then run docker compose restart nginx && docker compose up -d --wait"),
        ),
        (
            containers(container("nginx", health="starting", restarts=3)),
            *("containers", "FAIL", "nginx: restarted 3 times and not ready"),
        ),
        (containers(container("app", state="exited")), "containers", "FAIL", "then run docker compose up -d --wait"),
        (RELAY_EXPECTED, "containers", "FAIL", "bucket-relay: missing"),
        (
            {"moved_to": "2026-11-25T12:00:00Z bundle kadun.tar.age"},
            "containers",
            "FAIL",
            "the service still runs here",
        ),
        (
            STOPPED | {"moved_to": MOVED},
            *("containers", "WARN", "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z"),
        ),
        (
            STOPPED | {"other_projects": ["shop"]},
            *("containers", "FAIL", "Other projects have containers of this folder, too: shop."),
        ),
        (served(pem("example.com", key=rsa_key())), "certificate", "OK", "ECDSA P-256"),
        ({"proxy": [BY_NAME]}, "proxy", "OK", "card.example.com: 8.8.4.4)"),
        (
            {"proxy": [BY_NAME | {"answer": answer("BALANCER")}]},
            *("proxy", "FAIL", "A request to card.example.com is recorded with the balancer's address, 10.0.0.2:"),
        ),
        (
            sockets(PUBLISHED.replace(":8080", ":8081")),
            *("ports", "OK", "Only SSH and nginx listen for the world; ports of other Compose projects: 8081/tcp shop"),
        ),
    ],
)
def test_a_message_names_what_is_found_and_what_to_do(host: dict[str, Any], check: str, status: str, said: str) -> None:
    found = checked(**host)[check]
    assert (found.status.value, said in found.message_en) == (status, True), found


def test_what_is_not_to_be_started_is_not_advised_to_be() -> None:
    for host in (STOPPED | {"moved_to": MOVED}, STOPPED | {"other_projects": ["shop"]}):
        messages = [result.message_en + result.message_zh for result in checked(**host).values()]
        assert [message for message in messages if "up -d" in message or "compose up" in message] == []
    assert "ECDSA" not in checked()["certificate"].message_en
    assert "disk-database" not in checked(disks={"data": DISK, "backups": DISK})


@for_each(
    "service, host, expected",
    [
        (SERVICE, relay(), {}),
        (SERVICE, relay(state="exited"), {"containers": "FAIL"}),
        (SERVICE, relay(health="starting"), {"containers": "WARN"}),
        (SERVICE, relay(config_hash="older"), {"env-applied": "WARN"}),
        # Without nginx, what it serves is not checked.
        (
            SERVICE,
            containers(container("nginx", state="exited")) | NOT_SERVED,
            dict.fromkeys(SERVED_BY_NGINX, "WARN") | {"containers": "FAIL"},
        ),
        # An app that is down excuses a 503, and of a database only one that can make the app fail.
        (SERVICE, containers(container("app", state="exited")) | BUSY, {"containers": "FAIL", "proxy": "WARN"}),
        *(
            (replace(SERVICE, **database(catalog=CatalogDifference(foreign=(foreign,)), recorded={})), BUSY, statuses)
            for foreign, statuses in (
                ("index card.mine", {"catalog": "WARN", "proxy": "FAIL"}),
                ("trigger card.mine", {"catalog": "FAIL", "proxy": "WARN"}),
            )
        ),
        # Where the host may not look, the service checks the folder of the keys.
        (SERVICE, UNSEEN_KEYS, {}),
        (
            replace(SERVICE, key_modes={"/keys": 0o700, "/keys/keyring.json": 0o644}),
            UNSEEN_KEYS,
            {"permissions": "FAIL"},
        ),
    ],
)
def test_facts_together_change_these_checks(
    service: ServiceFacts, host: dict[str, Any], expected: dict[str, str]
) -> None:
    assert differing(checked(service, **host)) == expected


def test_a_certificate_is_judged_while_nothing_is_served() -> None:
    assert differing(checked(**NOT_SERVED))["certificate"] == "FAIL"
    found = differing(checked(tls_handshake=None, certificate_key="invalid"))
    assert (found["certificate"], found["certificate-file"]) == ("FAIL", "FAIL")
