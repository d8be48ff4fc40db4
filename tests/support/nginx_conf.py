"""The project's nginx configuration, written to a folder of its own; only fixed paths change."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from trial.environment import CHECKOUT

_MOVES = {
    "/etc/nginx": "etc",
    "/var/log/nginx": "log",
    "/var/cache/nginx": "cache",
    "/run/nginx.pid": "run/pid",
}
_FOLDERS = ("etc/conf.d", "log", "run", "cache", "certificates", "acme/.well-known/acme-challenge")


def write(folder: Path, settings: Mapping[str, str]) -> None:
    """Write `etc/nginx.conf` and all that it needs, with a certificate for this machine in `certificates`.

    Args:
        folder: Takes it all; must not be there.
        settings: The template's variables, save for those that name folders in `folder`.
    """
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True)
    _self_signed(folder / "certificates")
    values = {"KADUN_CERTIFICATES": f"{folder}/certificates", "KADUN_ACME_ROOT": f"{folder}/acme", **settings}
    etc = folder / "etc"
    shutil.copytree(CHECKOUT / "nginx/kadun", etc / "kadun")
    for file in (etc / "kadun").iterdir():
        _put(folder, file, file.read_text(encoding="utf-8"))
    user = "user root;" if os.geteuid() == 0 else ""
    _put(folder, etc / "nginx.conf", _source("nginx.conf").replace("user nginx;", user))
    site = re.sub(r"\$\{(KADUN_\w+)\}", lambda found: values[found[1]], _source("templates/kadun.conf.template"))
    _put(folder, etc / "conf.d/kadun.conf", site)
    _run_hook(folder, "35-older-nginx.sh", settings)
    _run_hook(folder, "40-networks.sh", settings)
    _run_hook(folder, "45-bucket.sh", values)


def command(folder: Path) -> list[str]:
    """Return what starts nginx on it, in the foreground."""
    files = ["-p", str(folder), "-e", str(folder / "log/error.log"), "-c", str(folder / "etc/nginx.conf")]
    return ["nginx", *files, "-g", "daemon off;"]


def version() -> str:
    """Return nginx's version, such as 1.26.3."""
    said = subprocess.run(["nginx", "-v"], check=True, capture_output=True, text=True).stderr
    return said.strip().rpartition("/")[2]


def _source(name: str) -> str:
    return (CHECKOUT / "nginx" / name).read_text(encoding="utf-8")


def _put(folder: Path, file: Path, text: str) -> None:
    for fixed, own in _MOVES.items():
        text = text.replace(fixed, str(folder / own))
    file.write_text(text, encoding="utf-8")


def _run_hook(folder: Path, name: str, settings: Mapping[str, str]) -> None:
    """Run a script that the image runs at each start."""
    hook = folder / "run" / name
    _put(folder, hook, _source(f"entrypoint/{name}"))
    subprocess.run(["sh", hook], check=True, env={"PATH": os.environ["PATH"], **settings})


def _self_signed(folder: Path) -> None:
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    made += ["-days", "2", "-subj", "/CN=localhost", "-addext", names]
    made += ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    subprocess.run(made, check=True, capture_output=True)
