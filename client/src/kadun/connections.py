"""The sockets of a request, which another thread can close: nothing else ends a read that receives byte by byte."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast, final

from requests.adapters import HTTPAdapter

from kadun import certificates

if TYPE_CHECKING:
    import requests
    import urllib3


@final
class Connections:
    """The sockets of one request, to the server or a proxy. They may be closed from any thread, more than once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: list[socket.socket] = []
        self._over = False
        self._opened = False

    @property
    def opened(self) -> bool:
        """Whether any connection was established."""
        return self._opened

    def keep(self, connection: socket.socket) -> None:
        """Register a socket by a duplicate: TLS detaches the original, and returns it only after the handshake.

        Raises:
            TimeoutError: the request was given up already.
        """
        with self._lock:
            self._opened = True
            if self._over:
                connection.close()
            self.check()
            self._handles.append(connection.dup())

    def check(self) -> None:
        """Check that the request was not given up.

        Raises:
            TimeoutError: it was given up.
        """
        if self._over:
            raise TimeoutError("given up")

    def cut(self) -> None:
        """Close all sockets, and each that is registered later; a blocked read returns."""
        with self._lock:
            self._over = True
            for handle in self._handles:
                with suppress(OSError):  # closed by the other side
                    handle.shutdown(socket.SHUT_RDWR)
                handle.close()
            self._handles.clear()


@final
class WatchedAdapter(HTTPAdapter):
    """A transport adapter of requests that registers its sockets in `connections`.

    It also trusts the certificates `trusted`, in PEM, beside those in the file that the request's `verify` names.
    """

    def __init__(self, connections: Connections, trusted: str | None = None) -> None:
        self._connections = connections
        self._trusted = trusted
        super().__init__()

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        *arguments: Any,  # noqa: ANN401 - passed on unchanged
        **settings: Any,  # noqa: ANN401
    ) -> urllib3.connectionpool.ConnectionPool:
        """Return the pool for a request, with connections that register their sockets."""
        pool: Any = super().get_connection_with_tls_context(request, *arguments, **settings)
        if self._trusted is not None and pool.scheme == "https":
            pool.conn_kw["ssl_context"] = certificates.context(self._trusted)
        pool.ConnectionCls = _watched(pool.ConnectionCls, self._connections)
        return cast("urllib3.connectionpool.ConnectionPool", pool)


def _watched(kind: Any, connections: Connections) -> Any:  # noqa: ANN401 - one of urllib3's four classes
    def connected(self: Any) -> socket.socket:  # noqa: ANN401
        opened: socket.socket = kind._new_conn(self)  # noqa: SLF001 - urllib3's SOCKS connections override it, too
        connections.keep(opened)
        return opened

    def tunnelled(self: Any) -> None:  # noqa: ANN401
        kind._tunnel(self)  # noqa: SLF001 - http.client's, through a proxy
        connections.check()  # http.client takes a closed socket for the end of the proxy's headers

    return type("WatchedConnection", (kind,), {"_new_conn": connected, "_tunnel": tunnelled})
