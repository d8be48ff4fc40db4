"""H: an empty route, what Falcon and gunicorn take by themselves. Its folder is on the path of the service."""

from typing import Any

import falcon


class _Nothing:
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.data = b"{}"


app: falcon.App[Any, Any] = falcon.App()
app.add_route("/empty", _Nothing())
