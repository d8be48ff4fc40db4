"""Errors below `/admin` as pages; other errors stay problem documents."""

from typing import Any

import falcon

from app.console import plain
from app.console.guard import headers, visitor_from
from app.console.page import OUT_OF_DATE, Console
from app.domain.texts import RefusedError
from app.http import problems
from app.runtime import metrics


def install(app: falcon.App[Any, Any], console: Console) -> None:

    def on_error(request: falcon.Request, response: falcon.Response, error: Exception, _params: Any) -> None:  # noqa: ANN401
        if request.path != "/admin" and not request.path.startswith("/admin/"):
            problems.respond(request, response, problems.from_error(request, error))
            return
        if not hasattr(request.context, "visitor"):
            request.context.visitor = visitor_from(request)
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
            plain.render(console, request, response, "off.html", {"request_id": request.context.request_id})
            return
        console.renderer.render(
            request,
            response,
            "error.html",
            problem=problem,
            is_stale=problem.detail == OUT_OF_DATE,  # no permission is lacking then
            request_id=request.context.request_id,
            is_posted=request.method == "POST",
        )

    app.add_error_handler(Exception, on_error)
    app.add_error_handler(falcon.HTTPError, on_error)
