"""A certificate's life, for real: nginx in its container, certbot, and an ACME authority (pebble)."""
# Owns run-certificates.

import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.doctor import reload_nginx
from tests.support.hosts.acme import Authority
from tests.support.hosts.site import Site, Webhook, ask
from tests.support.hosts.ssh import SshServer, ssh_server
from tests.support.hosts.stack import Stack
from tests.support.licence.customers import Load
from tests.support.services.pki import Issued
from tests.support.services.service import wait_for

pytestmark = pytest.mark.xdist_group("serving")

NAMES = ("kadun.test", "www.kadun.test")
HSTS = "strict-transport-security"
LOUD = "!!! 新证书未启用，原证书继续使用。The new certificate is NOT in use; the old one stays."
PAIR = ("fullchain.pem", "privkey.pem")


@dataclass(frozen=True)
class FirstIssue:
    """What the first issue said, and what it left."""

    before: dict[str, bytes]
    after: dict[str, bytes]
    said: str
    settings: list[str]


@pytest.fixture(scope="module")
def site(stack: Stack) -> Iterator[Site]:
    """The stack, which has its own certificate again at the end."""
    site = Site(stack)
    placed = site.placed()
    yield site
    for file in site.folder.iterdir():
        if file.name not in placed:
            file.unlink()
    for name, content in placed.items():
        (site.folder / name).write_bytes(content)
    (stack.folder / "data/certificates.log").unlink(missing_ok=True)
    reload_nginx(stack)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Iterator[Authority]:
    with Authority(tmp_path_factory.mktemp("machine"), site.stack.http_port) as running:
        yield running


@pytest.fixture(scope="module")
def issued(site: Site, authority: Authority) -> FirstIssue:
    """A certificate of the authority's for two names takes the self-signed one's place."""
    dotenv, before = site.stack.folder / ".env", site.placed()
    settings = dotenv.read_text()
    said = authority.issue(site.stack.folder, *NAMES).stdout
    written = dotenv.read_text()
    dotenv.write_text(settings)
    return FirstIssue(before, site.placed(), said, written.splitlines())


@pytest.fixture
def in_use(site: Site, authority: Authority, issued: FirstIssue) -> Site:
    """The site with a certificate of the authority's, whatever the test before has left."""
    if not serial_at(site.stack, NAMES[0], authority):
        authority.renew()
        wait_for(lambda: serial_at(site.stack, NAMES[0], authority))
    return site


def serial_at(stack: Stack, name: str, authority: Authority) -> str:
    """Return the serial number of the authority's certificate for this name; "" where another one is shown."""
    try:
        return ask(stack.https_port, name, authority.root)[0]
    except OSError:
        return ""


def test_a_certificate_for_two_names_takes_the_self_signed_ones_place(
    in_use: Site, authority: Authority, issued: FirstIssue
) -> None:
    assert {name: issued.after[f"self-signed-{name}"] for name in PAIR} == {name: issued.before[name] for name in PAIR}
    assert "certbot's timer renews it, and each renewal is installed automatically" in issued.said
    assert f"KADUN_DOMAIN={' '.join(NAMES)}" in issued.settings
    for name in NAMES:
        _, answer = ask(in_use.stack.https_port, name, authority.root)
        assert answer.json() == {"status": "ready"}
        assert answer.headers[HSTS] == "max-age=63072000"
    assert [(in_use.folder / name).stat().st_mode & 0o777 for name in PAIR] == [0o644, 0o600]
    log = in_use.log()
    assert " OK serial=" in log[0]


def test_a_renewal_under_load_fails_no_request(in_use: Site, authority: Authority) -> None:
    port = in_use.stack.https_port
    old, _ = ask(port, NAMES[0], authority.root)
    served: Counter[str] = Counter()  # how often each certificate was shown, by its serial

    def request() -> None:
        serial, answer = ask(port, NAMES[0], authority.root)
        served[serial] += 1
        assert answer.status == 200, answer

    with Load(request, threads=4, pause_seconds=0) as load:
        wait_for(lambda: served[old] >= 100)
        authority.renew()
        new = wait_for(lambda: next((serial for serial in [*served] if serial != old), ""))
        # For some 100 ms the workers of both answer; from then on no connection meets the old certificate any more.
        wait_for(lambda: is_past(served, old, new))
    assert load.failures == []
    assert served.keys() == {old, new}
    assert f" OK serial={new} " in in_use.log()[-1]


def is_past(served: Counter[str], old: str, new: str) -> bool:
    """Whether 200 connections in a row were all shown the new certificate."""
    before, shown = served[old], served[new]
    wait_for(lambda: served[new] >= shown + 200)
    return served[old] == before


