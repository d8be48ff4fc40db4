"""Errors of the console as pages; other errors stay problem documents."""

from typing import Any

import falcon

from app import metrics
from app.console.page import Console
from app.domain.texts import RefusedError
from app.http import problems


def install(app: falcon.App[Any, Any], console: Console) -> None:
    """Answer the errors of pages with a page."""

    def on_error(request: falcon.Request, response: falcon.Response, error: Exception, _params: Any) -> None:  # noqa: ANN401
        is_page = hasattr(request.context, "visitor") and not isinstance(error, falcon.HTTPNotFound)
        if is_page and isinstance(error, RefusedError):
            # Pages handle refusals themselves, except those of two simultaneous requests.
            problem = problems.conflict(error.text)
        else:
            problem = problems.from_error(request, error)
        if not is_page:
            problems.respond(request, response, problem)  # not a page, or one that must not be recognised
            return
        metrics.problems.labels(problem.code).inc()
        response.status = problem.status
        response.set_headers(problem.headers)
        console.renderer.render(
            request,
            response,
            "error.html",
            problem=problem,
            request_id=request.context.request_id,
            is_posted=request.method == "POST",
        )

    app.add_error_handler(Exception, on_error)
    app.add_error_handler(falcon.HTTPError, on_error)
