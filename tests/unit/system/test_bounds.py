"""How many requests run at once in a process: those of operators and shops, and those of customers."""

import falcon
import pytest
from falcon.testing import create_environ

from app.http import middleware as bounds
from app.http.middleware import Bounds
from app.http.problems import Problem


def test_customers_take_no_place_of_operators_and_neither_take_one_of_verifications(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "_PATIENCE_SECONDS", 0)
    middleware, response = Bounds(8), falcon.Response()

    def begin(path: str) -> falcon.Request:
        request = falcon.Request(create_environ(path))
        middleware.process_request(request, response)
        return request

    for taken, other, number in (("/card", "/v1/self/status", 2), ("/admin/cards", "/v1/shop/cards", 4)):
        first, *_others = [begin(taken) for _ in range(number)]
        with pytest.raises(Problem):
            begin(other)
        middleware.process_response(first, response, None, True)  # noqa: FBT003  # Falcon's signature
        begin(other)
        with pytest.raises(Problem):
            begin(taken)
    for path in ("/v1/verify", "/admin/login", "/admin/static/console.js"):
        begin(path)
