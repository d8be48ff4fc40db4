"""`POST /v1/execute` (核心功能执行)."""

from dataclasses import dataclass

import falcon

from app.domain.texts import Text
from app.http.problems import invalid_request
from app.http.request_parser import RequestParser
from app.http.verdicts import respond
from app.services.functions import Execution, InvalidArgumentsError

_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class ExecuteResource:
    """`POST /v1/execute`."""

    execution: Execution
    parser: RequestParser

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        asked, arguments = self.parser.execute_request(request)
        try:
            verdict = self.execution.execute(asked, arguments)
        except InvalidArgumentsError as error:
            # Both may quote the request, at any length.
            field, message = error.field[:_MAX_SHOWN], error.message[:_MAX_SHOWN]
            detail = Text(f"参数 {field} 不符合要求", f"{field} does not fit")
            if message:
                detail = Text(f"{detail.zh}：{message}", f"{field}: {message}")
            raise invalid_request(detail, field) from error
        respond(request, response, verdict)
