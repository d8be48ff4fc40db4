"""Where the trial service keeps its state, and the settings that it hands to the service.

Standard library only: scripts/run.sh uses it before any package is installed, and scripts/cardctl on every call.
"""

import hashlib
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trial.errors import TrialError

CHECKOUT = Path(__file__).resolve().parent.parent

_HIGHEST_PORT = 65_535
_DEFAULT_PORT = "8000"
_PLAIN = ("PATH", "LANG", "LC_ALL", "TZ", "KADUN_LOG_LEVEL")  # no secret in them, nor the way to one
# The trial's own variables, which the service does not know, and those that name another database or key.
_NOT_PASSED_ON = ("KADUN_DATA_DIR", "KADUN_PORT", "KADUN_PYTHON", "DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_TOTP_KEY")


@dataclass(frozen=True)
class Trial:
    """One trial service: its port on 127.0.0.1 and the folder that holds all of its state."""

    data_dir: Path
    port: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], *, uid: int, checkout: Path = CHECKOUT) -> "Trial":
        """Read KADUN_DATA_DIR and KADUN_PORT; an empty variable counts as unset.

        Raises:
            TrialError: KADUN_PORT is no port.
        """
        named = environ.get("KADUN_DATA_DIR", "")
        folder = Path(named) if named else default_data_dir(uid=uid, checkout=checkout)
        return cls(data_dir=Path(os.path.realpath(folder)), port=_port(environ.get("KADUN_PORT", "") or _DEFAULT_PORT))

    @property
    def url(self) -> str:
        """The service's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def console_url(self) -> str:
        """The console's address."""
        return f"{self.url}/admin"

    def command(self, *arguments: str) -> str:
        """Return a command of scripts/cardctl for this trial, to paste into another terminal in the checkout."""
        is_default = self.data_dir == Path(os.path.realpath(default_data_dir(uid=os.geteuid(), checkout=CHECKOUT)))
        # scripts/cardctl then works on the containers.
        is_set_up = (CHECKOUT / ".env").exists() or (CHECKOUT / "secrets").exists()
        folder = [] if is_default and not is_set_up else [f"KADUN_DATA_DIR={shlex.quote(str(self.data_dir))}"]
        return " ".join([*folder, "scripts/cardctl", *arguments])

    @property
    def binaries(self) -> Path:
        """PostgreSQL's programs."""
        return self.data_dir / "postgresql"

    @property
    def cluster(self) -> Path:
        """PostgreSQL's files."""
        return self.data_dir / "cluster"

    @property
    def database_url_file(self) -> Path:
        """The service's DATABASE_URL; written at each start, since the database's port may move."""
        return self.data_dir / "database_url"

    @property
    def kernal_data_key_file(self) -> Path:
        """KERNAL_DATA_KEY; made once."""
        return self.data_dir / "kernal_data_key"

    @property
    def totp_key_file(self) -> Path:
        """The key that seals second factors; made once."""
        return self.data_dir / "totp_key"

    def make_totp_key(self) -> None:
        """Make it where it is missing: versions before it had none."""
        if not self.totp_key_file.exists():
            write_secret(self.totp_key_file, f"{secrets.token_hex(32)}\n")

    @property
    def logs(self) -> Path:
        """The logs of the service and of PostgreSQL."""
        return self.data_dir / "logs"

    @property
    def files(self) -> Path:
        """The licensed files."""
        return self.data_dir / "files"

    @property
    def functions(self) -> Path:
        """The vendor's core functions."""
        return self.data_dir / "functions"

    @property
    def functions_socket(self) -> Path:
        """Where the service of the core functions listens."""
        return self.data_dir / "functions.sock"

    @property
    def demo(self) -> Path:
        """What the demonstration made: its card, the exported keys, the sealed core data."""
        return self.data_dir / "demo"

    def service_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the service and of its command line: the caller's, made this trial's."""
        mine = {name: value for name, value in environ.items() if name not in _NOT_PASSED_ON}
        paths = (str(CHECKOUT), str(CHECKOUT / "client" / "src"))
        return mine | {
            "DATABASE_URL_FILE": str(self.database_url_file),
            "KERNAL_DATA_KEY_FILE": str(self.kernal_data_key_file),
            "KADUN_TOTP_KEY_FILE": str(self.totp_key_file),
            "KADUN_KEYS_DIR": str(self.data_dir / "keys"),
            "KADUN_FILES_DIR": str(self.files),
            "KADUN_FUNCTIONS_DIR": str(self.functions),
            "KADUN_FUNCTIONS_SOCKET": str(self.functions_socket),
            "KADUN_BIND": f"127.0.0.1:{self.port}",
            "KADUN_BEHIND_PROXY": "false",
            "PYTHONPATH": os.pathsep.join(paths),
        }

    def functions_environment(self, environ: Mapping[str, str], first_uid: int | None) -> dict[str, str]:
        """Return the environment of the functions service: what the vendor's code needs, and no secret.

        `first_uid` is the first of the user IDs for calls, None where they have the service's user.
        """
        mine = {name: value for name, value in environ.items() if name in _PLAIN or name.startswith("KADUN_FUNCTION_")}
        if first_uid is not None:
            mine["KADUN_FUNCTION_FIRST_UID"] = str(first_uid)
        return mine | {
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
