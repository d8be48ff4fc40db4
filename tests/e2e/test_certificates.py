"""A certificate's life, for real: nginx in its container, certbot, and an ACME authority (pebble).

The tests follow one another: what one leaves, the next begins with.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import kadun
import pytest

from tests.support.acme import Authority
from tests.support.pki import Issued
from tests.support.service import wait_for
from tests.support.site import Load, Site, Webhook, ask
from tests.support.stack import Stack, run

pytestmark = pytest.mark.containers

NAMES = ("kadun.test", "www.kadun.test")
HSTS = "strict-transport-security"
LOUD = "!!! 新证书未启用，原证书继续使用。The new certificate is NOT in use; the old one stays."


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        stack.init_anew("127.0.0.1")
        settings = stack.folder / ".env"  # the load comes from one address
        settings.write_text(
            settings.read_text()
            .replace("KADUN_RATE=10", "KADUN_RATE=9000")
            .replace("KADUN_BURST=40", "KADUN_BURST=9000")
        )
        stack.up()
        yield Site(stack)


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A second stack on the same machine; not started."""
    with Stack(tmp_path_factory.mktemp("另一 stack's")) as stack:
        stack.init_anew()
        yield Site(stack)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of the machine's one certbot."""
    return tmp_path_factory.mktemp("machine")


@pytest.fixture(scope="module")
def authority(machine: Path, site: Site) -> Iterator[Authority]:
    with Authority(machine, site.stack.http_port) as running:
        yield running


def test_a_dry_run_goes_all_the_way_and_changes_nothing(site: Site, authority: Authority) -> None:
    served, placed = site.served(), site.placed()
    assert ask(site.stack.https_port, "localhost", site.folder / "fullchain.pem")[1].headers.get(HSTS) is None
    done = authority.issue(site.stack.folder, *NAMES, "--dry-run")
    assert "The dry run was successful." in done.stdout
    assert "It works: nothing was changed" in done.stdout
    assert "This replaces a self-signed certificate." in done.stderr
    assert (site.served(), site.placed()) == (served, placed)


def test_a_certificate_for_two_names_takes_the_self_signed_ones_place(site: Site, authority: Authority) -> None:
    first = site.placed()
    said = authority.issue(site.stack.folder, *NAMES).stdout
    assert {name: site.placed()[f"self-signed-{name}"] for name in ("fullchain.pem", "privkey.pem")} == {
        name: first[name] for name in ("fullchain.pem", "privkey.pem")
    }
    assert "certbot renews it, and each renewal is installed automatically" in said
    for name in NAMES:
        _, answer = ask(site.stack.https_port, name, authority.root)
        assert answer.json() == {"status": "ready"}
        assert answer.headers[HSTS] == "max-age=63072000"
    assert {name: (site.folder / name).stat().st_mode & 0o777 for name in ("fullchain.pem", "privkey.pem")} == {
        "fullchain.pem": 0o644,
        "privkey.pem": 0o600,
    }
    assert " OK serial=" in site.log()[-1]
    assert f"KADUN_DOMAIN={' '.join(NAMES)}" in (site.stack.folder / ".env").read_text().splitlines()
    again = authority.issue(site.stack.folder, *NAMES)
    assert "not yet due for renewal" in again.stdout
    assert "self-signed" not in again.stderr
    assert len(site.log()) == 1, "nothing was due, so nothing was deployed"


def test_a_renewal_under_load_fails_no_request(site: Site, authority: Authority) -> None:
    port = site.stack.https_port
    old, _ = ask(port, NAMES[0], authority.root)
    with Load(lambda: ask(port, NAMES[0], authority.root)) as load:
        wait_for(lambda: load.served[old] >= 100)
        authority.renew()
        new = wait_for(lambda: next((serial for serial in load.served if serial != old), ""))
        # For some 100 ms the workers of both answer; from then on no connection meets the old certificate any more.
        wait_for(lambda: is_past(load, old, new))
    assert load.failures == []
    assert load.served.keys() == {old, new}
    assert f" OK serial={new} " in site.log()[-1]


