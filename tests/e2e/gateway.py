"""A real nginx on the project's own configuration, for tests."""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"KADUN_HSTS": "max-age=63072000", "KADUN_RATE": "1000", "KADUN_BURST": "1000"}
# Lets a test speak as any address. The project's own configuration never believes a header.
BELIEVE_TEST_ADDRESS = "set_real_ip_from 127.0.0.1; real_ip_header X-Test-Address;\n"


def free_port() -> int:
    """A TCP port that nothing listens on, on either family."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        return int(listener.getsockname()[1])


def self_signed(folder: Path) -> None:
    """Puts fullchain.pem and privkey.pem for localhost into a folder."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1",
         "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
        check=True,
        capture_output=True,
    )  # fmt: skip


class Gateway:
    """nginx in a folder of its own; its configuration is the project's, with only the fixed paths moved there."""

    def __init__(self, folder: Path, app_socket: Path, *, believe_test_address: bool = False, **settings: str) -> None:
        self.folder = folder
        self.http_port, self.https_port = free_port(), free_port()
        self.acme = folder / "acme"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = SETTINGS | settings | {
            "KADUN_HTTP_PORT": str(self.http_port),
            "KADUN_HTTPS_PORT": str(self.https_port),
            "KADUN_CERTIFICATES": str(folder / "certificates"),
            "KADUN_ACME_ROOT": str(self.acme),
            "KADUN_SOCKET": str(app_socket),
        }  # fmt: skip
        self._write_configuration(BELIEVE_TEST_ADDRESS if believe_test_address else "")

    def _write_configuration(self, extra: str) -> None:
        for name in ("etc/conf.d", "log", "run", "cache", "certificates", "acme/.well-known/acme-challenge"):
            (self.folder / name).mkdir(parents=True)
        self_signed(self.folder / "certificates")
        etc = self.folder / "etc"
        shutil.copytree(ROOT / "nginx/kadun", etc / "kadun")
        for file in (etc / "kadun").iterdir():
            file.write_text(self._moved(file.read_text()))
        main = (ROOT / "nginx/nginx.conf").read_text()
        user = "user root;" if os.geteuid() == 0 else ""
        (etc / "nginx.conf").write_text(self._moved(main.replace("user nginx;", user)))
        template = (ROOT / "nginx/templates/kadun.conf.template").read_text()
        rendered = re.sub(r"\$\{(KADUN_\w+)\}", lambda match: self._settings[match[1]], template)
        (etc / "conf.d/kadun.conf").write_text(self._moved(_for_this_nginx(rendered)))
        (etc / "conf.d/test.conf").write_text(extra)

    def _moved(self, text: str) -> str:
        moves = {"/etc/nginx": "etc", "/var/log/nginx": "log", "/var/cache/nginx": "cache", "/run/nginx.pid": "run/pid"}
        for fixed, own in moves.items():
            text = text.replace(fixed, str(self.folder / own))
        return text

    def start(self) -> Self:
        """Starts nginx and waits until it accepts connections."""
        command = ["nginx", "-p", self.folder, "-e", self.folder / "log/error.log", "-c", self.folder / "etc/nginx.conf"]
        self._process = subprocess.Popen([*command, "-g", "daemon off;"])
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.https_port), timeout=1).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log/error.log").read_text()) from None
                time.sleep(0.02)
            else:
                return self

    def stop(self) -> None:
        """Ends nginx, its workers included."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)

    def context(self, *, alpn: str = "http/1.1") -> ssl.SSLContext:
        """A TLS context that trusts this gateway's certificate and nothing else."""
        context = ssl.create_default_context(cafile=self.folder / "certificates/fullchain.pem")
        context.set_alpn_protocols([alpn])
        return context

    def access_log(self) -> list[dict[str, Any]]:
        """The lines of the access log so far."""
        return [json.loads(line) for line in (self.folder / "log/access.log").read_text().splitlines()]


def _for_this_nginx(text: str) -> str:
    """`http2 on` came with nginx 1.25.1; a distribution's older one says the same on the listen lines."""
    version = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr
    number = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", version)
    assert number, version
    if tuple(map(int, number.groups())) >= (1, 25, 1):
        return text
    return text.replace("http2 on;", "").replace(" ssl default_server;", " ssl http2 default_server;")
