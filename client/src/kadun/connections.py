"""The sockets under a request, for another thread to cut: nothing else ends a read from a server that drips."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast, final

from requests.adapters import HTTPAdapter

if TYPE_CHECKING:
    import requests
    import urllib3


@final
class Connections:
    """Those of one request: to the server, or to a proxy. May be cut from any thread, and more than once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: list[socket.socket] = []
        self._over = False
        self._opened = False

    @property
    def opened(self) -> bool:
        """Whether any came about."""
        return self._opened

    def keep(self, connection: socket.socket) -> None:
        """Remember one by a handle of our own: TLS takes the original away, and gives it back when it is too late.

        Raises:
            TimeoutError: it comes too late, all were cut.
        """
        with self._lock:
            self._opened = True
            if self._over:
                connection.close()
            self.check()
            self._handles.append(connection.dup())

    def check(self) -> None:
        """Go on only where nothing was cut.

        Raises:
            TimeoutError: it was.
        """
        if self._over:
            raise TimeoutError("given up")

    def cut(self) -> None:
        """End all of them, and each that is still to come; whoever reads from one wakes up."""
        with self._lock:
            self._over = True
            for handle in self._handles:
                with suppress(OSError):  # the other side was faster
                    handle.shutdown(socket.SHUT_RDWR)
                handle.close()
            self._handles.clear()


@final
class WatchedAdapter(HTTPAdapter):
    """How requests travel in a session, their sockets kept in `connections`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        super().__init__()

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        *arguments: Any,  # noqa: ANN401 - handed on as they come
        **settings: Any,  # noqa: ANN401
    ) -> urllib3.connectionpool.ConnectionPool:
        """The pool for a request, whose connections are watched."""
        pool: Any = super().get_connection_with_tls_context(request, *arguments, **settings)
        pool.ConnectionCls = _watched(pool.ConnectionCls, self._connections)
        return cast("urllib3.connectionpool.ConnectionPool", pool)


def _watched(kind: Any, connections: Connections) -> Any:  # noqa: ANN401 - urllib3's own, of four kinds
    def connected(self: Any) -> socket.socket:  # noqa: ANN401
        opened: socket.socket = kind._new_conn(self)  # noqa: SLF001 - urllib3's SOCKS connections do it here, too
        connections.keep(opened)
        return opened

    def tunnelled(self: Any) -> None:  # noqa: ANN401
        kind._tunnel(self)  # noqa: SLF001 - http.client's, by way of a proxy
        connections.check()  # where it was cut, http.client takes the proxy's headers to end

    return type("WatchedConnection", (kind,), {"_new_conn": connected, "_tunnel": tunnelled})
