"""`POST /v1/execute` (核心功能执行)."""

import falcon

from app.domain.texts import Text
from app.http.problems import invalid_request
from app.http.request_parser import RequestParser
from app.http.verdicts import respond
from app.services.functions import Execution, InvalidArgumentsError

_MAX_SHOWN = 200


class ExecuteResource:
    """`POST /v1/execute`."""

    def __init__(self, execution: Execution, parser: RequestParser) -> None:
        self._execution = execution
        self._parser = parser

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the verdict; an accepted request runs its function first."""
        asked, arguments = self._parser.execute_request(request)
        try:
            verdict = self._execution.execute(asked, arguments)
        except InvalidArgumentsError as error:
            # Both may quote the request, at any length.
            field, message = error.field[:_MAX_SHOWN], error.message[:_MAX_SHOWN]
            detail = Text(f"参数 {field} 不符合要求", f"{field} does not fit")
            if message:
                detail = Text(f"{detail.zh}：{message}", f"{field}: {message}")
            raise invalid_request(detail, field) from error
        respond(request, response, verdict)
