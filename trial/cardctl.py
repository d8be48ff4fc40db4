"""The operator's command line on the trial service: python -m trial.cardctl ARGUMENTS."""

import os
import runpy
import sys

from trial.environment import Trial
from trial.messages import TrialError, fail


def main() -> int:
    """Run `python -m app` with the trial's settings, in this process."""
    try:
        trial = Trial.from_environ(os.environ)
    except TrialError as error:
        return fail("cardctl", error)
    is_help = sys.argv[1:] in ([], ["--version"]) or {"-h", "--help"} & set(sys.argv)
    if not is_help and not trial.is_held():
        chinese = f"试用服务未在 {trial.data_dir} 上运行：请先启动 scripts/run.sh。"
        english = f"No trial service runs on {trial.data_dir}: start scripts/run.sh first."
        return fail("cardctl", TrialError(chinese, english))
    environ = trial.service_environment(os.environ)
    os.environ.clear()
    os.environ.update(environ)
    runpy.run_module("app", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
