"""Errors below `/admin` as pages; other errors stay problem documents."""

from http import HTTPStatus
from typing import Any, NamedTuple

import falcon

from app import metrics
from app.console import plain
from app.console.guard import headers, stranger
from app.console.page import OUT_OF_DATE, Console
from app.domain.texts import RefusedError, Text
from app.http import problems


class _Words(NamedTuple):
    title: Text
    advice: Text


_FAILED = _Words(
    Text("操作失败", "That did not work"),
    Text("请返回上一页，刷新后再试。", "Go back, reload the page and try again."),
)
_WORDS = {
    HTTPStatus.FORBIDDEN: _Words(
        Text("无权访问", "No access"),
        Text(
            "请返回上一页；如果需要这项权限，请联系所有者（owner）。",
            "Go back. If you need this permission, ask an owner.",
        ),
    ),
    HTTPStatus.NOT_FOUND: _Words(
        Text("没有找到", "Not found"),
        Text("请检查地址，或从总览重新进入。", "Check the address, or start again from the overview."),
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: _Words(
        Text("内容过大", "Too much at once"), Text("请分几次提交。", "Send it in several parts.")
    ),
    HTTPStatus.INTERNAL_SERVER_ERROR: _Words(
        Text("服务器内部错误", "Internal error"),
        Text(
            "请稍后再试；如果再次出现，请凭下面的请求编号在服务器日志中查找原因。",
            "Try again later. If it happens again, look for the request below in the server's log.",
        ),
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: _Words(
        Text("服务暂时不可用", "Unavailable at the moment"),
        Text(
            "请稍后再试；如果持续出现，请在服务器上执行 scripts/cardctl doctor。",
            "Try again later. If it lasts, run scripts/cardctl doctor on the server.",
        ),
    ),
}


def install(app: falcon.App[Any, Any], console: Console) -> None:
    """Answer the errors below `/admin` with a page."""

    def on_error(request: falcon.Request, response: falcon.Response, error: Exception, _params: Any) -> None:  # noqa: ANN401
        if request.path != "/admin" and not request.path.startswith("/admin/"):
            problems.respond(request, response, problems.from_error(request, error))
            return
        if not hasattr(request.context, "visitor"):
            request.context.visitor = stranger(request)
        is_off = False
        try:
            # An unknown path and a page of a console without operators must not differ.
            is_off = isinstance(error, falcon.HTTPNotFound) and not console.sessions.operators_exist()
        except Exception as failure:  # noqa: BLE001  # whatever it is, it is answered
            error = failure
        # Pages handle refusals themselves, except those of two simultaneous requests.
        if isinstance(error, RefusedError):
            problem = problems.conflict(error.text)
        else:
            problem = problems.from_error(request, error)
        metrics.problems.labels(problem.code).inc()
        response.status = problem.status
        response.set_headers({**headers(), **problem.headers})
        if is_off:
            plain.render(console, request, response, "off.html", request_id=request.context.request_id)
            return
        is_stale = problem.detail == OUT_OF_DATE  # no permission is lacking then
        words = _FAILED if is_stale else _WORDS.get(HTTPStatus(int(problem.status[:3])), _FAILED)
        console.renderer.render(
            request,
            response,
            "error.html",
            problem=problem,
            title=words.title,
            advice=words.advice,
            request_id=request.context.request_id,
            is_posted=request.method == "POST",
        )

    app.add_error_handler(Exception, on_error)
    app.add_error_handler(falcon.HTTPError, on_error)
