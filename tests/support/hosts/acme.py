"""A real ACME authority (Debian's pebble), and certbot as its client."""

import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.support.hosts.stack import run
from tests.support.services.http_exchange import exchange, quiet_port
from tests.support.services.pki import Issued
from tests.support.services.service import wait_for


class Authority:
    """pebble, for which every name there is leads to 127.0.0.1, and which asks for challenges at `http_port`.

    Its certificates are issued by a root made at each start. Authorities that share a folder share certbot's state.
    """

    def __init__(self, folder: Path, http_port: int) -> None:
        self._folder, self._http_port = folder, http_port
        self._port, self._management_port = quiet_port(), quiet_port()
        self._dns_port, self._dns_management_port = quiet_port(), quiet_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = f"https://localhost:{self._port}/dir"
        self.blocked = "blocked.test"  # a name for which it issues nothing
        self.root = folder / f"root-{http_port}.pem"
        self._endpoint = folder / "endpoint.pem"
        # Where certbot keeps its things, root's or not.
        self.folders = [
            word
            for kind in ("config", "work", "logs")
            for word in (f"--{kind}-dir", str(folder / "certbot's own" / kind))
        ]

    def __enter__(self) -> Self:
        if not self._endpoint.exists():
            own = Issued.make("localhost")
            self._endpoint.write_bytes(own.pem)
            self._endpoint.with_suffix(".key").write_bytes(own.key_bytes())
        nowhere = ["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-defaultIPv6", ""]
        here = ["-dns01", f"127.0.0.1:{self._dns_port}", "-management", f"127.0.0.1:{self._dns_management_port}"]
        self._start("pebble-challtestsrv", *here, *nowhere)
        configuration = self._folder / f"pebble-{self._http_port}.json"
        configuration.write_text(json.dumps({"pebble": self._settings()}))
        self._start("pebble", "-config", str(configuration), "-dnsserver", f"127.0.0.1:{self._dns_port}")
        self.root.write_bytes(wait_for(self._fetch_root))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(60)

    def _settings(self) -> dict[str, Any]:
        return {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management_port}",
            "certificate": str(self._endpoint),
            "privateKey": str(self._endpoint.with_suffix(".key")),
            "httpPort": self._http_port,
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "domainBlocklist": [self.blocked],
            "retryAfter": {"authz": 1, "order": 1},
            "certificateValidityPeriod": 90 * 86_400,
        }

    def _start(self, *command: str) -> None:
        # Each validation is a real one, at once.
        settings = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "0"}
        with (self._folder / f"pebble-{self._http_port}.log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log))

    def _fetch_root(self) -> bytes:
        context = ssl.create_default_context(cafile=self._endpoint)
        connection = http.client.HTTPSConnection("localhost", self._management_port, context=context, timeout=5)
        with contextlib.suppress(OSError):
            return exchange(connection, "GET", "/roots/0", None, {}).body
        return b""

    @property
    def environment(self) -> dict[str, str]:
        """As bare as cron's, but that the authority's endpoint is trusted, and the system trusts what it issues."""
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "REQUESTS_CA_BUNDLE": str(self._endpoint),
            "SSL_CERT_FILE": str(self.root),
        }

    @property
    def dns_hook(self) -> Path:
        """A hook for `certbot --manual` that sets the TXT record, as a script for any DNS provider would."""
        hook = self._folder / f"set-txt-{self._http_port}"
        record = '{\\"host\\": \\"_acme-challenge.$CERTBOT_DOMAIN.\\", \\"value\\": \\"$CERTBOT_VALIDATION\\"}'
        url = f"http://127.0.0.1:{self._dns_management_port}/set-txt"
        hook.write_text(f'#!/bin/sh\ncurl --silent --fail --noproxy "*" --data "{record}" {url}\n')
        hook.chmod(0o755)
        return hook

    def issue(
        self, checkout: Path, *arguments: str, certbot: tuple[str, ...] = (), check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        options = (*arguments, "--", "--server", self.url, *self.folders, *certbot)
        return run(checkout / "scripts/issue-certificate.sh", *options, check=check, env=self.environment, cwd="/")

    def renew(self) -> subprocess.CompletedProcess[str]:
        """What the distribution's timer runs, on the day that every certificate is due."""
        command = [shutil.which("certbot") or "certbot", "-q", "renew", "--force-renewal", "--no-random-sleep-on-renew"]
        return run(*command, *self.folders, env=self.environment, cwd="/")
