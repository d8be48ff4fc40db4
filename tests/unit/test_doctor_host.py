"""What `cardctl doctor` says of a host: its containers, certificate, ports and folders, and the way through nginx."""

from dataclasses import replace
from typing import Any

import pytest

from app.services.doctor import Status
from app.storage.catalog import CatalogDifference
from tests.support.doctor_changes import (
    BY_NAME,
    PUBLISHED,
    checked,
    containers,
    database,
    differing,
    served,
    sockets,
)
from tests.support.doctor_facts import DISK, HOST, PERMISSIONS, PROBE, SERVICE, answer, container, pem, rsa_key
from tests.support.tables import for_each


@for_each(
    ("state", "advice"),
    [
        (
            container("app", state="paused"),
            "app: paused. See docker compose logs, then run docker compose unpause app &&",
        ),
        (
            container("nginx", health="unhealthy"),
            "then run docker compose restart nginx && docker compose up -d --wait",
        ),
        (container("nginx", health="starting", restarts=3), "nginx: restarted 3 times and not ready"),
        (container("app", state="exited"), "then run docker compose up -d --wait"),
    ],
)
def test_the_advice_fits_the_state_of_the_container(state: dict[str, Any], advice: str) -> None:
    found = checked(**containers(state))["containers"]
    assert (found.status, advice in found.message_en) == (Status.FAIL, True), found


@for_each(
    ("state", "found"),
    [
        ({}, {}),
        ({"state": "exited"}, {"containers": "FAIL"}),
        ({"health": "starting"}, {"containers": "WARN"}),
        ({"config_hash": "older"}, {"env-applied": "WARN"}),
    ],
)
def test_the_relay_to_a_bucket_is_checked_where_compose_runs_it(state: dict[str, Any], found: dict[str, str]) -> None:
    relay = containers(container("bucket-relay", **state))
    hashes = HOST["config_hashes"] | {"bucket-relay": "hash of bucket-relay"}
    assert differing(checked(**relay, config_hashes=hashes)) == found


def test_a_relay_to_a_bucket_that_compose_runs_must_be_there() -> None:
    assert differing(checked()) == {}
    result = checked(config_hashes=HOST["config_hashes"] | {"bucket-relay": "hash of bucket-relay"})["containers"]
    assert (result.status, "bucket-relay: missing" in result.message_en) == (Status.FAIL, True)


def test_a_service_that_is_marked_as_moved_and_still_runs_is_a_fault() -> None:
    result = checked(moved_to="2026-11-25T12:00:00Z bundle kadun.tar.age")["containers"]
    assert result.status is Status.FAIL
    assert "the service still runs here" in result.message_en
    assert "only answers 503" not in result.message_en


def test_a_service_that_has_moved_is_not_to_be_started() -> None:
    stopped = containers(container("app", state="exited", health=None))
    result = checked(**stopped, moved_to="2026-11-25T12:00:00Z root@new:/srv/kadun")["containers"]
    assert result.status is Status.WARN
    assert "The service moved to root@new:/srv/kadun at 2026-11-25T12:00:00Z" in result.message_en
    assert "up -d" not in result.message_en + result.message_zh


def test_beside_another_project_of_this_folder_nothing_is_to_be_started() -> None:
    stopped = containers(container("app", state="exited", image="sha256:older", config_hash="older"))
    found = checked(**stopped, other_projects=["shop"])
    assert "Other projects have containers of this folder, too: shop." in found["containers"].message_en
    assert [name for name, result in found.items() if "compose up" in result.message_en + result.message_zh] == []


def test_without_nginx_what_it_serves_is_not_checked() -> None:
    nothing_served = {"tls_handshake": None, "proxy": []}
    results = differing(checked(**containers(container("nginx", state="exited")), **nothing_served))
    unchecked = ("certificate", "certificate-names", "certificate-chain", "certificate-file", "proxy")
    assert results == dict.fromkeys(unchecked, "WARN") | {"containers": "FAIL"}
    assert differing(checked(**nothing_served))["certificate"] == "FAIL"


def test_an_rsa_certificate_is_valid_and_ecdsa_recommended() -> None:
    found = checked(**served(pem("example.com", key=rsa_key())))["certificate"]
    assert found.status == Status.OK
    assert all("ECDSA P-256" in message for message in (found.message_zh, found.message_en))
    assert "ECDSA" not in checked()["certificate"].message_en


def test_a_key_of_another_certificate_is_found_while_nothing_is_served() -> None:
    found = differing(checked(tls_handshake=None, certificate_key="invalid"))
    assert (found["certificate"], found["certificate-file"]) == ("FAIL", "FAIL")


def test_the_address_that_arrives_by_the_public_name_is_named() -> None:
    assert "card.example.com: 8.8.4.4)" in checked(proxy=[BY_NAME])["proxy"].message_en
    found = checked(proxy=[BY_NAME | {"answer": answer("BALANCER")}])["proxy"].message_en
    assert "A request to card.example.com is recorded with the balancer's address, 10.0.0.2:" in found


def test_an_app_that_is_down_is_no_fault_of_the_proxy() -> None:
    changed = containers(container("app", state="exited")) | {"proxy": [PROBE | {"status": 503, "answer": "{}"}]}
    assert differing(checked(**changed)) == {"containers": "FAIL", "proxy": "WARN"}


@pytest.mark.parametrize(
    ("foreign", "statuses"),
    [
        ("index card.mine", {"catalog": "WARN", "proxy": "FAIL"}),
        ("trigger card.mine", {"catalog": "FAIL", "proxy": "WARN"}),
    ],
)
def test_only_a_database_that_can_make_the_app_fail_excuses_its_503(foreign: str, statuses: dict[str, str]) -> None:
    service = replace(SERVICE, **database(catalog=CatalogDifference(foreign=(foreign,)), recorded={}))
    assert differing(checked(service, proxy=[PROBE | {"status": 503, "answer": "{}"}])) == statuses


def test_ports_of_another_compose_project_are_named_with_it() -> None:
    message = checked(**sockets(PUBLISHED.replace(":8080", ":8081")))["ports"].message_en
    assert message == "Only SSH and nginx listen for the world; ports of other Compose projects: 8081/tcp shop"


def test_the_disk_of_the_database_is_reported_where_it_is_one_of_its_own() -> None:
    assert "disk-database" not in checked(disks={"data": DISK, "backups": DISK})


def test_the_key_folder_is_checked_by_the_service_where_the_host_may_not_look() -> None:
    unseen = "\n".join(line for line in PERMISSIONS.splitlines() if "data/keys" not in line)
    assert differing(checked(permissions=unseen)) == {}
    service = replace(SERVICE, key_modes={"/keys": 0o700, "/keys/keyring.json": 0o644})
    assert differing(checked(service, permissions=unseen)) == {"permissions": "FAIL"}