def is_past(load: Load, old: str, new: str) -> bool:
    """Whether 200 connections in a row were all shown the new certificate."""
    before, shown = load.served[old], load.served[new]
    wait_for(lambda: load.served[new] >= shown + 200)
    return load.served[old] == before


def test_a_pair_that_does_not_match_is_refused_and_the_old_one_still_served(site: Site, tmp_path: Path) -> None:
    served, placed = site.served(), site.placed()
    said = site.deploy(Issued.make(*NAMES), tmp_path, key=Issued.make(*NAMES), check=False)
    assert LOUD in said
    assert "The private key does not belong to this certificate" in said
    assert (site.served(), site.placed()) == (served, placed)
    assert " FAILED " in site.log()[-1]


def test_what_the_authority_refuses_changes_nothing(site: Site, authority: Authority) -> None:
    served, placed = site.served(), site.placed()
    refused = authority.issue(site.stack.folder, authority.blocked, check=False)
    assert refused.returncode == 1
    assert "No certificate was issued; the old one stays in use. certbot says why above" in refused.stderr
    practice = run(
        site.stack.folder / "scripts/issue-certificate.sh",
        *(*NAMES, "--staging", "--", *authority.folders),
        check=False,
        env=authority.environment,
    )
    assert practice.returncode == 1
    assert "A trusted certificate is in use and a staging one would replace it" in practice.stderr
    assert (site.served(), site.placed()) == (served, placed)


