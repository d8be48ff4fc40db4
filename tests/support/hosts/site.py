"""A stack as its customers see it, customers who ask all the while, and the webhook that a vendor is told by."""

import json
import socket
import ssl
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.support.hosts.stack import Stack, run
from tests.support.services.bucket_host import Quiet
from tests.support.services.http_exchange import Response, read_response
from tests.support.services.pki import Issued
from tests.support.services.service import wait_for


@dataclass(frozen=True)
class Site:
    """A stack, and what its customers see of it."""

    stack: Stack

    @property
    def folder(self) -> Path:
        return self.stack.folder / "https_certificates"

    def served(self) -> str:
        """The certificate that is served, whoever trusts it."""
        return ssl.get_server_certificate(("127.0.0.1", self.stack.https_port))

    def placed(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in self.folder.iterdir()}

    def workers(self) -> set[int]:
        """nginx's processes, once the workers of a former configuration have ended; a reload starts new ones."""
        found: set[int] = wait_for(self._workers)
        return found

    def _workers(self) -> set[int]:
        found = {pid for pid, status in self.stack.processes("nginx") if status["Name"] == "nginx"}
        try:
            titles = [Path(f"/proc/{pid}/cmdline").read_text() for pid in found]
        except OSError:  # one has ended meanwhile
            return set()
        return set() if any("shutting down" in title for title in titles) else found

    def log(self) -> list[str]:
        return (self.stack.folder / "data/certificates.log").read_text().splitlines()

    def deploy(self, pair: Issued, folder: Path, *options: str) -> None:
        """Run scripts/deploy-certificate.sh by hand."""
        (folder / "chain.pem").write_bytes(pair.pem)
        (folder / "key.pem").write_bytes(pair.key_bytes())
        run(self.stack.folder / "scripts/deploy-certificate.sh", "chain.pem", "key.pem", *options, cwd=folder)


def ask(port: int, name: str, ca_file: Path, path: str = "/readyz") -> tuple[str, Response]:
    """One GET over a TLS connection of its own; returns the certificate's serial too."""
    context = ssl.create_default_context(cafile=ca_file)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=name) as connection,
    ):
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = read_response(connection)
        shown = connection.getpeercert()
        assert shown
        return str(shown["serialNumber"]), answer


class _Handler(Quiet, BaseHTTPRequestHandler):
    server: "Webhook"

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()


class Webhook(ThreadingHTTPServer):
    """Where a failure is told; keeps each JSON document that it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.told: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
