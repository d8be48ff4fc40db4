"""An operator who asks for many slow pages at once keeps no customer waiting."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import psycopg2
import pytest

from app.storage.database import Database
from tests.integration.conftest import with_keys
from tests.support.console import Browser, add_operator
from tests.support.service import Service, question


@pytest.fixture
def one_worker(database: Database, database_url: str, tmp_path: Path) -> Iterator[Service]:
    with Service(with_keys(tmp_path), database_url, KADUN_WORKERS="1", KADUN_THREADS="4") as service:
        yield service


def test_pages_beyond_those_under_way_are_refused_whatever_their_session_and_customers_are_served(
    one_worker: Service, database_url: str
) -> None:
    service = one_worker
    (card_id,) = service.issue()
    add_operator("olga")
    olga, elsewhere = (Browser(service, language="en").walk_in("olga") for _ in range(2))
    assert {olga.get("/admin/webhooks").status, elsewhere.get("/admin/webhooks").status} == {200}
    with psycopg2.connect(database_url) as other, ThreadPoolExecutor(12) as pool:
        with other.cursor() as cursor:
            cursor.execute("LOCK TABLE webhook IN ACCESS EXCLUSIVE MODE")  # as if the page took long
        pages = [pool.submit(session.get, "/admin/webhooks") for session in [olga, elsewhere] * 6]
        done, under_way = wait(pages, timeout=3)
        assert {page.result().status for page in done} == {503}
        assert {"retry-after" in page.result().headers for page in done} == {True}
        assert (len(done), len(under_way)) == (4, 8)
        for number in range(5):
            assert service.verify(question(card_id, "a machine", function=f"function {number}")).status == 200
        other.rollback()
        assert {page.result().status for page in under_way} == {200}
    assert olga.get("/admin/webhooks").status == 200
