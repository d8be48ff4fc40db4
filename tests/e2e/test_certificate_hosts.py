"""scripts/deploy-certificate.sh --to: the machine that renews the certificate sends it to the others."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.pki import Issued
from tests.support.stack import Stack, run
from tests.support.stack_changes import rewritten

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
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """Three machines, as folders of this one. The first renews."""
    stacks = [Stack(tmp_path_factory.mktemp(name)) for name in ("renews", "second's", "third")]
    for stack in stacks:
        stack.init_anew()
    yield [stack.folder for stack in stacks]
    for stack in stacks:
        shutil.rmtree(stack.folder)


def write_pair(folder: Path) -> Issued:
    """Write a new certificate and its key as certbot names them."""
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
        """Deploy a new certificate."""
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
        "These machines did not get the new certificate",
        "away.test (ssh: connect to host away.test port 22: Connection timed out)",
        "root@[fd00::3]:/nowhere (没有卡盾的目录 no checkout of Kadun: /nowhere (--to HOST:/DIRECTORY))",
    ):
        assert complaint in done.stderr
    assert "FAILED away.test: ssh: connect to host" in (renewing.checkout / "data/certificates.log").read_text()
    asked = renewing.ssh_log.read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in asked] == ["root@10.0.0.5", "away.test", "root@fd00::3", "fd00::4"]
    assert all("-p 2222 -o IdentityFile=/k -o ServerAliveInterval=15" in line for line in asked)
    assert "BatchMode" not in asked[0], "a person can type a password"


def test_certbots_hook_sends_it_to_the_machines_in_the_settings(renewing: Renewing, checkouts: list[Path]) -> None:
    _, second, third = checkouts
    pair, others = write_pair(renewing.folder), second / ".env"
    hosts = f"KADUN_CERTIFICATE_HOSTS=--oops root@10.0.0.5:{second} 10.0.0.6:{third}\n"
    # What has the certificate sends it no further, whatever its own settings say.
    with (
        rewritten(renewing.settings, renewing.settings.read_text() + hosts),
        rewritten(others, others.read_text() + hosts),
    ):
        renewed = {"RENEWED_LINEAGE": str(renewing.folder), "RENEWED_DOMAINS": "card.test"}
        done = renewing.run("deploy-certificate.sh", **renewed)
    assert "--oops (不是 not [USER@]HOST[:/DIRECTORY]: --oops)" in done.stderr
    for checkout in checkouts:
        assert (checkout / "https_certificates/fullchain.pem").read_bytes() == pair.pem
    asked = renewing.ssh_log.read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in asked] == ["root@10.0.0.5", "10.0.0.6"]
    assert "-o BatchMode=yes" in asked[0], "nobody is there to be asked"


def test_issuing_a_certificate_notes_where_renewals_go_and_tells_who_did_not_get_it(
    renewing: Renewing, checkouts: list[Path]
) -> None:
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
        (("--to", "-oProxyCommand=x"), 2, "--to must be [USER@]HOST[:/DIRECTORY]"),
        (("--to", "root@10.0.0.5:folder"), 2, "--to must be"),
        (("--to", "fd00::5"), 2, "an IPv6 address in brackets"),
        (("--to", "10.0.0.5", "--here"), 2, "choose one of --to and --here"),
        (("--to", f"10.0.0.5:{checkouts[1]}", "--domain", "other.test"), 1, "does not name other.test"),
    ):
        done = renewing.deploy(*options)
        assert (done.returncode, complaint in done.stderr) == (status, True), done.stderr
        assert not renewing.has_it(renewing.checkout)
    with rewritten(renewing.settings, renewing.settings.read_text() + "KADUN_CERTIFICATE_HOSTS=away.test\n"):
        assert (renewing.deploy("--here").returncode, renewing.has_it(renewing.checkout)) == (0, True)
    assert not renewing.ssh_log.exists()
