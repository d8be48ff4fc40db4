"""`GET /v1/openapi.json`: this server's whole HTTP surface, as a document that programs read."""

from pathlib import Path

import falcon

DOCUMENT = Path(__file__).with_name("openapi.json")
"""OpenAPI 3.1. The tests hold it to the routes of `app.factory` and to what the service answers."""


class OpenApiResource:
    """`GET /v1/openapi.json`."""

    def __init__(self) -> None:
        self._document = DOCUMENT.read_bytes()

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the document."""
        response.content_type = "application/json"
        response.set_header("Cache-Control", "no-cache")
        response.data = self._document

    on_head = on_get
