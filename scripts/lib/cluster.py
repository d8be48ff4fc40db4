"""Makes the secrets, certificates and configuration of a database cluster. For scripts/cluster-init.sh.

    cluster.py FOLDER NODES WITNESS CLIENTS

NODES and CLIENTS are addresses separated by spaces, WITNESS one address or nothing. What exists is not changed, except
for the list of CLIENTS. Prints the files that were made or changed, one on a line: `made NAME`, `changed NAME`.
"""

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from cluster_settings import Cluster, ClusterError, Member, access, etcd_settings, patroni_settings, read_cluster

DAYS = 3650
AUTHORITY_DAYS = 3 * DAYS
"""A renewed certificate is worth nothing after its authority's end."""


class Folder:
    """The folder of the files that are made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.made: list[str] = []

    def make(self, cluster: Cluster, *, admit: bool) -> None:
        """Make all that is missing; with `admit`, let the cluster's clients take the place of other ones.

        Raises:
            ClusterError: the files are of other machines.
        """
        self._path.mkdir(mode=0o700, exist_ok=True)
        self._check(cluster, admit=admit)
        token = self._secret("token")
        passwords = {role: self._secret(role) for role in ("replicator", "rewind")}
        self._authority()
        for member in cluster.members:
            (self._path / member.name).mkdir(mode=0o700, exist_ok=True)
            self._certificate(member)
            self._place(f"{member.name}/ca.crt", (self._path / "ca.crt").read_text)
            self._place(f"{member.name}/etcd.yml", partial(_yaml, etcd_settings(cluster, member, token)))
            if not member.is_witness:
                self._place(f"{member.name}/patroni.yml", partial(_yaml, patroni_settings(cluster, member, passwords)))

    def _check(self, cluster: Cluster, *, admit: bool) -> None:
        wanted = json.dumps(cluster._asdict(), indent=1)
        found = self._place("cluster.json", lambda: wanted)
        if found == wanted:
            return
        old = Cluster([Member(*member) for member in json.loads(found)["members"]], json.loads(found)["clients"])
        if old.members != cluster.members or not admit:
            said = ", ".join(f"{member.name} {member.address}" for member in old.members)
            raise ClusterError(
                f"{self._path} 属于其他机器 is of other machines: {said}; apps {', '.join(old.clients)}."
                " Give the same addresses, or move the folder away to make a new cluster"
            )
        for node in cluster.nodes:
            self._admit(cluster, node)
        self._change("cluster.json", wanted)  # last: a run that was interrupted is repeated

    def _admit(self, cluster: Cluster, node: Member) -> None:
        """Change who may log in on a node; its other settings may be the vendor's."""
        name = f"{node.name}/patroni.yml"
        file = self._path / name
        if not file.exists():
            return
        try:
            settings = json.loads(file.read_text())
            settings["postgresql"]["pg_hba"] = list(access(cluster))
        except (ValueError, KeyError, TypeError):
            raise ClusterError(
                f"{file} 已改为其他格式 is not as this script wrote it: move it away, and run this script again"
            ) from None
        self._change(name, _yaml(settings))

    def _secret(self, name: str) -> str:
        return self._place(name, lambda: secrets.token_hex(24)).strip()

    def _authority(self) -> None:
        self._key("ca.key")
        self._place("ca.crt", lambda: self._openssl(
            "req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=Kadun cluster", "-days", str(AUTHORITY_DAYS),
            "-addext", "basicConstraints=critical,CA:true,pathlen:0",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        ))  # fmt: skip

    def _certificate(self, member: Member) -> None:
        key = f"{member.name}/tls.key"
        self._key(key)
        with tempfile.NamedTemporaryFile("w", suffix=".cnf") as extensions:
            extensions.write(
                f"subjectAltName=IP:{member.address}\nextendedKeyUsage=serverAuth,clientAuth\n"
                "basicConstraints=critical,CA:false\nkeyUsage=critical,digitalSignature\n"
            )
            extensions.flush()
            self._place(f"{member.name}/tls.crt", lambda: self._openssl(
                "x509", "-req", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", str(DAYS), "-extfile", extensions.name,
                text=self._openssl("req", "-new", "-key", key, "-subj", f"/CN={member.name}"),
            ))  # fmt: skip

    def _key(self, name: str) -> None:
        self._place(name, lambda: self._openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"))

    def _openssl(self, *arguments: str, text: str = "") -> str:
        done = subprocess.run(
            ("openssl", *arguments), input=text, capture_output=True, text=True, cwd=self._path, check=False
        )
        if done.returncode:
            raise ClusterError(f"openssl {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def _place(self, name: str, content: Callable[[], str]) -> str:
        """Return a file's content; make the file, whole or not at all, unless it exists."""
        file = self._path / name
        if not file.exists():
            _write(file, content())
            self.made.append(f"made {name}")
        return file.read_text()

    def _change(self, name: str, content: str) -> None:
        if (self._path / name).read_text() != content:
            _write(self._path / name, content)
            self.made.append(f"changed {name}")


def _write(file: Path, content: str) -> None:
    """Write a file whole or not at all."""
    new = file.with_name(f".{file.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    new.rename(file)


def _yaml(settings: dict[str, object]) -> str:
    """Write YAML: JSON is a part of it."""
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Make the files, and print their names."""
    path, nodes, witness, clients = arguments
    folder = Folder(Path(path))
    try:
        folder.make(read_cluster(nodes.split(), witness.split(), clients.split()), admit=bool(clients.strip()))
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(folder.made))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
