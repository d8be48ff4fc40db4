"""Self-service through nginx: limited apart from verification, and told in a page where a person reads the answer."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.http_exchange import Response
from tests.support.nginx import Gateway, until_refused
from tests.support.self_service import ALLOWED, JSON
from tests.support.socket_service import SocketService, body
from trial.postgres import EmbeddedPostgres

BURST = 10
SITE_BURST = 100
TOO_MANY = "请求过于频繁 / Too many requests"


@pytest.fixture(scope="module")
def open_service(tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres) -> Iterator[SocketService]:
    """A service of its own, whose vendor allows self-service."""
    postgres.create_database("self_service")
    running = SocketService(tmp_path_factory.mktemp("open"), postgres.url("self_service"))
    running.cardctl("migrate")
    running.cardctl("terms", "set", *(f"{name}={value}" for name, value in ALLOWED.items()))
    with running:
        yield running


def status(gateway: Gateway, card: str, address: str) -> Response:
    asked = json.dumps({"card_id": card}).encode()
    return gateway.ask("POST", "/v1/self/status", asked, JSON | {"X-Test-Address": address})


def test_self_service_is_limited_by_address_and_verification_goes_on(
    make_gateway: GatewayMaker, open_service: SocketService
) -> None:
    gateway = make_gateway(open_service.socket, believe_test_address=True)
    card, address = open_service.new_card(), "203.0.113.7"
    *served, refused = until_refused(lambda: status(gateway, card, address))
    assert ({answer.status for answer in served}, len(served) >= BURST) == ({200}, True)
    refused.require_problem(429, "TOO_MANY_REQUESTS")
    assert refused.headers["retry-after"] == "1"
    *shown, page = until_refused(lambda: gateway.ask("GET", "/card", headers={"X-Test-Address": address}))
    assert len(shown) < BURST, "the page shares the limit, which lets one a second through"
    page.require_page(429, TOO_MANY)
    verified = gateway.ask("POST", "/v1/verify", body(card, "m1"), JSON | {"X-Test-Address": address})
    assert verified.status == 200
    assert status(gateway, card, "203.0.113.8").status == 200


def test_an_ipv6_customer_counts_by_network_and_by_site(make_gateway: GatewayMaker) -> None:
    gateway = make_gateway(believe_test_address=True)  # the app is down: nginx's limits come first
    for addresses, statuses in (
        ([f"2001:db8:0:1::{host:x}" for host in range(BURST + 5)], {503, 429}),  # one /64
        ([f"2001:db8:{site:x}::1" for site in range(2, BURST + 7)], {503}),
        ([f"2001:db8:1:{network:x}::1" for network in range(4 * SITE_BURST)], {503, 429}),  # one /48
    ):
        seen = set()
        for answer in gateway.get_each("/card", addresses):
            seen.add(answer.status)
            if 429 in seen:
                break
        assert seen == statuses, addresses[0]


def test_verifications_take_nothing_of_self_service(make_gateway: GatewayMaker, open_service: SocketService) -> None:
    gateway = make_gateway(open_service.socket, believe_test_address=True, KADUN_RATE="1", KADUN_BURST="1")
    card, headers = open_service.new_card(), JSON | {"X-Test-Address": "203.0.113.9"}
    asked = [gateway.ask("POST", "/v1/verify", body(card, "m2"), headers).status for _ in range(10)]
    assert 429 in asked
    assert [status(gateway, card, "203.0.113.9").status for _ in range(BURST)] == [200] * BURST


def test_the_page_comes_as_the_app_sends_it_and_no_key_is_logged(
    make_gateway: GatewayMaker, open_service: SocketService
) -> None:
    gateway = make_gateway(open_service.socket)
    card = open_service.new_card()
    page = gateway.ask("GET", "/card?lang=en")
    assert (page.status, "Card key" in page.body.decode()) == (200, True)
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src 'sha256-")
    assert (page.headers["referrer-policy"], page.headers["cache-control"]) == ("no-referrer", "no-store")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    shown = gateway.ask("POST", "/card", f"do=look&card_id={card}".encode(), form)
    assert (shown.status, f"{card[:4]}•••" in shown.body.decode()) == (200, True)
    gateway.logged("/card")
    logs = [gateway.log / "access.log", gateway.log / "error.log", open_service.log]
    assert [log for log in logs if card in log.read_text()] == []
    gateway.ask("POST", "/card", b"x" * 70_000, form).require_page(413, "内容过大 / Too much at once")
