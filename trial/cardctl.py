"""The operator's command line on the trial service: python -m trial.cardctl ARGUMENTS."""

import os
import sys
from typing import NoReturn

from trial.environment import Trial, with_trial
from trial.programs import TrialError


def main(trial: Trial) -> NoReturn:
    """Become `python -m app` with the trial's settings."""
    is_help = sys.argv[1:] in ([], ["--version"]) or {"-h", "--help"} & set(sys.argv)
    if not is_help and not trial.is_held():
        chinese = f"试用服务未在 {trial.data_dir} 上运行：请先启动 scripts/run.sh。"
        english = f"No trial service runs on {trial.data_dir}: start scripts/run.sh first."
        raise TrialError(chinese, english)
    command = [sys.executable, "-P", "-m", "app", *sys.argv[1:]]
    os.execve(sys.executable, command, trial.service_environment(os.environ))  # noqa: S606  # ours, without a shell


if __name__ == "__main__":
    sys.exit(with_trial("cardctl", main))
