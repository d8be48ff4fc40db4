"""Self-service (客户自助) as JSON: `POST /v1/self/status`, `/v1/self/unbind` and `/v1/self/renew`."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import falcon
import msgspec

from app.domain.codes import Code
from app.domain.self_service import CustomersCard, RenewNotAllowedError, RenewReason, UnbindNotAllowedError
from app.domain.texts import RefusedError
from app.http import json_body, problems, schemas
from app.http.customer_messages import MESSAGES, RENEWALS, unbinding
from app.http.problems import Problem, ProblemCode, as_sentence
from app.http.request_parser import client_address
from app.services.cards.card_actions import CardNotFoundError
from app.services.formatting import local
from app.services.licence.vendor_rules import ClientBlockedError
from app.services.self_service import ChangedMeanwhileError, SelfService


@dataclass(frozen=True, slots=True)
class SelfServiceResource:
    """One of the three routes. `kind` is that of its body, `act` takes the customer and the body's fields."""

    service: SelfService
    behind_proxy: bool
    kind: type[schemas.OwnCardRequest]
    act: Callable[..., CustomersCard]

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        try:
            customer = self.service.enter(client_address(request, behind_proxy=self.behind_proxy))
            asked = json_body.parse(json_body.read_body(request), self.kind)
            own = self.act(customer, *msgspec.structs.astuple(asked))
        except RefusedError as error:
            raise problem_of(request, error, self.service) from error
        zone, allowed = self.service.timezone, own.allowed
        document = {
            "status": own.status,
            "expires_at": local(own.card.expires_at, zone),
            "bound": own.is_bound,
            "unbinds_left": allowed.unbinds_left,
            "next_unbind_at": local(allowed.next_unbind_at, zone),
        }
        response.set_header("Cache-Control", "no-store")
        response.data = json.dumps(document).encode()


def problem_of(request: falcon.Request, error: Exception, service: SelfService) -> Problem:
    match error:
        case ClientBlockedError():
            return problems.client_blocked()
        case CardNotFoundError():
            return problems.card_not_found(as_sentence(MESSAGES[Code.CARD_NOT_FOUND]), "card_id")
        case ChangedMeanwhileError():
            return problems.conflict(as_sentence(error.text))
        case UnbindNotAllowedError():
            at = None if error.next_unbind_at is None else error.next_unbind_at.astimezone(service.timezone)
            more = {"next_unbind_at": local(at, service.timezone)}
            return Problem(ProblemCode.UNBIND_NOT_ALLOWED, as_sentence(unbinding(at)), more=more)
        case RenewNotAllowedError():
            is_unknown = error.reason is RenewReason.SECOND_CARD_NOT_FOUND
            return Problem(
                ProblemCode.CARD_NOT_FOUND if is_unknown else ProblemCode.RENEW_NOT_ALLOWED,
                as_sentence(RENEWALS[error.reason]),
                field="with_card_id" if is_unknown else None,
                more={"reason": error.reason},
            )
        case _:
            return problems.from_error(request, error)