def test_a_deployment_that_is_interrupted_puts_the_old_pair_back(in_use: Site, tmp_path: Path) -> None:
    settings, served, placed = in_use.stack.folder / ".env", in_use.served(), in_use.placed()
    text, new = settings.read_text(), Issued.make(*NAMES)
    (tmp_path / "chain").write_bytes(new.pem)
    (tmp_path / "key").write_bytes(new.key_bytes())
    try:
        # It looks for the new certificate where nobody serves it, and so waits.
        settings.write_text(f"{text}KADUN_HTTPS_PORT={in_use.stack.http_port}\n")
        command = (in_use.stack.folder / "scripts/deploy-certificate.sh", "chain", "key", "--domain", NAMES[0])
        deployment = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: in_use.served().encode() == new.pem)
        deployment.terminate()
        assert LOUD in deployment.communicate(timeout=60)[1]
        assert deployment.returncode == 130
    finally:
        settings.write_text(text)
    assert in_use.placed() == placed
    assert " FAILED 被中断或出错 interrupted or failed (status 130)" in in_use.log()[-1]
    # Workers of both configurations answer for a while.
    wait_for(lambda: {in_use.served() for _ in range(50)} == {served})


def test_a_broken_nginx_configuration_is_never_reloaded(in_use: Site, authority: Authority) -> None:
    settings, served, placed = in_use.stack.folder / ".env", in_use.served(), in_use.placed()
    before, workers = settings.read_text(), in_use.workers()
    broken = in_use.stack.folder / "nginx/kadun/server.conf"
    whole = broken.read_text()
    try:
        broken.write_text(whole + "no_such_directive on;\n")
        with Webhook() as webhook:
            settings.write_text(f"{before}KADUN_BACKUP_WEBHOOK={webhook.url}\n")
            assert authority.renew().stderr == "", "certbot hides what a hook says, and its end; hence the webhook"
        complaint = 'unknown directive "no_such_directive" in /etc/nginx/kadun/server.conf'
        assert complaint in webhook.told[0]["message"]
        assert webhook.told[0]["event"] == "certificate"
        assert (in_use.served(), in_use.placed()) == (served, placed)
        assert in_use.workers() == workers
        assert " FAILED " in in_use.log()[-1]
        assert complaint in in_use.log()[-1]
        broken.write_text(whole)
        authority.issue(in_use.stack.folder, *NAMES)  # nothing is due; what the hook could not deploy is deployed now
        assert in_use.served() != served
    finally:
        settings.write_text(before)
        broken.write_text(whole)
    assert ask(in_use.stack.https_port, NAMES[0], authority.root)[1].status == 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def test_the_machine_that_renews_sends_it_to_another_over_ssh(site: Site, server: SshServer, tmp_path: Path) -> None:
    """The stack renews; the other machine is a checkout beside it."""
    second, pair = Stack(tmp_path / "second's"), Issued.make(*NAMES)
    second.init_anew(*NAMES)
    before = {name: (site.folder / name).read_bytes() for name in PAIR}
    try:
        site.deploy(pair, tmp_path, "--domain", NAMES[0], "--to", f"root@127.0.0.1:{second.folder}", *server.options())
        assert site.served().encode() == pair.pem
        there = second.folder / "https_certificates"
        assert (there / "fullchain.pem").read_bytes() == pair.pem
        assert (there / "privkey.pem").read_bytes() == pair.key_bytes()
        assert (there / "privkey.pem").stat().st_mode & 0o777 == 0o600
        assert not list((second.folder / "data").glob(".certificate.*"))
    finally:
        for name, content in before.items():
            (site.folder / name).write_bytes(content)
        reload_nginx(site.stack)


@pytest.mark.nightly
def test_a_dry_run_and_what_the_authority_refuses_change_nothing(in_use: Site, authority: Authority) -> None:
    served, placed = in_use.served(), in_use.placed()
    done = authority.issue(in_use.stack.folder, *NAMES, "--dry-run")
    assert "The dry run was successful." in done.stdout
    assert "It works: nothing was changed" in done.stdout
    refused = authority.issue(in_use.stack.folder, authority.blocked, check=False)
    assert refused.returncode == 1
    assert "No certificate was issued; the old one stays in use. certbot says why above" in refused.stderr
    assert (in_use.served(), in_use.placed()) == (served, placed)


@pytest.mark.nightly
def test_before_the_first_start_certbot_listens_itself_and_then_renews_through_nginx_or_by_dns(
    tmp_path: Path, app_image: str
) -> None:
    with Stack(tmp_path / "另一 stack's", app_image) as stack, Authority(tmp_path, stack.http_port) as authority:
        stack.init_anew()
        placed = stack.folder / "https_certificates/privkey.pem"
        port = ("--http-01-port", str(stack.http_port), "--email", "vendor@neighbour.test")
        said = authority.issue(stack.folder, "neighbour.test", "--standalone", certbot=port).stdout
        assert "placed; nginx is not running" in said
        first = placed.read_bytes()
        stack.compose("up", "--detach", "--no-deps", "nginx")  # no app, so that it answers 503

        standalone = wait_for(lambda: serial_at(stack, "neighbour.test", authority))
        authority.renew()
        wait_for(lambda: serial_at(stack, "neighbour.test", authority) not in ("", standalone))
        assert placed.read_bytes() != first
        hooks = ("--manual-auth-hook", str(authority.dns_hook))
        authority.issue(stack.folder, "*.neighbour.test", "neighbour.test", "--dns", "manual", certbot=hooks)
        by_dns = wait_for(lambda: serial_at(stack, "any.neighbour.test", authority))
        authority.renew()
        wait_for(lambda: serial_at(stack, "any.neighbour.test", authority) not in ("", by_dns))
