"""The trial's folder, which one trial holds for itself, and the settings that it hands to the service.

Standard library only: scripts/cardctl uses it on every call.
"""

import fcntl
import hashlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from app.runtime.environment import MAX_PORT, By, names
from trial.programs import TrialError

CHECKOUT = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"

_PLAIN = {"PATH", "LANG", "LC_ALL", "TZ"}  # no secret in them, nor the way to one
_OWN = {"KADUN_DATA_DIR", "KADUN_PORT", "KADUN_PYTHON"}  # which the service does not know
_SAMPLE_FUNCTION = CHECKOUT / "examples" / "functions" / "exchange_rates.py"


class Trial:
    """One trial service: its port on 127.0.0.1, the folder that holds all of its state, and what lies there."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir
        self.port = port
        self.url = f"http://{LOOPBACK}:{port}"
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
    def from_environ(cls, environ: Mapping[str, str]) -> "Trial":
        """Read KADUN_DATA_DIR and KADUN_PORT; an empty variable counts as unset."""
        port = environ.get("KADUN_PORT", "") or "8000"
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= MAX_PORT):
            raise TrialError(
                f"KADUN_PORT 不是端口号：{port!r}，应为 1 到 65535。",
                f"KADUN_PORT is no port: {port!r}; set a number from 1 to 65535.",
            )
        return cls(Path(environ.get("KADUN_DATA_DIR", "") or default_data_dir()).resolve(), int(port))

    def command(self, *arguments: str) -> str:
        """Return a command of scripts/cardctl for this trial, to paste into another terminal in the checkout."""
        is_default = self.data_dir == default_data_dir().resolve()
        # scripts/cardctl then works on the containers.
        is_set_up = (CHECKOUT / ".env").exists() or (CHECKOUT / "secrets").exists()
        folder = [] if is_default and not is_set_up else [f"KADUN_DATA_DIR={shlex.quote(str(self.data_dir))}"]
        return " ".join([*folder, "scripts/cardctl", *arguments])

    def hold(self) -> None:
        """Hold the folder for this process until it ends, creating it where it is missing."""
        try:
            if not self.data_dir.exists():
                os.umask(0o022)  # PostgreSQL's account passes through, also where root's keeps everyone else out
                self.data_dir.mkdir(mode=0o711, parents=True)
            is_new = not self.functions.exists()
            for folder in (self.logs, self.files, self.functions, self.demo):
                folder.mkdir(mode=0o700, exist_ok=True)  # the machine may have other users
            if is_new:  # once: a vendor may remove it
                shutil.copyfile(_SAMPLE_FUNCTION, self.functions / _SAMPLE_FUNCTION.name)
            is_ours = self._lock(fcntl.LOCK_EX)
        except OSError as error:
            raise TrialError(
                f"无法使用数据目录 {self.data_dir}：请用 KADUN_DATA_DIR 指定一个可写的目录。",
                f"Cannot use the data folder {self.data_dir} ({error.strerror}): "
                "set KADUN_DATA_DIR to one that you can write.",
            ) from error
        if not is_ours:
            raise TrialError(
                f"试用服务已在 {self.data_dir} 上运行：请先停止它，或用 KADUN_DATA_DIR 和 KADUN_PORT 另开一个。",
                f"A trial service already runs on {self.data_dir}: stop it first, "
                "or start another with KADUN_DATA_DIR and KADUN_PORT.",
            )

    def is_held(self) -> bool:
        """Tell whether a trial service holds the folder."""
        return self.data_dir.is_dir() and not self._lock(fcntl.LOCK_SH)

    def _lock(self, kind: int) -> bool:
        """Lock the folder itself: no file is made, and the lock ends with this process."""
        try:
            fcntl.flock(os.open(self.data_dir, os.O_RDONLY), kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def service_environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the service and of its command line: the caller's, made this trial's."""
        mine = {
            "DATABASE_URL_FILE": str(self.database_url_file),
            "KERNAL_DATA_KEY_FILE": str(self.kernal_data_key_file),
            "KADUN_SEALING_KEY_FILE": str(self.sealing_key_file),
            "KADUN_KEYS_DIR": str(self.data_dir / "keys"),
            "KADUN_FILES_DIR": str(self.files),
            "KADUN_FUNCTIONS_DIR": str(self.functions),
            "KADUN_FUNCTIONS_SOCKET": str(self.functions_socket),
            "KADUN_BIND": f"{LOOPBACK}:{self.port}",
            "KADUN_BEHIND_PROXY": "false",
            "PYTHONPATH": os.pathsep.join((str(CHECKOUT), str(CHECKOUT / "client" / "src"))),
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


def default_data_dir() -> Path:
    """Return the folder of all state where KADUN_DATA_DIR names none.

    Root's lies under /var/lib: PostgreSQL refuses to run as root, and the account that it then runs under
    cannot reach a checkout in root's own home.
    """
    if os.geteuid() != 0:
        return CHECKOUT / ".trial"
    digest = hashlib.sha256(str(CHECKOUT).encode()).hexdigest()
    return Path("/var/lib/kadun-trial") / f"{CHECKOUT.name}-{digest[:8]}"


def write_secret(path: Path, text: str) -> None:
    """Write `text` to `path`, readable by its owner only, whole or not at all."""
    making = path.with_name(f".{path.name}.new")
    making.touch(mode=0o600)
    making.write_text(text, encoding="utf-8")
    making.replace(path)


def with_trial(program: str, work: Callable[[Trial], int]) -> int:
    """Do `work` on the trial that the environment names; print an error as `program`. Return the exit status."""
    try:
        return work(Trial.from_environ(os.environ))
    except TrialError as error:
        print(*filter(None, [error.detail]), f"{program}: {error}", sep="\n", file=sys.stderr)
        return 1
