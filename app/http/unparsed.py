"""The answer to what cannot be read as a request, so that no application sees it."""

import os

from app import metrics
from app.http.problems import MEDIA_TYPE, body_of, malformed


def answer() -> bytes:
    """Return the whole HTTP response: a problem like all others, in both languages."""
    problem = malformed()
    metrics.problems.labels(problem.code).inc()
    request_id = os.urandom(16).hex()
    body = body_of(problem, str(problem.detail), request_id)
    head = (
        f"HTTP/1.1 {problem.status}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
        "Cache-Control: no-store",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(head).encode() + body
