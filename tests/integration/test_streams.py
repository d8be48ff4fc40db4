"""Streams of refreshes against the service: every acknowledged request is counted, whatever happens meanwhile."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, repeat
from pathlib import Path

from peewee import fn

from app.clock import utc_now
from app.storage.database import Database, connect_to
from app.storage.models import Usage
from tests.integration.conftest import with_keys
from tests.support.bound_cards import write_bound
from tests.support.processes import children_of
from tests.support.service import Service, wait_for
from tests.support.streams import Answered, Ask, Streams, own
from trial.postgres import EmbeddedPostgres

REQUESTS = 2_000
PROXIED = {"KADUN_BEHIND_PROXY": "true", "KADUN_WORKERS": "2"}


def taking_turns(asks: Iterator[Ask]) -> Callable[[], Ask | None]:
    """Return a source that several connections may share."""
    return partial(next, asks, None)


def counted() -> Counter[str]:
    """The usage of all days, by card."""
    total = fn.SUM(Usage.count)
    return Counter({card: int(count) for card, count in Usage.select(Usage.card, total).group_by(Usage.card).tuples()})


def by_card(answers: list[Answered], *statuses: int) -> Counter[str]:
    """How many requests of each card were answered so, or asked at all where no status is given."""
    return Counter(answer.ask.card_id for answer in answers if not statuses or answer.status in statuses)


def test_thousands_of_requests_of_one_card_at_once_are_all_counted(proxied: Service) -> None:
    (card_id,) = proxied.issue()
    source = taking_turns(repeat(Ask(card_id), REQUESTS))
    with Streams(proxied, [source] * 64) as streams:
        answers = streams.join().answers
    codes = Counter(answer.code for answer in answers)
    refused = codes.pop("UNAVAILABLE", 0)  # on a busy machine some of the first 64 may wait too long for the activation
    assert codes == {"OK": REQUESTS - refused}
    assert refused < 64
    assert counted() == {card_id: REQUESTS - refused}


def test_a_worker_that_is_killed_takes_no_acknowledged_request_with_it(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    ids = write_bound(20, utc_now())
    with Service(with_keys(tmp_path), database_url, **PROXIED) as service:
        assert service.process is not None
        master = service.process.pid
        with Streams(
            service, [taking_turns(map(own, cycle(ids[number:] + ids[:number]))) for number in range(32)]
        ) as streams:
            for _ in range(3):
                streams.wait_for_answers(300)
                first, _second = wait_for(lambda: len(found := children_of(master)) == 2 and found)
                os.kill(first, signal.SIGKILL)
            streams.wait_for_answers(300)
    assert {answer.status for answer in streams.answers} - {503} == {0, 200}, "503 where a busy machine takes too long"
    found, acknowledged, asked = counted(), by_card(streams.answers, 200), by_card(streams.answers)
    for card_id in ids:
        assert acknowledged[card_id] <= found[card_id] <= asked[card_id]


def test_after_a_restart_of_the_database_all_connections_are_served_and_what_was_acknowledged_is_counted(
    own_postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    database = connect_to(Database(own_postgres.url(), bulk=True))
    with database.connection_context():
        ids = write_bound(256, utc_now())
    with Service(with_keys(tmp_path), own_postgres.url(), **PROXIED) as service:
        with Streams(service, [partial(own, card_id) for card_id in ids]) as streams:
            streams.wait_for_answers(1_000)
            own_postgres.stop()
            streams.wait_for_answers(500, lambda answer: answer.status == 503)
            own_postgres.start()
            back_from = len(streams.answers)
            wait_for(lambda: by_card(streams.answers[back_from:], 200).keys() == set(ids), 60)
        assert service.get("/readyz").status == 200
    assert {answer.status for answer in streams.answers} == {200, 503}
    assert all(b"retry-after" in answer.headers.lower() for answer in streams.answers if answer.status == 503)
    with database.connection_context():
        found, acknowledged, asked = counted(), by_card(streams.answers, 200), by_card(streams.answers)
    for card_id in ids:
        assert acknowledged[card_id] <= found[card_id] <= asked[card_id]
