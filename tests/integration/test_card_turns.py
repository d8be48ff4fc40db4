"""Requests with one card, however many, keep the requests with other cards waiting for no thread."""

from dataclasses import replace
from functools import partial

import psycopg2
import pytest

from app import hub
from app.domain.errors import UnavailableError
from app.domain.policy import OPEN_PROGRAM, VerificationRequest
from app.services.evaluation import Evaluation
from app.services.licence import LicenceService
from tests.support.hub_thread import HubThread


def asking(licences: LicenceService, card_id: str, address: str) -> partial[Evaluation]:
    request = VerificationRequest.from_fields(card_id, f"machine of {card_id}", OPEN_PROGRAM, "n" * 22, address)
    return partial(licences.evaluate, request)


@pytest.mark.parametrize("is_known", [True, False])
def test_one_cards_requests_take_one_thread(
    hub_thread: HubThread, licences: LicenceService, database_url: str, card_id: str, other_id: str, *, is_known: bool
) -> None:
    patient = replace(licences, turns=hub.Turns(60))
    if is_known:
        assert hub_thread.call(asking(patient, card_id, "192.0.2.1")).decision.accepted
    with psycopg2.connect(database_url) as other:
        with other.cursor() as cursor:
            cursor.execute("SELECT FROM card WHERE id = %s FOR UPDATE", [card_id])
        asked = hub_thread.begin_all([asking(patient, card_id, f"198.51.100.{last}") for last in range(1, 9)])
        assert hub_thread.call(asking(patient, other_id, "203.0.113.1")).decision.accepted
        assert not any(one.done() for one in asked)
        other.rollback()
    assert all(one.result(60).decision.accepted for one in asked)


def test_who_waits_too_long_for_the_others_with_the_card_is_refused(
    hub_thread: HubThread, licences: LicenceService, card_id: str
) -> None:
    impatient = replace(licences, turns=hub.Turns(0.0))
    leave = hub_thread.call(hub.event)

    def stay() -> None:
        with impatient.turns.taken(card_id):
            leave.wait()

    staying = hub_thread.begin(stay)
    with pytest.raises(UnavailableError, match="one card"):
        hub_thread.call(asking(impatient, card_id, "192.0.2.1"))
    hub_thread.call(leave.set)
    staying.result(20)
    assert hub_thread.call(asking(impatient, card_id, "192.0.2.1")).decision.activates