def test_a_deployment_that_is_interrupted_puts_the_old_pair_back(site: Site, tmp_path: Path) -> None:
    settings, served, placed = site.stack.folder / ".env", site.served(), site.placed()
    text, new = settings.read_text(), Issued.make(*NAMES)
    (tmp_path / "chain").write_bytes(new.pem)
    (tmp_path / "key").write_bytes(new.key_bytes())
    try:
        # It looks for the new certificate where nobody serves it, and so waits.
        settings.write_text(f"{text}KADUN_HTTPS_PORT={site.stack.http_port}\n")
        script = site.stack.folder / "scripts/deploy-certificate.sh"
        deployment = subprocess.Popen([script, "chain", "key"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        wait_for(lambda: site.served().encode() == new.pem)
        deployment.terminate()
        assert LOUD in deployment.communicate(timeout=60)[1]
        assert deployment.returncode == 1
    finally:
        settings.write_text(text)
    assert site.placed() == placed
    assert " FAILED 被中断 interrupted" in site.log()[-1]
    wait_for(
        lambda: {site.served() for _ in range(50)} == {served}
    )  # workers of both configurations answer for a while


def test_a_broken_nginx_configuration_is_never_reloaded(site: Site, authority: Authority) -> None:
    settings, served, placed = site.stack.folder / ".env", site.served(), site.placed()
    without_webhook = settings.read_text()
    workers = site.workers()
    broken = site.stack.folder / "nginx/kadun/server.conf"
    whole = broken.read_text()
    try:
        broken.write_text(whole + "no_such_directive on;\n")
        with Webhook() as webhook:
            settings.write_text(f"{without_webhook}KADUN_BACKUP_WEBHOOK={webhook.url}\n")
            assert authority.renew().stderr == "", "certbot hides what a hook says, and its end; hence the webhook"
        complaint = 'unknown directive "no_such_directive" in /etc/nginx/kadun/server.conf'
        assert complaint in webhook.told[0]["message"]
        assert webhook.told[0]["event"] == "certificate"
        assert (site.served(), site.placed()) == (served, placed)
        assert site.workers() == workers
        assert " FAILED " in site.log()[-1]
        assert complaint in site.log()[-1]
        refused = authority.issue(site.stack.folder, *NAMES, check=False)
        assert refused.returncode == 1
        assert LOUD in refused.stderr
        assert complaint in refused.stderr
        assert "The certificate was issued but is not in use" in refused.stderr
    finally:
        settings.write_text(without_webhook)
        broken.write_text(whole)
    authority.issue(site.stack.folder, *NAMES)  # nothing is due; what the hook could not deploy is deployed now
    assert site.served() != served
    assert ask(site.stack.https_port, NAMES[0], authority.root)[1].status == 200


def test_before_the_first_start_certbot_listens_itself_and_renews_through_nginx(neighbour: Site, machine: Path) -> None:
    stack = neighbour.stack
    with Authority(machine, stack.http_port) as authority:
        refused = authority.issue(stack.folder, "neighbour.test", check=False)
        assert "nginx is not running: docker compose up -d --wait starts it, or use --standalone" in refused.stderr
        port = ("--http-01-port", str(stack.http_port))
        name = ("neighbour.test", "--email", "vendor@neighbour.test")
        said = authority.issue(stack.folder, *name, "--standalone", certbot=port).stdout
        assert "placed; nginx is not running" in said
        first = neighbour.placed()
        stack.compose("up", "--detach", "--no-deps", "nginx")  # no app, so that it answers 503
        serial, answer = wait_for(lambda: answers(stack, authority))
        assert answer.status == 503
        distrusted = {"SSL_CERT_FILE": "/nowhere.pem"}
        done = run(
            "certbot",
            "-q",
            "renew",
            "--force-renewal",
            "--no-random-sleep-on-renew",
            "--cert-name",
            stack.project,
            *authority.folders,
            env=authority.environment | distrusted,
            cwd="/",
        )
        assert done.stderr == ""
        wait_for(lambda: (now := answers(stack, authority)) and now[0] != serial)  # a former worker may still answer
        assert neighbour.placed()["privkey.pem"] != first["privkey.pem"]
        assert HSTS not in answers(stack, authority)[1].headers


def answers(stack: Stack, authority: Authority) -> tuple[str, ...]:
    try:
        return ask(stack.https_port, "neighbour.test", authority.root)
    except OSError:
        return ()


def test_where_no_port_is_open_dns_proves_the_name_and_two_stacks_renew_side_by_side(
    site: Site, neighbour: Site, authority: Authority
) -> None:
    hooks = ("--manual-auth-hook", str(authority.dns_hook))
    before = site.placed()
    authority.issue(neighbour.stack.folder, "*.neighbour.test", "neighbour.test", "--dns", "manual", certbot=hooks)
    assert site.placed() == before
    first = ask(neighbour.stack.https_port, "any.neighbour.test", authority.root)[0]
    ours = ask(site.stack.https_port, NAMES[1], authority.root)[0]
    authority.renew()
    wait_for(lambda: ask(neighbour.stack.https_port, "any.neighbour.test", authority.root)[0] != first)
    wait_for(lambda: ask(site.stack.https_port, NAMES[1], authority.root)[0] != ours)


def test_at_a_bare_ip_the_sdk_trusts_the_vendors_own_certificate_and_no_other(site: Site, tmp_path: Path) -> None:
    own, foreign = Issued.make("127.0.0.1", days=3650), Issued.make("127.0.0.1", days=3650)
    site.deploy(own, tmp_path, "--domain", "127.0.0.1")
    (tmp_path / "foreign.pem").write_bytes(foreign.pem)
    keys, card = json.dumps(site.stack.cardctl("key", "export")), site.stack.new_card()

    def customer(ca_file: Path | None) -> kadun.Client:
        url = f"https://127.0.0.1:{site.stack.https_port}"
        return kadun.Client(url, public_keys=keys, card_id=card, hardware="a pc", ca_file=ca_file)

    customer(site.folder / "fullchain.pem").open()
    for wrong in (tmp_path / "foreign.pem", None):
        with pytest.raises(kadun.ServerUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            customer(wrong).open()
    assert HSTS not in ask(site.stack.https_port, "127.0.0.1", site.folder / "fullchain.pem")[1].headers
