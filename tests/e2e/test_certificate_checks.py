"""scripts/deploy-certificate.sh before any container runs: what it takes, what it refuses, whom it sends it to."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.hosts.stack import Stack, rewritten, run
from tests.support.services.pki import Issued

ROOT_CA = Issued.make("A root", authority=True)
MIDDLE = Issued.make("An intermediate", issuer=ROOT_CA, authority=True)
GOOD = Issued.make("card.test", "*.card.test", "192.0.2.7", issuer=MIDDLE)
OTHER = Issued.make("card.test", issuer=MIDDLE)
NAMELESS_CA = Issued.make("card.test", authority=True)
EXPIRED = Issued.make("card.test", first_day=-9, days=8)
CHAIN = GOOD.pem + MIDDLE.pem
KEY = "The key must be that of the chain's first certificate, in PEM, without"
REFUSED: dict[str, tuple[bytes, bytes, str]] = {
    "a key of another certificate": (CHAIN, OTHER.key_bytes(), KEY),
    "a key with a password": (CHAIN, GOOD.key_bytes(password=b"secret"), KEY),
    "a certificate in DER": (GOOD.der, GOOD.key_bytes(), "openssl x509 -inform DER -in FILE -out fullchain.pem"),
    "a cut-off root behind the chain": (CHAIN + ROOT_CA.pem[:-40], GOOD.key_bytes(), "a damaged one"),
    "no certificate": (b"", GOOD.key_bytes(), "Not certificates in PEM"),
    "a chain with the key in it": (CHAIN + GOOD.key_bytes(), GOOD.key_bytes(), "or a key among them"),
    "an expired one": (EXPIRED.pem, EXPIRED.key_bytes(), "lookup: certificate has expired"),
    "no issuer": (GOOD.pem, GOOD.key_bytes(), "or lacks the issuer's certificate: "),
    "no names": (NAMELESS_CA.pem, NAMELESS_CA.key_bytes(), "it names: nothing"),
}

Deploy = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    stack = Stack(tmp_path_factory.mktemp("a checkout"))  # with a space in its path
    stack.init_anew()
    yield stack.folder
    shutil.rmtree(stack.folder)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    tools = tmp_path_factory.mktemp("tools")
    for program in (program for place in ("/usr/bin", "/bin") for program in os.scandir(place)):
        if program.name not in ("docker", "certbot") and not (tools / program.name).is_symlink():
            (tools / program.name).symlink_to(program.path)
    return str(tools)


@pytest.fixture
def deploy(checkout: Path, tmp_path: Path, path: str) -> Deploy:
    def run_it(chain: bytes, key: bytes, *options: str, check: bool = True) -> CompletedProcess[str]:
        for name, content in (("chain", chain), ("key", key), ("trusted", ROOT_CA.pem)):
            (tmp_path / name).write_bytes(content)
        environment = {"PATH": path, "SSL_CERT_FILE": str(tmp_path / "trusted")}  # without docker nothing runs here
        script = checkout / "scripts/deploy-certificate.sh"
        return run(script, "chain", "key", *options, check=check, env=environment, cwd=tmp_path)

    return run_it


def state(checkout: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (checkout / "https_certificates").iterdir()}


def test_what_cannot_be_served_is_refused_in_one_clear_line_and_changes_nothing(checkout: Path, deploy: Deploy) -> None:
    before = state(checkout)
    for what, (chain, key, complaint) in REFUSED.items():
        done = deploy(chain, key, "--domain", "card.test", check=False)
        assert done.returncode == 1, what
        line, banner = done.stderr.splitlines()
        assert banner.startswith("!!! 新证书未启用")
        assert complaint in line
        assert state(checkout) == before, what
        assert complaint in (checkout / "data/certificates.log").read_text().splitlines()[-1]
        assert "secret" not in done.stderr


def test_names_asked_for_or_else_those_of_the_settings_are_found_or_told(checkout: Path, deploy: Deploy) -> None:
    settings, key = checkout / ".env", GOOD.key_bytes()
    found = [word for name in ("card.test", "www.card.test", "192.0.2.7") for word in ("--domain", name)]
    assert "placed; nginx is not running" in deploy(CHAIN, key, *found).stdout
    for name in ("other.test", "a.b.card.test", "192.0.2.8"):
        done = deploy(CHAIN, key, *found, "--domain", name, check=False)
        assert done.returncode == 1
        assert f"does not name {name}; it names: card.test *.card.test 192.0.2.7" in done.stderr
    text = settings.read_text()
    with rewritten(settings, text.replace("DOMAIN=", 'DOMAIN="card.test, www.card.test"')):
        deploy(CHAIN, key)
    with rewritten(settings, text.replace("DOMAIN=", "DOMAIN=card.test shop.test")):
        done = deploy(CHAIN, key, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 2)
        assert "does not name shop.test; it names: card.test *.card.test 192.0.2.7" in done.stderr
        deploy(CHAIN, key, "--here")


def test_the_pair_gets_tight_permissions_and_a_self_signed_one_stays(checkout: Path, deploy: Deploy) -> None:
    own, folder = Issued.make("card.test"), checkout / "https_certificates"
    deploy(own.pem, own.key_bytes())
    said = deploy(CHAIN, GOOD.key_bytes()).stderr
    assert "Programs that ship it as their ca_file, without public_cas=True, then refuse to connect" in said
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir() if file.name != "README.md"}
    assert modes == {
        "fullchain.pem": 0o644,
        "privkey.pem": 0o600,
        "hsts.conf": 0o644,
        "self-signed-fullchain.pem": 0o644,
        "self-signed-privkey.pem": 0o600,
    }
    again = run(checkout / "scripts/deploy-certificate.sh", "fullchain.pem", "privkey.pem", cwd=folder)
    assert (f"serial={GOOD.serial}" in again.stdout, again.stderr) == (True, ""), "a trusted certificate is replaced"
    assert (folder / "fullchain.pem").read_bytes() == CHAIN
    (command,) = set(re.findall(r"scripts/deploy-certificate\.sh https_certificates/\S+?\.pem --domain [\w.]+", said))
    with rewritten(checkout / ".env", (checkout / ".env").read_text().replace("DOMAIN=", "DOMAIN=new.test")):
        back = run("bash", "-c", command, cwd=checkout)
    assert back.stderr == ""
    assert (folder / "fullchain.pem").read_bytes() == own.pem
    assert (folder / "privkey.pem").read_bytes() == own.key_bytes()


def test_hsts_goes_with_public_trust_and_with_the_setting(checkout: Path, deploy: Deploy) -> None:
    hsts, settings = checkout / "https_certificates/hsts.conf", checkout / ".env"
    own, text = Issued.make("card.test"), settings.read_text()
    assert "hsts=yes" in deploy(CHAIN, GOOD.key_bytes()).stdout
    assert hsts.read_text() == 'add_header Strict-Transport-Security "max-age=63072000" always;\n'
    assert "hsts=no" in deploy(own.pem, own.key_bytes()).stdout
    assert not hsts.exists()
    for value, shown in (("", None), ("max-age=60; preload", 'Security "max-age=60; preload" always')):
        with rewritten(settings, text.replace("KADUN_HSTS=max-age=63072000", f"KADUN_HSTS={value}")):
            deploy(CHAIN, GOOD.key_bytes())
        assert (shown in hsts.read_text()) if shown else not hsts.exists()


# The other machine's shell gets the command as one line; `away` is switched off.
SSH = """#!/bin/bash
while [[ $1 != -- ]]; do printf '%s ' "$1" >>"$SSH_LOG"; shift; done
printf '%s\\n' "$2" >>"$SSH_LOG"
[[ $2 != *away* ]] || { echo "ssh: connect to host $2 port 22: Connection timed out" >&2; exit 255; }
exec sh -c "$3"
"""
# It has renewed, and hides what its hook says and how that ends.
CERTBOT = """#!/bin/bash
while (($#)); do
    case $1 in
        --deploy-hook) hook=$2 ;;
        --config-dir) lineage=$2/live ;;
    esac
    shift
