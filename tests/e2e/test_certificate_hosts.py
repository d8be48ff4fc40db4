"""scripts/deploy-certificate.sh --to: the machine that renews the certificate sends it to the others."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.support.pki import Issued
from tests.support.stack import Stack, run

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


class Renewing:
    """The machine that renews, on which ssh reaches the others, and docker none."""

    def __init__(self, folder: Path, checkout: Path) -> None:
        self.folder, self.checkout = folder, checkout
        (folder / "bin").mkdir()
        for name, text in (("ssh", SSH), ("docker", "#!/bin/sh\nexit 1\n")):
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def deploy(self, *options: str, settings: str = "", **environment: str) -> CompletedProcess[str]:
        """Deploy a new certificate."""
        pair = Issued.make("card.test")
        (self.folder / "chain").write_bytes(pair.pem)
        (self.folder / "key").write_bytes(pair.key_bytes())
        env = os.environ | {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "SSH_LOG": str(self.folder / "log")}
        dotenv = self.checkout / ".env"
        before = dotenv.read_text()
        dotenv.write_text(before + settings)
        try:
            script = self.checkout / "scripts/deploy-certificate.sh"
            return run(script, "chain", "key", *options, check=False, env=env | environment, cwd=self.folder)
        finally:
            dotenv.write_text(before)

    def has_it(self, checkout: Path) -> bool:
        """Whether a machine has the certificate that was deployed last, and nothing else of the way there."""
        placed = checkout / "https_certificates"
        assert (placed / "privkey.pem").stat().st_mode & 0o777 == 0o600
        assert not list((checkout / "data").glob(".certificate.*"))
        return (placed / "privkey.pem").read_bytes() == (self.folder / "key").read_bytes() and (
            placed / "fullchain.pem"
        ).read_bytes() == (self.folder / "chain").read_bytes()


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
    assert "These machines did not get the new certificate" in done.stderr
    assert "away.test (ssh: connect to host away.test port 22: Connection timed out)" in done.stderr
    assert (
        "root@[fd00::3]:/nowhere (没有卡盾的目录 no checkout of Kadun: /nowhere (--to HOST:/DIRECTORY))" in done.stderr
    )
    log = (renewing.checkout / "data/certificates.log").read_text()
    assert "FAILED away.test: ssh: connect to host" in log
    asked = (renewing.folder / "log").read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in asked] == ["root@10.0.0.5", "away.test", "root@fd00::3", "fd00::4"]
    assert all("-p 2222 -o IdentityFile=/k -o ServerAliveInterval=15" in line for line in asked)
    assert "BatchMode" not in asked[0], "a person can type a password"


def test_certbots_hook_sends_it_to_the_machines_in_the_settings(renewing: Renewing, checkouts: list[Path]) -> None:
    first, second, third = checkouts
    lineage = renewing.folder / "live"
    lineage.mkdir()
    pair = Issued.make("card.test")
    for name, content in (("fullchain.pem", pair.pem), ("privkey.pem", pair.key_bytes())):
        (lineage / name).write_bytes(content)
    env = os.environ | {
        "PATH": f"{renewing.folder / 'bin'}:{os.environ['PATH']}",
        "SSH_LOG": str(renewing.folder / "log"),
        "RENEWED_LINEAGE": str(lineage),
        "RENEWED_DOMAINS": "card.test",
    }
    settings = first / ".env"
    before = settings.read_text()
    # What has the certificate sends it no further, whatever its own settings say.
    for checkout in (first, second):
        with (checkout / ".env").open("a") as file:
            file.write(f"KADUN_CERTIFICATE_HOSTS=--oops root@10.0.0.5:{second} 10.0.0.6:{third}\n")
    done = run(first / "scripts/deploy-certificate.sh", check=False, env=env, cwd="/")
    settings.write_text(before)
    (second / ".env").write_text((second / ".env").read_text().partition("KADUN_CERTIFICATE_HOSTS")[0])
    assert "--oops (不是 not [USER@]HOST[:/DIRECTORY]: --oops)" in done.stderr
    for checkout in checkouts:
        assert (checkout / "https_certificates/fullchain.pem").read_bytes() == pair.pem
    asked = (renewing.folder / "log").read_text().splitlines()
    assert [line.rsplit(" ", 1)[1] for line in asked] == ["root@10.0.0.5", "10.0.0.6"]
    assert "-o BatchMode=yes" in asked[0], "nobody is there to be asked"


def test_issuing_a_certificate_notes_where_renewals_go_and_tells_who_did_not_get_it(
    renewing: Renewing, checkouts: list[Path]
) -> None:
    first, second, _ = checkouts
    settings = first / ".env"
    before = settings.read_text()
    name = next(line for line in before.splitlines() if line.startswith("COMPOSE_PROJECT_NAME="))
    lineage = renewing.folder / "certbot/live" / name.partition("=")[2]
    lineage.mkdir(parents=True)
    (renewing.folder / "certbot/renewal").mkdir()
    (renewing.folder / f"certbot/renewal/{lineage.name}.conf").touch()
    pair = Issued.make("card.test")
    for file, content in (("fullchain.pem", pair.pem), ("privkey.pem", pair.key_bytes())):
        (lineage / file).write_bytes(content)
    certbot = renewing.folder / "bin/certbot"
    certbot.write_text(CERTBOT)
    certbot.chmod(0o755)
    env = os.environ | {
        "PATH": f"{renewing.folder / 'bin'}:{os.environ['PATH']}",
        "SSH_LOG": str(renewing.folder / "log"),
    }
    hosts = ("--to", f"root@10.0.0.5:{second}", "--to", "away.test")
    options = ("--dns", "manual", *hosts, "--", "--config-dir", renewing.folder / "certbot")
    done = run(first / "scripts/issue-certificate.sh", "card.test", *options, check=False, env=env, cwd="/")
    after = settings.read_text()
    settings.write_text(before)
    assert f"\nKADUN_CERTIFICATE_HOSTS=root@10.0.0.5:{second} away.test\n" in after
    assert (second / "https_certificates/fullchain.pem").read_bytes() == pair.pem
    assert (done.returncode, "away.test (ssh: connect to host" in done.stderr) == (1, True), done.stderr
    assert "is not in use everywhere" in done.stderr


def test_what_this_machine_refuses_goes_nowhere(renewing: Renewing, checkouts: list[Path]) -> None:
    done = renewing.deploy("--to", f"10.0.0.5:{checkouts[1]}", "--domain", "other.test")
    assert (done.returncode, "does not name other.test" in done.stderr) == (1, True)
    assert not (renewing.folder / "log").exists()


def test_invalid_options_change_nothing(renewing: Renewing) -> None:
    for options, complaint in (
        (("--to", "-oProxyCommand=x"), "--to must be [USER@]HOST[:/DIRECTORY]"),
        (("--to", "root@10.0.0.5:folder"), "--to must be"),
        (("--to", "fd00::5"), "an IPv6 address in brackets"),
        (("--to", "10.0.0.5", "--here"), "choose one of --to and --here"),
    ):
        done = renewing.deploy(*options)
        assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr
        assert not renewing.has_it(renewing.checkout)


def test_with_here_no_other_host_gets_the_certificate(renewing: Renewing) -> None:
    done = renewing.deploy("--here", settings="KADUN_CERTIFICATE_HOSTS=away.test\n")
    assert (done.returncode, renewing.has_it(renewing.checkout)) == (0, True)
    assert not (renewing.folder / "log").exists()
