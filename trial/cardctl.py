"""The operator's command line on the trial service: python -m trial.cardctl ARGUMENTS."""

import os
import runpy
import sys

from trial.environment import Trial
from trial.errors import TrialError
from trial.folder import is_held


def main() -> int:
    """Run `python -m app` with the trial's settings, in this process."""
    try:
        trial = Trial.from_environ(os.environ, uid=os.geteuid())
        if sys.argv[1:] not in ([], ["--version"]) and not {"-h", "--help"} & set(sys.argv):
            _require_running(trial)
    except TrialError as error:
        print(f"cardctl: {error}", file=sys.stderr)
        return 1
    environ = trial.service_environment(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    runpy.run_module("app", run_name="__main__", alter_sys=True)
    return 0


def _require_running(trial: Trial) -> None:
    if not is_held(trial):
        raise TrialError(
            f"试用服务未在 {trial.data_dir} 上运行：请先启动 scripts/run.sh。",
            f"No trial service runs on {trial.data_dir}: start scripts/run.sh first.",
        )


if __name__ == "__main__":
    sys.exit(main())
