"""Takes this machine out of the balancer: it is not ready any more, and serves on until it is stopped."""

from pathlib import Path

from app.domain.errors import UnavailableError

MARK = "draining"  # in the folder of the keys: each process of the service sees it


def begin(keys_dir: Path) -> None:
    """Let the service say that it is not ready, until it is started again or `end` is called."""
    keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)  # there is none yet where the keys are in the database
    (keys_dir / MARK).touch(mode=0o600)


def end(keys_dir: Path) -> None:
    """Let the service be ready again."""
    (keys_dir / MARK).unlink(missing_ok=True)


def require_serving(keys_dir: Path) -> None:
    """Check that the service is not draining; raise UnavailableError if it is."""
    if (keys_dir / MARK).exists():
        raise UnavailableError("draining")
