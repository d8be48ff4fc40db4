"""Core functions (核心功能执行): the rules first, then the vendor's code, in a service of its own."""

import logging
from typing import Any

from app.domain.codes import Code
from app.domain.policy import OPEN_PROGRAM, VerificationRequest
from app.functions.client import FunctionsBusyError, FunctionsClient, FunctionsUnavailableError
from app.functions.concurrency import BusyError, ConcurrencyLimiter
from app.functions.decorator import Caller
from app.functions.messages import Failed, Invalid, NotFound, Outcome, Returned, TimedOut
from app.services.licence import Evaluation, LicenceService, Verdict

logger = logging.getLogger(__name__)


class InvalidArgumentsError(Exception):
    """The arguments are not what the function wants: `field` and `message` as in `Invalid`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Execution:
    """Answers `POST /v1/execute`.

    Args:
        licences: Evaluates the request.
        functions: Asks the service that runs the vendor's code.
        at_once: So many calls of this process at once, so that slow functions leave threads for verification; of one
            card at most half of them.
    """

    def __init__(self, licences: LicenceService, functions: FunctionsClient, at_once: int) -> None:
        self._licences = licences
        self._functions = functions
        self._slots = ConcurrencyLimiter(at_once)

    def execute(self, request: VerificationRequest, arguments: dict[str, Any]) -> Verdict:
        """Evaluate a request, have the function run if it is accepted, and return the signed verdict.

        Raises:
            InvalidArgumentsError: the function did not run.
            FunctionsUnavailableError: too many calls at once, or the service that runs them is away.
            DatabaseUnavailableError: the database is away.
        """
        evaluation = self._licences.evaluate(request)
        if not evaluation.decision.accepted:
            return self._licences.sign(evaluation)
        match self._outcome(evaluation, arguments):
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
        if function == OPEN_PROGRAM:  # what earns the key elsewhere runs nothing here, whatever is installed
            return NotFound()
        if card is None or evaluation.client_id is None:
            raise ValueError("an accepted evaluation has a card and its client")
        try:
            with self._slots.slot(card.id):
                return self._functions.call(function, arguments, Caller(card.id, evaluation.client_id, card.expires_at))
        except BusyError as error:
            raise FunctionsBusyError(str(error)) from error
        except FunctionsBusyError:
            raise
        except FunctionsUnavailableError as error:
            logger.warning("functions service away", extra={"reason": str(error), "reference": evaluation.reference})
            raise
