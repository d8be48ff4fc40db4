"""An operator who asks for many slow pages at once keeps no customer waiting."""

from functools import partial

from tests.support.console import Browser, add_operator
from tests.support.service import Service
from tests.support.slow_requests import hold_up


def test_pages_beyond_those_under_way_are_refused_whatever_their_session_and_customers_are_served(
    one_worker: Service,
) -> None:
    (card_id,) = one_worker.issue()
    add_operator("olga")
    olga, elsewhere = (Browser(one_worker, language="en", address="192.0.2.9").walk_in("olga") for _ in range(2))
    assert {olga.get("/admin/webhooks").status, elsewhere.get("/admin/webhooks").status} == {200}
    pages = [partial(session.get, "/admin/webhooks") for session in [olga, elsewhere] * 6]
    hold_up(one_worker, "LOCK TABLE webhook IN ACCESS EXCLUSIVE MODE", pages, card_id)
    assert olga.get("/admin/webhooks").status == 200
