"""A real nginx on the project's own configuration, a plain client for it, and what can stand in for the app."""

import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

from tests.support.services.http_exchange import Response, exchange, quiet_port, read_response
from tests.support.services.pki import Issued
from tests.support.services.processes import children_of
from tests.support.services.relays import Quiet
from tests.support.services.service import wait_for
from trial.environment import CHECKOUT

HSTS = "max-age=63072000"
JSON = {"Content-Type": "application/json"}
DEFAULTS = {"KADUN_RATE": "1000", "KADUN_BURST": "1000"}
# Lets a test speak as any address. The project's own configuration never believes a header.
BELIEVE_TEST_ADDRESS = "set_real_ip_from 127.0.0.1; set_real_ip_from ::1; real_ip_header X-Test-Address;\n"
_MOVES = {"/etc/nginx": "etc", "/var/log/nginx": "log", "/var/cache/nginx": "cache", "/run/nginx.pid": "run/pid"}
_FOLDERS = ("etc/conf.d", "log", "run", "cache", "certificates", "acme/.well-known/acme-challenge")


class Gateway:
    """nginx in a folder of its own, with the project's configuration; only fixed paths are moved there."""

    host = "127.0.0.1"  # where it is reached
    prefix: tuple[str, ...] = ()  # of the command that starts it

    def __init__(
        self,
        folder: Path,
        app_socket: Path,
        *,
        believe_test_address: bool = False,
        ports: tuple[int, int] | None = None,
        **settings: str,
    ) -> None:
        """`settings` are the template's variables; a KADUN_HTTPS_PORT is spoken of, `ports` are what it listens on."""
        self.folder = folder
        self.log, self.acme, self.certificates = folder / "log", folder / "acme", folder / "certificates"
        self.http_port, self.https_port = ports or (quiet_port(), quiet_port())
        self._process: subprocess.Popen[bytes] | None = None
        variables = {
            "KADUN_HTTP_PORT": str(self.http_port),
            "KADUN_HTTPS_PORT": str(self.https_port),
            "KADUN_SOCKET": str(app_socket),
            "KADUN_FILES": str(app_socket.parent / "files"),
            **DEFAULTS,
            **settings,
        }
        write_configuration(folder, variables)
        site = folder / "etc/conf.d/kadun.conf"
        said = variables["KADUN_HTTPS_PORT"]
        site.write_text(re.sub(rf"(listen (?:\[::\]:)?){said} ssl", rf"\g<1>{self.https_port} ssl", site.read_text()))
        # As behind a certificate that is publicly trusted.
        (self.certificates / "hsts.conf").write_text(f'add_header Strict-Transport-Security "{HSTS}" always;\n')
        (folder / "etc/conf.d/test.conf").write_text(BELIEVE_TEST_ADDRESS if believe_test_address else "")

    def __enter__(self) -> Self:
        self._process = subprocess.Popen([*self.prefix, *command(self.folder)])
        wait_for(self._listens)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)

    def workers(self) -> list[int]:
        return children_of(self.pid)

    def held_bytes(self, folder: str) -> int:
        """What lies where bodies wait for their end, `body` or `console`: nginx's files there have no name."""
        total = 0
        for file in (file for worker in self.workers() for file in Path(f"/proc/{worker}/fd").iterdir()):
            with contextlib.suppress(FileNotFoundError):  # closed at this moment
                if str(file.readlink()).startswith(f"{self.folder}/cache/{folder}/"):
                    total += file.stat().st_size
        return total

    def memory_bytes(self) -> int:
        texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in (self.pid, *self.workers()))
        return sum(int(kib) for text in texts for kib in re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE)) * 1024

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.log / "error.log").read_text()
        try:
            socket.create_connection((self.host, self.https_port), timeout=1).close()
        except OSError:
            return False
        return True

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def context(self, *alpn: str) -> ssl.SSLContext:
        """A TLS context that trusts this gateway's certificate and nothing else."""
        context = ssl.create_default_context(cafile=self.certificates / "fullchain.pem")
        context.set_alpn_protocols([*alpn] or ["http/1.1"])
        return context

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        to: str = "127.0.0.1",
        source: str | None = None,
    ) -> Response:
        """One request over HTTPS, `source` being the client's own address."""
        here = (source, 0) if source else None
        connection = http.client.HTTPSConnection(
            to, self.https_port, context=self.context(), source_address=here, timeout=30
        )
        return exchange(connection, method, path, body, headers or {})

    def get_each(self, path: str, addresses: Iterable[str]) -> Iterator[Response]:
        """GET the path from each of the addresses, on one connection: even a busy machine sends many in a second."""
        connection = http.client.HTTPSConnection(self.host, self.https_port, context=self.context(), timeout=30)
        with contextlib.closing(connection):
            for address in addresses:
                yield exchange(connection, "GET", path, None, {"X-Test-Address": address}, keep=True)

    def ask_plain(self, path: str, headers: Mapping[str, str] | None = None, *, to: str = "127.0.0.1") -> Response:
        connection = http.client.HTTPConnection(to, self.http_port, timeout=30)
        return exchange(connection, "GET", path, None, headers or {})

    def connect(self, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED) -> ssl.SSLSocket:
        """A bare TLS connection, for bytes that no HTTP library would send."""
        plain = socket.create_connection(("127.0.0.1", self.https_port), timeout=30)
        context = self.context()
        context.maximum_version = newest
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def ask_raw(self, request: bytes) -> Response:
        with self.connect() as connection:
            connection.sendall(request)
            return read_response(connection)

    def access_log(self) -> list[dict[str, Any]]:
        # nginx writes bytes beyond ASCII as they came, and they need not be UTF-8.
        text = (self.log / "access.log").read_text("utf-8", "replace")
        return [json.loads(line) for line in text.split("\n")[:-1]]

    def logged(self, path: str) -> dict[str, Any]:
        """The access log's line for a path; nginx writes it after the answer."""
        line: dict[str, Any] = wait_for(
            lambda: next((line for line in self.access_log() if line["path"] == path), None)
        )
        return line


