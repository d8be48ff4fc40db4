"""Core functions (核心功能执行): evaluate the request, then call the vendor's code in the functions service."""

import logging
from collections.abc import Callable
from typing import Any

from app.domain.addresses import network_of
from app.domain.codes import Code
from app.domain.licence.policy import OPEN_PROGRAM, VerificationRequest
from app.functions.client import FunctionsBusyError, FunctionsClient, FunctionsUnavailableError
from app.functions.decorator import Caller
from app.functions.messages import Failed, Invalid, NotFound, Outcome, Returned, TimedOut
from app.services.licence.evaluation import Evaluation
from app.services.licence.licence import LicenceService, Verdict

logger = logging.getLogger(__name__)


class InvalidArgumentsError(Exception):
    """The arguments do not fit the function; `field` and `message` are those of `Invalid`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Execution:
    """Answers `POST /v1/execute`."""

    def __init__(self, licences: LicenceService, functions: FunctionsClient) -> None:
        self._licences = licences
        self._functions = functions

    def execute(self, request: VerificationRequest, arguments: Callable[[], dict[str, Any]]) -> Verdict:
        """Evaluate a request, call the function if it is accepted, and return the signed verdict.

        `arguments` returns the function's; it is not called for a request that the rules reject. Raise
        InvalidArgumentsError if they do not fit the function, FunctionsUnavailableError if there are too many calls at
        once, or the service that runs them is away.
        """
        evaluation = self._licences.evaluate(request)
        if not evaluation.decision.accepted:
            return self._licences.sign(evaluation)
        match self._outcome(evaluation, arguments()):
            case Returned(result):
                return self._licences.sign(evaluation, claims={"result": result}, is_late=True)
            case Invalid(field, message):
                raise InvalidArgumentsError(field, message)
            case NotFound():
                return self._licences.reject(evaluation, Code.FUNCTION_NOT_FOUND)
            case TimedOut(detail):
                return self._licences.reject(evaluation, Code.FUNCTION_TIMEOUT, {"detail": detail} if detail else None)
            case Failed(detail):
                return self._licences.reject(evaluation, Code.FUNCTION_FAILED, {"detail": detail})

    def _outcome(self, evaluation: Evaluation, arguments: dict[str, Any]) -> Outcome:
        function, card = evaluation.request.function, evaluation.decision.card
        if function == OPEN_PROGRAM:  # it earns the key on /v1/verify, and is never a core function
            return NotFound()
        if card is None or evaluation.client_id is None:
            raise ValueError("an accepted evaluation has a card and its client")
        caller = Caller(card.id, evaluation.client_id, card.expires_at, card.program)
        try:
            return self._functions.call(function, arguments, caller, network_of(evaluation.request.address)).outcome
        except FunctionsBusyError:
            raise
        except FunctionsUnavailableError as error:
            logger.warning("functions service away", extra={"reason": str(error), "reference": evaluation.reference})
            raise
