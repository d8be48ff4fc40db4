"""`python -m kadun.hostile`: which lies does a client believe?"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kadun.hostile import report
from kadun.hostile.catalog import CONTROLS, LIES
from kadun.hostile.runner import Limits, Trial
from kadun.hostile.stage import playing
from kadun.hostile.subject import Command, CommandError, this_package
from kadun.hostile.world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kadun.hostile.world import Scenario

_PROGRAM = "python -m kadun.hostile"
_EPILOG = """
对每个谎言把 COMMAND 启动一次。参数里的 {url} {keys} {card} {function} {hardware} {core} {state}
{timeout_seconds} 会被替换，也在环境变量 KADUN_URL、KADUN_KEYS 等中。退出码 0：已打开，并打印解密后的核心数据；
3：相信了签名的拒绝；其他：什么也没信。不给 COMMAND 就测试本 SDK。

COMMAND is started once for each lie. {url} {keys} {card} {function} {hardware} {core} {state} {timeout_seconds}
are replaced in its arguments, and stand in KADUN_URL, KADUN_KEYS and so on. Exit status 0: opened, and the
unsealed core data printed; 3: a signed no was believed; any other: nothing was. Without COMMAND, this SDK.

退出码 exit status: 0 没有相信任何谎言 no lie believed and every honest answer honoured; 1 otherwise; 2 usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kit; see `--help`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without Chinese: question marks, no traceback
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    parser = _parser()
    chosen = parser.parse_args(given[:split])
    known = {scenario.name: scenario for scenario in (*CONTROLS, *LIES)}
    for name in [*(chosen.only or []), *([chosen.serve] if chosen.serve else [])]:
        if name not in known:
            parser.error(f"no such lie: {name}; --list names them")
    if chosen.jobs < 1:
        parser.error("--jobs must be 1 or more")
    if chosen.list:
        _say("\n".join(f"{name:<28} {report.words(name)}" for name in known))
        return 0
    # Whatever proxy this machine has, it must not stand between a client and this machine.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
    with tempfile.TemporaryDirectory(prefix="kadun-hostile-") as folder:
        limits = Limits(chosen.client_timeout, chosen.timeout)
        subject = Command(given[split + 1 :]) if given[split + 1 :] else this_package
        trial = Trial(World(), subject, Path(folder), limits)
        if chosen.serve:
            return _serve(trial, known[chosen.serve], chosen.port)
        try:
            return _try(trial, chosen)
        except CommandError as error:
            parser.error(str(error))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _try(trial: Trial, chosen: argparse.Namespace) -> int:
    # The first honest answer always: it is the one to replay, and who does not open then proves nothing by refusing.
    honest = [scenario for scenario in CONTROLS if _is_chosen(scenario, chosen) or scenario is CONTROLS[0]]
    lies = [lie for lie in LIES if _is_chosen(lie, chosen)]
    table = chosen.format == "table"
    if table:
        _say(f"固定公钥 pinned keys: {trial.keys_file}\n{trial.keys_file.read_text(encoding='utf-8')}")
        _say(f"加密的核心数据 sealed core data: {trial.core_file}")
    results, group = [], ""
    for result in trial.play_all(honest, lies, chosen.jobs):
        results.append(result)
        if table:
            if result.group != group:
                group = result.group
                _say(f"\n{group}")
            _say(report.line(result))
    if table:
        _say(f"\n{report.closing_in_chinese(results)}\n{report.closing(results)}")
    else:
        _say(report.as_json(results))
    return 0 if all(result.fine for result in results) else 1


def _is_chosen(scenario: Scenario, chosen: argparse.Namespace) -> bool:
    return not chosen.only or scenario.name in chosen.only


def _serve(trial: Trial, scenario: Scenario, port: int) -> int:
    """Play one scenario until Ctrl-C, to look at a client more closely."""
    with playing(trial.world, scenario, port) as stage:
        _say(f"{scenario.name}: {report.words(scenario.name)}")
        for name, value in trial.settings(stage.url, "").environment().items():
            _say(f"{name}={value}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [options] [-- COMMAND …]",
        description="说谎的服务器：看客户端相信哪些谎言 / a server that lies: which lies does a client believe?",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="只试这个谎言，可多次 / only this lie; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="列出全部 / name them all")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--jobs", type=int, default=4, help="同时几个 / how many side by side (4)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=40,
        metavar="S",
        help="多少秒后判为卡住 / seconds until a client counts as hung (40)",
    )
    parser.add_argument(
        "--client-timeout",
        type=float,
        default=5,
        metavar="S",
        help="告诉客户端每次尝试的时限 / what it is told to allow a try (5)",
    )
    parser.add_argument("--serve", metavar="NAME", help="只演这一个，直到 Ctrl-C / play this one until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="--serve 的端口 / the port for --serve")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(1)