def until_refused(ask: Callable[[], Response]) -> list[Response]:
    """Ask until nginx answers 429, which takes the more requests the slower the machine is; return all answers."""
    answers: list[Response] = []
    while not answers or answers[-1].status != 429:
        assert len(answers) < 200, "the limit is not met"
        answers.append(ask())
    return answers


def write_configuration(folder: Path, settings: Mapping[str, str]) -> None:
    """Write the project's configuration to `etc`; only fixed paths change. A certificate is in `certificates`.

    Args:
        folder: Takes it all; must not be there.
        settings: The template's variables, save for those that name folders in `folder`.
    """
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True)
    issued = Issued.make("localhost", "127.0.0.1", "::1")
    (folder / "certificates/fullchain.pem").write_bytes(issued.pem)
    (folder / "certificates/privkey.pem").write_bytes(issued.key_bytes())
    values = {"KADUN_CERTIFICATES": f"{folder}/certificates", "KADUN_ACME_ROOT": f"{folder}/acme", **settings}
    etc = folder / "etc"
    shutil.copytree(CHECKOUT / "nginx/kadun", etc / "kadun")
    for file in (etc / "kadun").iterdir():
        _put(folder, file, file.read_text(encoding="utf-8"))
    user = "user root;" if os.geteuid() == 0 else ""
    _put(folder, etc / "nginx.conf", _source("nginx.conf").replace("user nginx;", user))
    site = re.sub(r"\$\{(KADUN_\w+)\}", lambda found: values[found[1]], _source("templates/kadun.conf.template"))
    _put(folder, etc / "conf.d/kadun.conf", site)
    for hook in ("35-older-nginx.sh", "40-networks.sh", "45-bucket.sh"):
        script = folder / "run" / hook
        _put(folder, script, _source(f"entrypoint/{hook}"))
        subprocess.run(["sh", script], check=True, env={"PATH": os.environ["PATH"], **values})


def command(folder: Path) -> list[str]:
    files = ["-p", str(folder), "-e", str(folder / "log/error.log"), "-c", str(folder / "etc/nginx.conf")]
    return ["nginx", *files, "-g", "daemon off;"]


def version() -> str:
    said = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr
    return said.strip().rpartition("/")[2]


def _source(name: str) -> str:
    return (CHECKOUT / "nginx" / name).read_text(encoding="utf-8")


def _put(folder: Path, file: Path, text: str) -> None:
    for fixed, own in _MOVES.items():
        text = text.replace(fixed, str(folder / own))
    file.write_text(text, encoding="utf-8")


STYLES = b"p { color: red }\n" * 1000
EXPORT_BYTES = 32 * 1024 * 1024  # more than all buffers of the two connections hold
_PIECE = 64 * 1024


class _Handler(Quiet, BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "ConsoleStandIn"

    def do_GET(self) -> None:
        if self.path.startswith("/admin/static/"):
            self._answer("text/css; charset=utf-8", STYLES)
        elif self.path == "/admin/session":
            self._answer("text/plain", b"", 204 if self.headers["Cookie"] else 401)
        elif self.path == "/admin/page":
            self._answer("text/html; charset=utf-8", b"<p>x" * 1000)
        elif self.path == "/admin/export":
            self._answer("text/csv; charset=utf-8", b"x" * EXPORT_BYTES)
        elif self.path.startswith("/v1/status/"):
            status = int(self.path.rpartition("/")[2])
            self._answer("application/json", json.dumps({"status": status}).encode(), status)
        else:
            self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        told = {"path": self.path, "body_bytes": len(body), "headers": {k.lower(): v for k, v in self.headers.items()}}
        self._answer("application/json", json.dumps(told).encode())

    def _answer(self, media_type: str, content: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Cookie-Seen", self.headers["Cookie"] or "none")
        self.send_header("X-Address-Seen", self.headers["X-Real-IP"])
        self.end_headers()
        for start in range(0, len(content), _PIECE):
            self.wfile.write(content[start : start + _PIECE])
            self.server.sent_bytes += _PIECE


class ConsoleStandIn(socketserver.ThreadingUnixStreamServer):
    """Serves on a unix socket while in use; `sent_bytes` have left it so far, in all its answers."""

    daemon_threads = True
    block_on_close = False  # nginx keeps its connections open
    sent_bytes = 0

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = path

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
