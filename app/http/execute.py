"""`POST /v1/execute` (核心功能执行)."""

import falcon

from app.domain.texts import Text
from app.functions.client import FunctionsUnavailableError
from app.http import schemas
from app.http.door import Door, respond
from app.http.problems import invalid_request, unavailable
from app.services.functions import Execution, InvalidArgumentsError

_SHOWN = 200


class ExecuteResource:
    """`POST /v1/execute`."""

    def __init__(self, execution: Execution, door: Door) -> None:
        self._execution = execution
        self._door = door

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Judge the request, have the function run, and answer with the verdict."""
        body = schemas.parse_execute_request(schemas.read_body(request))
        question = self._door.question(request, body)
        try:
            verdict = self._execution.execute(question, body.arguments)
        except InvalidArgumentsError as error:
            # Both may quote what was sent, at any length.
            field, message = error.field[:_SHOWN], error.message[:_SHOWN]
            detail = Text(f"参数 {field} 不符合要求", f"{field} does not fit")
            if message:
                detail = Text(f"{detail.zh}：{message}", f"{field}: {message}")
            raise invalid_request(detail, field) from error
        except FunctionsUnavailableError as error:
            raise unavailable() from error
        respond(request, response, verdict)
