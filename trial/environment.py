"""Where the trial service keeps its state, and the settings that it hands to the service.

Standard library only: scripts/cardctl uses it on every call.
"""

import hashlib
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from app.environment import By, names
from trial.errors import TrialError

CHECKOUT = Path(__file__).resolve().parent.parent

_HIGHEST_PORT = 65_535
_DEFAULT_PORT = "8000"
_PLAIN = {"PATH", "LANG", "LC_ALL", "TZ"}  # no secret in them, nor the way to one
_OWN = {"KADUN_DATA_DIR", "KADUN_PORT", "KADUN_PYTHON"}  # which the service does not know


class Trial:
    """One trial service: its port on 127.0.0.1, the folder that holds all of its state, and what lies there."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.binaries = data_dir / "postgresql"
        self.cluster = data_dir / "cluster"
        self.database_url_file = data_dir / "database_url"  # written at each start, since the database's port moves
        self.kernal_data_key_file = data_dir / "kernal_data_key"
        self.sealing_key_file = data_dir / "sealing_key"
        self.logs = data_dir / "logs"
        self.files = data_dir / "files"
        self.functions = data_dir / "functions"
        self.functions_socket = data_dir / "functions.sock"
        self.demo = data_dir / "demo"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, uid: int, checkout: Path = CHECKOUT) -> "Trial":
        """Read KADUN_DATA_DIR and KADUN_PORT; an empty variable counts as unset.

        Raises:
            TrialError: KADUN_PORT is no port.
        """
        named = environ.get("KADUN_DATA_DIR", "")
        folder = Path(named) if named else default_data_dir(uid=uid, checkout=checkout)
        return cls(Path(os.path.realpath(folder)), _port(environ.get("KADUN_PORT", "") or _DEFAULT_PORT))

    def command(self, *arguments: str) -> str:
        """Return a command of scripts/cardctl for this trial, to paste into another terminal in the checkout."""
        is_default = self.data_dir == Path(os.path.realpath(default_data_dir(uid=os.geteuid(), checkout=CHECKOUT)))
        # scripts/cardctl then works on the containers.
        is_set_up = (CHECKOUT / ".env").exists() or (CHECKOUT / "secrets").exists()
        folder = [] if is_default and not is_set_up else [f"KADUN_DATA_DIR={shlex.quote(str(self.data_dir))}"]
        return " ".join([*folder, "scripts/cardctl", *arguments])

    def make_sealing_key(self) -> None:
        """Make the key that seals secrets where it is missing: versions before it had none."""
        if not self.sealing_key_file.exists():
            write_secret(self.sealing_key_file, f"{secrets.token_hex(32)}\n")

    def service_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the service and of its command line: the caller's, made this trial's."""
        paths = (str(CHECKOUT), str(CHECKOUT / "client" / "src"))
        mine = {
            "DATABASE_URL_FILE": str(self.database_url_file),
            "KERNAL_DATA_KEY_FILE": str(self.kernal_data_key_file),
            "KADUN_SEALING_KEY_FILE": str(self.sealing_key_file),
            "KADUN_KEYS_DIR": str(self.data_dir / "keys"),
            "KADUN_FILES_DIR": str(self.files),
            "KADUN_FUNCTIONS_DIR": str(self.functions),
            "KADUN_FUNCTIONS_SOCKET": str(self.functions_socket),
            "KADUN_BIND": f"127.0.0.1:{self.port}",
            "KADUN_BEHIND_PROXY": "false",
            "PYTHONPATH": os.pathsep.join(paths),
        }
        replaced = _OWN | {name.removesuffix("_FILE") for name in mine}
        return {name: value for name, value in environ.items() if name not in replaced} | mine

    def functions_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the functions service: what the vendor's code needs, and no secret."""
        passed_on = _PLAIN | names(By.FUNCTIONS)
        return {name: value for name, value in environ.items() if name in passed_on} | {
            "KADUN_FUNCTIONS_DIR": str(self.functions),
            "KADUN_FUNCTIONS_SOCKET": str(self.functions_socket),
            "PYTHONPATH": str(CHECKOUT),
        }


def default_data_dir(*, uid: int, checkout: Path = CHECKOUT) -> Path:
    """Return the folder of all state where KADUN_DATA_DIR names none.

    Root's lies under /var/lib: PostgreSQL refuses to run as root, and the account that it then runs under
    cannot reach a checkout in root's own home.
    """
    if uid != 0:
        return checkout / ".trial"
    digest = hashlib.sha256(str(checkout).encode()).hexdigest()
    return Path("/var/lib/kadun-trial") / f"{checkout.name}-{digest[:8]}"


def write_secret(path: Path, text: str) -> None:
    """Write `text` to `path`, readable by its owner only, whole or not at all."""
    making = path.with_name(f".{path.name}.new")
    making.unlink(missing_ok=True)
    with os.fdopen(os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    making.replace(path)


def _port(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= _HIGHEST_PORT:
        return int(text)
    raise TrialError(
        f"KADUN_PORT 不是端口号：{text!r}，应为 1 到 65535。",
        f"KADUN_PORT is no port: {text!r}; set a number from 1 to 65535.",
    )
