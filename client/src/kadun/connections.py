"""The connections of requests: their sockets, which any thread may close, and the certificates that they trust."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.ssl_ import create_urllib3_context

_PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)  # ssl.VERIFY_X509_PARTIAL_CHAIN, which has its name since Python 3.10


class Connections:
    """The sockets of one request, to the server or a proxy. They may be closed from any thread, more than once."""

    def __init__(self) -> None:
        self.opened = False
        self.over = False
        self._lock = threading.Lock()
        self._handles: list[socket.socket] = []

    def keep(self, connection: socket.socket) -> socket.socket:
        """Register a socket by a duplicate: TLS detaches the original, and returns it only after the handshake."""
        with self._lock:
            self.opened = True
            if self.over:
                connection.close()
                raise TimeoutError("given up")
            self._handles.append(connection.dup())
            return connection

    def cut(self) -> None:
        """Close all sockets, and each that is registered later; a blocked read returns."""
        with self._lock:
            self.over = True
            for handle in self._handles:
                with suppress(OSError):  # closed by the other side
                    handle.shutdown(socket.SHUT_RDWR)
                handle.close()
            self._handles.clear()


class Adapter(HTTPAdapter):
    """Registers the sockets, and trusts files of certificates beside those that the request's `verify` names."""

    def __init__(self, connections: Connections, trusted: list[Path]) -> None:
        self._connections = connections
        self._trusted = trusted
        super().__init__()

    def get_connection_with_tls_context(self, *arguments: Any, **settings: Any) -> Any:  # noqa: ANN401 - passed on
        """Return urllib3's pool, made to register its sockets."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **settings)
        if self._trusted and pool.scheme == "https":
            pool.conn_kw["ssl_context"] = tls_context(self._trusted)
        kind, connections = pool.ConnectionCls, self._connections

        def connected(self: Any) -> socket.socket:  # noqa: ANN401 - of one of urllib3's four classes
            return connections.keep(kind._new_conn(self))  # noqa: SLF001 - urllib3's SOCKS connections override it, too

        def tunnelled(self: Any) -> None:  # noqa: ANN401
            kind._tunnel(self)  # noqa: SLF001 - http.client's, through a proxy
            if connections.over:  # http.client takes a closed socket for the end of the proxy's headers
                raise TimeoutError("given up")

        pool.ConnectionCls = type("WatchedConnection", (kind,), {"_new_conn": connected, "_tunnel": tunnelled})
        return pool


def certificate_files(ca_file: str | os.PathLike[str]) -> list[Path]:
    """Return the PEM files that `ca_file` names: itself, or those in a folder, `*.pem`."""
    path = Path(ca_file)
    files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"ca_file {ca_file} is a folder without a *.pem file")
    for file in files:
        if not file.exists():
            raise FileNotFoundError(f"ca_file {ca_file} does not exist")
        try:
            tls_context([file])
        except ssl.SSLError as error:
            raise ValueError(f"ca_file: {file} contains no certificate in PEM, or a damaged one") from error
    return files


def tls_context(files: list[Path]) -> ssl.SSLContext:
    """Return a TLS context that trusts the certificates in these files, each by itself."""
    made = create_urllib3_context()
    # Otherwise OpenSSL looks up a self-signed certificate by its subject, and of two with one subject trusts only one.
    made.verify_flags |= _PARTIAL_CHAIN
    for file in files:
        made.load_verify_locations(file)
    return made


def public_cas() -> str:
    """Return the file or folder of the CAs that requests trusts by default.

    With True in place of its path, some releases of requests make every connection of the process trust `ca_file`.
    """
    settings = requests.Session().merge_environment_settings("https://", {}, stream=True, verify=True, cert=None)
    return settings["verify"] if isinstance(settings["verify"], str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
