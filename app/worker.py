"""gunicorn's gevent worker, without monkey-patching, and prompt to end."""

import contextlib
import os
import socket as blocking_socket
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent import socket
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName, ParseException
from gunicorn.workers.ggevent import GeventWorker

from app.http.problems import answer_to_unreadable

SEND_SECONDS = 30
"""How long the sending of an answer waits for a client that reads nothing; nginx gives up before (`send_timeout`)."""
_HEARTBEAT_SECONDS = 1.0


class Worker(GeventWorker):  # type: ignore[misc]  # gunicorn is untyped
    """Serves each connection in a greenlet.

    On a signal to end it stops accepting, closes the connections that wait for another request, and finishes the
    requests in progress. A new connection has a moment more for its first request, since its client expects an answer.
    gunicorn's own would wait for idle connections, too, for all of `graceful_timeout`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._ending: Any = None
        self._waiting: set[Any] = set()

    def patch(self) -> None:
        """Make the listening sockets gevent's; replaces gunicorn's, which patches the standard library as well."""
        self.sockets: list[Any] = [
            socket.socket(listener.FAMILY, socket.SOCK_STREAM, fileno=listener.sock.detach())
            for listener in self.sockets
        ]

    def init_signals(self) -> None:
        """Set the handlers, once there is an event for them to set."""
        self._ending = Event()
        super().init_signals()

    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ANN401
        """End at the signal instead of the next heartbeat."""
        super().handle_exit(sig, frame)
        self._ending.set()

    def run(self) -> None:
        """Serve until a signal; then finish the requests in progress, for `graceful_timeout` at most."""
        servers = [
            _Server(listener, handle=partial(self.handle, _Named(listener)), spawn=Pool(self.worker_connections))
            for listener in self.sockets
        ]
        for server in servers:
            server.start()
        while self.alive:
            self.notify()
            self._ending.wait(_HEARTBEAT_SECONDS)
        for server in servers:
            server.close()
        for greenlet in self._waiting:
            if greenlet.has_asked:
                _end_reading(greenlet.client)
        deadline = monotonic() + self.cfg.graceful_timeout
        while any(server.pool for server in servers) and monotonic() < deadline:
            self.notify()
            gevent.wait([greenlet for server in servers for greenlet in server.pool], timeout=_HEARTBEAT_SECONDS)
            for greenlet in self._waiting:
                _end_reading(greenlet.client)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:  # noqa: ANN401
        """Serve a connection; its greenlet knows its socket, and whether a request has come."""
        greenlet = gevent.getcurrent()
        greenlet.client, greenlet.has_asked = client, False
        super().handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:  # noqa: ANN401
        """Answer a request: gunicorn's own without its hooks and its access log, with head and body in one send."""
        gevent.getcurrent().has_asked = True
        response, environ = wsgi.create(req, sock, addr, listener_name, self.cfg, response_class=_Response)
        environ["wsgi.multithread"] = True

        def start_response(*arguments: Any) -> Any:  # noqa: ANN401
            if not self.alive:
                response.force_close()
            return response.start_response(*arguments)

        try:
            body = self.wsgi(environ, start_response)
            try:
                sock.settimeout(SEND_SECONDS)
                for piece in body:
                    response.write(piece)
                response.close()
            finally:
                sock.settimeout(None)
                if hasattr(body, "close"):
                    body.close()
        except OSError:
            raise
        except Exception:
            if not response.headers_sent:
                raise  # gunicorn answers with 500
            self.log.exception("Error handling request")
            raise StopIteration from None  # the connection breaks: half an answer must not look whole
        if response.should_close():
            raise StopIteration

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ANN401
        """Answer what is no request; gunicorn's own answer is HTML."""
        is_ours = isinstance(exc, InvalidResponseHeader | InvalidResponseHeaderName)
        if is_ours or not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        self.log.info("not a request: %.200s", exc)
        with contextlib.suppress(OSError):
            client.sendall(answer_to_unreadable())

    def timeout_ctx(self) -> "_Waiting":
        """Return the time in which a connection waits for a request; at the end, none waits for another."""
        greenlet = gevent.getcurrent()
        if greenlet.has_asked and not self.alive:
            _end_reading(greenlet.client)
        return _Waiting(self._waiting, self.cfg.keepalive)


class _Server(StreamServer):  # type: ignore[misc]
    """Accepts connections one by one while it has few, since the other workers accept, too.

    When it has many it accepts several at once: each time it looks, it has served all of these before.
    """

    @property
    def max_accept(self) -> int:
        """How many are accepted at once."""
        return 1 + len(self.pool) // 4


class _Named:
    """The name of a listening socket, which connections still need when it is closed.

    Those that are accepted just before the signal are handled just after it.
    """

    def __init__(self, listener: Any) -> None:  # noqa: ANN401
        self._name = listener.getsockname()

    def getsockname(self) -> Any:  # noqa: ANN401
        """Return the name as it was while the socket was open."""
        return self._name


class _Waiting(gevent.Timeout):  # type: ignore[misc]
    """Ends quietly when the time is over; meanwhile the connection is among those that wait."""

    def __init__(self, waiting: set[Any], seconds: float) -> None:
        super().__init__(seconds, False)  # noqa: FBT003
        self._waiting = waiting

    def __enter__(self) -> Any:  # noqa: ANN401
        self._greenlet = gevent.getcurrent()
        self._waiting.add(self._greenlet)
        return super().__enter__()

    def __exit__(self, *exception: object) -> Any:  # noqa: ANN401
        self._waiting.remove(self._greenlet)
        return super().__exit__(*exception)


def _end_reading(client: Any) -> None:  # noqa: ANN401
    """Let a connection be read as far as requests have arrived, and no further.

    `shutdown` of gevent's socket would break off a greenlet's reading instead.
    """
    with contextlib.suppress(OSError), blocking_socket.socket(fileno=os.dup(client.fileno())) as same:
        same.shutdown(socket.SHUT_RD)


class _Response(wsgi.Response):  # type: ignore[misc]
    """Sends the head together with the beginning of the body: one call of the system instead of two."""

    sock: Any

    def write(self, arg: bytes) -> None:
        if self.headers_sent:
            super().write(arg)
            return
        connection: Any = self.sock
        self.sock = pieces = _Pieces()
        try:
            super().write(arg)
        finally:
            self.sock = connection
        connection.sendall(b"".join(pieces))


class _Pieces(list[bytes]):
    sendall = list.append
