"""Docker's apt source as far as a machine that cannot reach it needs one: its layout, its packages' names, a signature.

The packages hold nothing but programs that tell their versions; the key is another, since Docker keeps its own.
"""

import hashlib
import subprocess
from pathlib import Path

from tests.support.hosts.stack import run

VERSIONS = {"dockerd": "Docker version 29.0.0, build 0", "docker": "2.40.0"}
PACKAGES = {
    "docker-ce": ("usr/bin/dockerd", "docker.io"),
    "docker-ce-cli": ("usr/bin/docker", "docker-cli, docker.io"),
    "containerd.io": (None, "containerd, runc"),
    "docker-buildx-plugin": (None, "docker-buildx"),
    "docker-compose-plugin": (None, "docker-compose, docker-compose-v2"),
}


class SigningKey:
    """One that GnuPG makes; it is named as Docker's is."""

    def __init__(self, home: Path) -> None:
        home.chmod(0o700)
        self._home = home
        self._gpg("--passphrase", "", "--quick-generate-key", "Docker Release (CE deb) <docker@docker.com>", "rsa2048")
        self.public = self._gpg("--armor", "--export")
        listed = self._gpg("--list-keys", "--with-colons")
        self.fingerprint = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:"))

    def sign(self, text: str) -> str:
        return self._gpg("--clearsign", text=text)

    def close(self) -> None:
        run("gpgconf", "--homedir", self._home, "--kill", "all")

    def _gpg(self, *arguments: str, text: str = "") -> str:
        command = ["gpg", "--homedir", str(self._home), "--batch", "--quiet", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def offer_docker(folder: Path, codename: str, key: SigningKey) -> None:
    """Lays the source out in a folder: the key, the packages and their index."""
    architecture = run("dpkg", "--print-architecture").stdout.strip()
    index = "".join(_package(folder, name, *about) for name, about in PACKAGES.items()).encode()
    path = f"stable/binary-{architecture}/Packages"
    release = (
        f"Origin: Docker\nSuite: {codename}\nCodename: {codename}\nArchitectures: {architecture}\nComponents: stable\n"
        f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} {path}\n"
    )
    suite = folder / "dists" / codename
    (suite / path).parent.mkdir(parents=True)
    (suite / path).write_bytes(index)
    (suite / "InRelease").write_text(key.sign(release))
    (folder / "gpg").write_text(key.public)


def _package(folder: Path, name: str, program: str | None, replaces: str) -> str:
    """Builds one; returns its entry in the index."""
    root = folder / "build" / name
    (root / "DEBIAN").mkdir(parents=True)
    control = (
        f"Package: {name}\nVersion: 29.0.0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\n"
        f"Conflicts: {replaces}\nReplaces: {replaces}\nDescription: stands for Docker's\n"
    )
    (root / "DEBIAN/control").write_text(control)
    if program:
        file = root / program
        file.parent.mkdir(parents=True)
        file.write_text(f"#!/bin/sh\necho '{VERSIONS[file.name]}'\n")
        file.chmod(0o755)
    run("dpkg-deb", "--root-owner-group", "--build", root, folder / f"{name}.deb")
    content = (folder / f"{name}.deb").read_bytes()
    return f"{control}Filename: {name}.deb\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n\n"
