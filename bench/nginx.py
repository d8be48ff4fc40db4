"""nginx on the stack's own configuration, and beside the way in to the service a plain file server."""

import http.client
import os
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Self

from bench import http_requests
from bench.errors import BenchError
from bench.fixed_rate import Target
from tests.support import nginx_conf
from trial.child import Child
from trial.errors import tail
from trial.ports import LOOPBACK, free_port

_NO_LIMIT = {"KADUN_RATE": "10000", "KADUN_BURST": "10000"}
_READY_SECONDS, _STOP_SECONDS, _POLL_SECONDS = 20, 20, 0.1

# The same TLS, limits of time and log as the project's own server has; nothing before the answers and files.
_STATIC = """
log_format resumption "$ssl_session_reused";
server {{
    listen {port} ssl;
    ssl_certificate {folder}/certificates/fullchain.pem;
    ssl_certificate_key {folder}/certificates/privkey.pem;
    include {folder}/etc/kadun/tls.conf;
    include {folder}/etc/kadun/server.conf;
    root {files};
    location = /static-answer {{
        return 200 "{{}}";
    }}
    location = /resumption {{
        access_log {folder}/log/resumption.log resumption;
        return 200 "{{}}";
    }}
}}
"""
_RESUMES = "ssl_session_cache shared:kadun_tls:4m;"
_RESUMES_NOTHING = "ssl_session_cache off;\nssl_session_tickets off;"


class Nginx:
    """An nginx in a folder of its own, on free ports.

    Args:
        folder: Takes all that is made; must not be there.
        app: The service's unix socket.
        files: The service's folder of files, served by `static` too.
        resumes: Whether it resumes TLS sessions, as the stack's does.
    """

    def __init__(self, folder: Path, app: Path, files: Path, *, resumes: bool = True) -> None:
        self.port, self.static_port = free_port(), free_port()
        self._folder = folder
        settings = _NO_LIMIT | {
            "KADUN_HTTP_PORT": str(free_port()),
            "KADUN_HTTPS_PORT": str(self.port),
            "KADUN_SOCKET": str(app),
            "KADUN_FILES": str(files),
        }
        nginx_conf.write(folder, settings)
        static = _STATIC.format(port=self.static_port, folder=folder, files=files)
        (folder / "etc/conf.d/static.conf").write_text(static)
        if not resumes:
            tls = folder / "etc/kadun/tls.conf"
            tls.write_text(tls.read_text().replace(_RESUMES, _RESUMES_NOTHING))
        self._child = Child(nginx_conf.command(folder), os.environ, folder / "log/nginx.log", signal.SIGTERM)

    @property
    def certificate(self) -> Path:
        """What its clients are to trust."""
        return self._folder / "certificates/fullchain.pem"

    @property
    def url(self) -> str:
        """The way in to the service."""
        return f"https://{LOOPBACK}:{self.port}"

    @property
    def static_url(self) -> str:
        """The way in to the plain files, and to `/static-answer` and `/resumption`."""
        return f"https://{LOOPBACK}:{self.static_port}"

    def resumed(self) -> list[bool]:
        """Return of each connection that asked for `/resumption` whether it resumed a TLS session."""
        return [line == "r" for line in (self._folder / "log/resumption.log").read_text().splitlines()]

    def __enter__(self) -> Self:
        self._child.start()
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._child.stop()

    def target(self, source: str) -> Target:
        """Return where `fixed_rate` finds the service, from this address."""
        return Target(LOOPBACK, self.port, str(self.certificate), source)

    def connect(self, source: str) -> http.client.HTTPSConnection:
        """Return a connection to the service from this address, to be closed by the caller."""
        context = ssl.create_default_context(cafile=self.certificate)
        return http.client.HTTPSConnection(
            LOOPBACK, self.port, context=context, source_address=(source, 0), timeout=http_requests.SECONDS
        )

    def _wait(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not self._listens():
            if time.monotonic() > deadline or self._child.pid is None:
                said = tail((self._folder / "log/error.log").read_text(errors="replace"), lines=1)
                raise BenchError(f"nginx does not start: {said}")
            time.sleep(_POLL_SECONDS)

    def _listens(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.static_port), timeout=1).close()
        except OSError:
            return False
        return True