done
RENEWED_LINEAGE=$(echo "$lineage"/*) RENEWED_DOMAINS=card.test sh -c "$hook" >/dev/null 2>&1 || true
"""


@pytest.fixture(scope="module")
def checkouts(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Three machines, as folders of this one. The first renews."""
    stacks = [Stack(tmp_path_factory.mktemp(name)) for name in ("second's", "third")]
    for stack in stacks:
        stack.init_anew()
    yield [checkout, *(stack.folder for stack in stacks)]
    for stack in stacks:
        shutil.rmtree(stack.folder)


def write_pair(folder: Path) -> Issued:
    pair = Issued.make("card.test")
    (folder / "fullchain.pem").write_bytes(pair.pem)
    (folder / "privkey.pem").write_bytes(pair.key_bytes())
    return pair


class Renewing:
    """The machine that renews, on which ssh reaches the others, and docker none."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        self.folder, self.checkout = folder, checkout
        self.ssh_log, self.settings = folder / "log", checkout / ".env"
        (folder / "bin").mkdir()
        for name, text in (("ssh", SSH), ("docker", "#!/bin/sh\nexit 1\n"), ("certbot", CERTBOT)):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def run(self, script: str, *words: str | Path, **more: str) -> CompletedProcess[str]:
        path = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "SSH_LOG": str(self.ssh_log)}
        environment = os.environ | path | more
        return run(self.checkout / "scripts" / script, *words, check=False, env=environment, cwd=self.folder)

    def deploy(self, *options: str) -> CompletedProcess[str]:
        write_pair(self.folder)
        return self.run("deploy-certificate.sh", "fullchain.pem", "privkey.pem", *options)

    def has_it(self, checkout: Path) -> bool:
        """Whether a machine has the certificate that was deployed last, and nothing else of the way there."""
        placed = checkout / "https_certificates"
        assert (placed / "privkey.pem").stat().st_mode & 0o777 == 0o600
        assert not list((checkout / "data").glob(".certificate.*"))
        names = ("fullchain.pem", "privkey.pem")
        return all((placed / name).read_bytes() == (self.folder / name).read_bytes() for name in names)


@pytest.fixture
def renewing(tmp_path: Path, checkouts: list[Path]) -> Renewing:
    return Renewing(tmp_path, checkouts[0])


def test_every_machine_gets_it_and_those_that_do_not_are_named(renewing: Renewing, checkouts: list[Path]) -> None:
    _, second, third = checkouts
    done = renewing.deploy(
        *("--to", f"root@10.0.0.5:{second}", "--to", "away.test", "--to", "root@[fd00::3]:/nowhere"),
        *("--to", f"[fd00::4]:{third}", "--ssh-port", "2222", "--ssh-option", "IdentityFile=/k"),
    )
    assert done.returncode == 1
    assert [renewing.has_it(checkout) for checkout in checkouts] == [True, True, True]
    assert f"root@10.0.0.5:{second} 已收到证书 has the certificate" in done.stdout
    for complaint in (
        "these machines did not get the new certificate",
        "away.test (ssh: connect to host away.test port 22: Connection timed out)",
        "cd: /nowhere: No such file or directory",
        "other machines may lack it. When that is mended, run the same command again",
    ):
        assert complaint in done.stderr
    assert (
        "away.test (ssh: connect to host" in (renewing.checkout / "data/certificates.log").read_text().splitlines()[-1]
    )
    asked = renewing.ssh_log.read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in asked] == ["root@10.0.0.5", "away.test", "root@fd00::3", "fd00::4"]
    assert all("-p 2222 -o IdentityFile=/k -o ServerAliveInterval=15" in line for line in asked)
    assert "BatchMode" not in asked[0], "a person can type a password"


def test_certbots_hook_sends_it_to_the_machines_in_the_settings(renewing: Renewing, checkouts: list[Path]) -> None:
    _, second, third = checkouts
    pair, others = write_pair(renewing.folder), second / ".env"
    hosts = f"KADUN_CERTIFICATE_HOSTS=root@10.0.0.5:{second} 10.0.0.6:{third}\n"
    # What has the certificate sends it no further, whatever its own settings say.
    with (
        rewritten(renewing.settings, renewing.settings.read_text() + hosts),
        rewritten(others, others.read_text() + hosts),
    ):
        renewed = {"RENEWED_LINEAGE": str(renewing.folder), "RENEWED_DOMAINS": "card.test"}
        done = renewing.run("deploy-certificate.sh", **renewed)
    assert done.returncode == 0, done.stderr
    for checkout in checkouts:
        assert (checkout / "https_certificates/fullchain.pem").read_bytes() == pair.pem
    asked = renewing.ssh_log.read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in asked] == ["root@10.0.0.5", "10.0.0.6"]
    assert "-o BatchMode=yes" in asked[0], "nobody is there to be asked"


def test_issuing_notes_where_renewals_go_and_tells_who_got_none(renewing: Renewing, checkouts: list[Path]) -> None:
    second, before = checkouts[1], renewing.settings.read_text()
    name = next(line for line in before.splitlines() if line.startswith("COMPOSE_PROJECT_NAME="))
    certbot = renewing.folder / "certbot"
    lineage = certbot / "live" / name.partition("=")[2]
    for folder in (lineage, certbot / "renewal"):
        folder.mkdir(parents=True)
    (certbot / f"renewal/{lineage.name}.conf").touch()
    pair = write_pair(lineage)
    hosts = ("--to", f"root@10.0.0.5:{second}", "--to", "away.test")
    with rewritten(renewing.settings, before):
        options = ("--dns", "manual", *hosts, "--", "--config-dir", certbot)
        done = renewing.run("issue-certificate.sh", "card.test", *options)
        after = renewing.settings.read_text()
    assert f"\nKADUN_CERTIFICATE_HOSTS=root@10.0.0.5:{second} away.test\n" in after
    assert (second / "https_certificates/fullchain.pem").read_bytes() == pair.pem
    assert (done.returncode, "away.test (ssh: connect to host" in done.stderr) == (1, True), done.stderr
    assert "is not in use everywhere" in done.stderr


def test_nothing_goes_where_this_machine_refuses_it_or_an_option_is_wrong_or_says_here(
    renewing: Renewing, checkouts: list[Path]
) -> None:
    for options, status, complaint in (
        (("--to", "10.0.0.5", "--here"), 2, "--to and --here exclude each other"),
        (("--to", f"10.0.0.5:{checkouts[1]}", "--domain", "other.test"), 1, "does not name other.test"),
    ):
        done = renewing.deploy(*options)
        assert (done.returncode, complaint in done.stderr) == (status, True), done.stderr
        assert not renewing.has_it(renewing.checkout)
    with rewritten(renewing.settings, renewing.settings.read_text() + "KADUN_CERTIFICATE_HOSTS=away.test\n"):
        assert (renewing.deploy("--here").returncode, renewing.has_it(renewing.checkout)) == (0, True)
    assert not renewing.ssh_log.exists()
