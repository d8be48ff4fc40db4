"""A certificate's life, for real: nginx in its container, certbot, and an ACME authority (pebble)."""
# Owns run-certificates.

import contextlib
import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import pytest

from tests.support.hosts.stack import Stack, run
from tests.support.licence.customers import Load
from tests.support.services.http_exchange import Response, exchange, quiet_port, read_response
from tests.support.services.pki import Issued
from tests.support.services.relays import Quiet, serving
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("serving")

NAMES = ("kadun.test", "www.kadun.test")
LOUD = "!!! 新证书未启用，原证书继续使用。The new certificate is NOT in use; the old one stays."
PAIR = ("fullchain.pem", "privkey.pem")


class Authority:
    """pebble, for which every name there is leads to 127.0.0.1, and which asks for challenges at `http_port`.

    Its certificates are issued by a root made at each start.
    """

    def __init__(self, folder: Path, http_port: int) -> None:
        self._folder, self._http_port = folder, http_port
        self._port, self._management_port, self._dns_port = quiet_port(), quiet_port(), quiet_port()
        self._processes: list[subprocess.Popen[bytes]] = []
        self.root = folder / "root.pem"
        self._endpoint = folder / "endpoint.pem"
        # Where certbot keeps its things, root's or not.
        self._folders = [
            word
            for kind in ("config", "work", "logs")
            for word in (f"--{kind}-dir", str(folder / "certbot's own" / kind))
        ]
        # As bare as cron's, but that the authority's endpoint is trusted, and the system trusts what it issues.
        self._environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "REQUESTS_CA_BUNDLE": str(self._endpoint),
            "SSL_CERT_FILE": str(self.root),
        }

    def __enter__(self) -> Self:
        own = Issued.make("localhost")
        self._endpoint.write_bytes(own.pem)
        self._endpoint.with_suffix(".key").write_bytes(own.key_bytes())
        nowhere = [word for service in ("http01", "https01", "tlsalpn01", "doh") for word in (f"-{service}", "")]
        dns = f"127.0.0.1:{self._dns_port}"
        self._start("pebble-challtestsrv", "-dns01", dns, "-management", "", "-defaultIPv6", "", *nowhere)
        settings = {
            "listenAddress": f"127.0.0.1:{self._port}",
            "managementListenAddress": f"127.0.0.1:{self._management_port}",
            "certificate": str(self._endpoint),
            "privateKey": str(self._endpoint.with_suffix(".key")),
            "httpPort": self._http_port,
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            "retryAfter": {"authz": 1, "order": 1},
            "certificateValidityPeriod": 90 * 86_400,
        }
        (self._folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
        self._start("pebble", "-config", str(self._folder / "pebble.json"), "-dnsserver", dns)
        self.root.write_bytes(wait_for(self._fetch_root))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.wait(60)

    def _start(self, *command: str) -> None:
        # Each validation is a real one, at once.
        settings = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_WFE_NONCEREJECT": "0"}
        with (self._folder / "pebble.log").open("ab") as log:
            self._processes.append(subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log))

    def _fetch_root(self) -> bytes:
        context = ssl.create_default_context(cafile=self._endpoint)
        connection = http.client.HTTPSConnection("localhost", self._management_port, context=context, timeout=5)
        with contextlib.suppress(OSError):
            return exchange(connection, "GET", "/roots/0", None, {}).body
        return b""

    def issue(self, stack: Stack, *arguments: str, certbot: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        options = (*arguments, "--", "--server", f"https://localhost:{self._port}/dir", *self._folders, *certbot)
        return run(stack.folder / "scripts/issue-certificate.sh", *options, env=self._environment, cwd="/")

    def renew(self) -> subprocess.CompletedProcess[str]:
        """What the distribution's timer runs, on the day that every certificate is due."""
        command = [shutil.which("certbot") or "certbot", "-q", "renew", "--force-renewal", "--no-random-sleep-on-renew"]
        return run(*command, *self._folders, env=self._environment, cwd="/")


class Webhook(Quiet, BaseHTTPRequestHandler):
    """Where a failure is told; keeps each JSON document that it is told."""

    told: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()


@dataclass(frozen=True)
class Site:
    """A stack, and what its customers see of it; what its first certificate of the authority's replaced."""

    stack: Stack
    authority: Authority
    before: dict[str, bytes] = field(default_factory=dict)
    said: str = ""
    settings: tuple[str, ...] = ()

    def served(self) -> str:
        """The certificate that is served, whoever trusts it."""
        return ssl.get_server_certificate(("127.0.0.1", self.stack.https_port))

    def placed(self) -> dict[str, bytes]:
        return {file.name: file.read_bytes() for file in (self.stack.folder / "https_certificates").iterdir()}

    def workers(self) -> set[int]:
        """nginx's processes, once the workers of a former configuration have ended; a reload starts new ones."""

        def found() -> set[int]:
            there = {pid for pid, status in self.stack.processes("nginx") if status["Name"] == "nginx"}
            try:
                titles = [Path(f"/proc/{pid}/cmdline").read_text() for pid in there]
            except OSError:  # one has ended meanwhile
                return set()
            return set() if any("shutting down" in title for title in titles) else there

        return wait_for(found)

    def log(self) -> list[str]:
        return (self.stack.folder / "data/certificates.log").read_text().splitlines()

    def ask(self, name: str = NAMES[0]) -> tuple[str, Response]:
        """One GET over a TLS connection of its own; returns the certificate's serial too."""
        context = ssl.create_default_context(cafile=self.authority.root)
        with (
            socket.create_connection(("127.0.0.1", self.stack.https_port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            connection.sendall(f"GET /readyz HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            answer = read_response(connection)
            shown = connection.getpeercert()
            assert shown
            return str(shown["serialNumber"]), answer

    def serial(self, name: str = NAMES[0]) -> str:
        """Return the serial number of the authority's certificate for this name; "" where another one is shown."""
        with contextlib.suppress(OSError):
            return self.ask(name)[0]
        return ""


@pytest.fixture(scope="module")
def issued(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A certificate of the authority's for two names takes the self-signed one's place, which is back at the end."""
    dotenv, folder = stack.folder / ".env", stack.folder / "https_certificates"
    settings = dotenv.read_text()
    with Authority(tmp_path_factory.mktemp("machine"), stack.http_port) as authority:
        site = Site(stack, authority)
        before = site.placed()
        try:
            said = authority.issue(stack, *NAMES).stdout
            written = dotenv.read_text()
            dotenv.write_text(settings)
            yield Site(stack, authority, before, said, tuple(written.splitlines()))
        finally:
            for name in site.placed().keys() - before:
                (folder / name).unlink()
            for name, content in before.items():
                (folder / name).write_bytes(content)
            (stack.folder / "data/certificates.log").unlink(missing_ok=True)
            stack.reload_nginx()


@pytest.fixture
def site(issued: Site) -> Site:
    """The site with a certificate of the authority's, whatever the test before has left."""
    if not issued.serial():
        issued.authority.renew()
        wait_for(issued.serial)
    return issued


def test_a_certificate_for_two_names_takes_the_self_signed_ones_place(site: Site) -> None:
    now = site.placed()
    assert {name: now[f"self-signed-{name}"] for name in PAIR} == {name: site.before[name] for name in PAIR}
    assert "certbot's timer renews it, and each renewal is installed automatically" in site.said
    assert f"KADUN_DOMAIN={' '.join(NAMES)}" in site.settings
    for name in NAMES:
        _, answer = site.ask(name)
        assert answer.json() == {"status": "ready"}
        assert answer.headers["strict-transport-security"] == "max-age=63072000"
    modes = [(site.stack.folder / "https_certificates" / name).stat().st_mode & 0o777 for name in PAIR]
    assert modes == [0o644, 0o600]
    assert " OK serial=" in site.log()[0]


def test_a_renewal_under_load_fails_no_request(site: Site) -> None:
    old, _ = site.ask()
    served: Counter[str] = Counter()  # how often each certificate was shown, by its serial

    def request() -> None:
        serial, answer = site.ask()
        served[serial] += 1
        assert answer.status == 200, answer

    def is_past(new: str) -> bool:
        """Whether 200 connections in a row were all shown the new certificate."""
        before, shown = served[old], served[new]
        wait_for(lambda: served[new] >= shown + 200)
        return served[old] == before

    with Load(request, threads=4, pause_seconds=0) as load:
        wait_for(lambda: served[old] >= 100)
        site.authority.renew()
        new = wait_for(lambda: next((serial for serial in [*served] if serial != old), ""))
        # For some 100 ms the workers of both answer; from then on no connection meets the old certificate any more.
        wait_for(lambda: is_past(new))
    assert load.failures == []
    assert served.keys() == {old, new}
    assert f" OK serial={new} " in site.log()[-1]


def test_a_deployment_that_is_interrupted_puts_the_old_pair_back(site: Site, tmp_path: Path) -> None:
    settings, served, before = site.stack.folder / ".env", site.served(), site.placed()
    text, new = settings.read_text(), Issued.make(*NAMES)
    (tmp_path / "chain").write_bytes(new.pem)
    (tmp_path / "key").write_bytes(new.key_bytes())
    try:
        # It looks for the new certificate where nobody serves it, and so waits.
        settings.write_text(f"{text}KADUN_HTTPS_PORT={site.stack.http_port}\n")
        command = (site.stack.folder / "scripts/deploy-certificate.sh", "chain", "key", "--domain", NAMES[0])
        deployment = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: site.served().encode() == new.pem)
        deployment.terminate()
        assert LOUD in deployment.communicate(timeout=60)[1]
        assert deployment.returncode == 130
    finally:
        settings.write_text(text)
    assert site.placed() == before
    assert " FAILED 被中断或出错 interrupted or failed (status 130)" in site.log()[-1]
    # Workers of both configurations answer for a while.
    wait_for(lambda: {site.served() for _ in range(50)} == {served})


def test_a_broken_nginx_configuration_is_never_reloaded(site: Site) -> None:
    settings, served, before = site.stack.folder / ".env", site.served(), site.placed()
    text, workers = settings.read_text(), site.workers()
    broken = site.stack.folder / "nginx/kadun/server.conf"
    whole, complaint = broken.read_text(), 'unknown directive "no_such_directive" in /etc/nginx/kadun/server.conf'
    try:
        broken.write_text(whole + "no_such_directive on;\n")
        Webhook.told = []
        webhook = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
        with serving(webhook):
            settings.write_text(f"{text}KADUN_BACKUP_WEBHOOK=http://127.0.0.1:{webhook.server_port}/\n")
            assert site.authority.renew().stderr == "", "certbot hides what a hook says, and its end; hence the webhook"
        (told,) = Webhook.told
        assert (told["event"], complaint in told["message"]) == ("certificate", True)
        assert (site.served(), site.placed(), site.workers()) == (served, before, workers)
        assert " FAILED " in site.log()[-1]
        assert complaint in site.log()[-1]
        broken.write_text(whole)
        site.authority.issue(site.stack, *NAMES)  # nothing is due; what the hook could not deploy is deployed now
        assert site.served() != served
    finally:
        settings.write_text(text)
        broken.write_text(whole)
    assert site.ask()[1].status == 200


@pytest.mark.nightly
def test_before_the_first_start_certbot_listens_itself_and_then_renews_through_nginx(
    tmp_path: Path, app_image: str
) -> None:
    name = "neighbour.test"
    with Stack(tmp_path / "另一 stack's", app_image) as stack, Authority(tmp_path, stack.http_port) as authority:
        stack.init_anew()
        port = ("--http-01-port", str(stack.http_port), "--email", f"vendor@{name}")
        assert "placed; nginx is not running" in authority.issue(stack, name, "--standalone", certbot=port).stdout
        stack.compose("up", "--detach", "--no-deps", "nginx")  # no app, so that it answers 503
        site = Site(stack, authority)
        standalone = wait_for(lambda: site.serial(name))
        authority.renew()
        wait_for(lambda: site.serial(name) not in ("", standalone))
