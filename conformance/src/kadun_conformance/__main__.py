"""`python -m kadun_conformance`: which forged responses does a client accept?"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from kadun_conformance import report
from kadun_conformance.cases import FORGED, GENUINE
from kadun_conformance.client_under_test import Command, CommandError, python_sdk
from kadun_conformance.forger import Vendor
from kadun_conformance.runner import Limits, Runner
from kadun_conformance.server import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kadun_conformance.case import Case

_PROGRAM = "python -m kadun_conformance"
_EPILOG = """
每个用例启动一次 COMMAND。参数里的 {url} {keys} {card} {function} {hardware} {core} {state} {timeout_seconds}
会被替换，也在环境变量 KADUN_URL、KADUN_KEYS 等中。COMMAND 的退出码 0：已打开，并打印解密后的核心数据；
3：收到签名的拒绝；其他：不接受此响应。不给 COMMAND 则测试 Python SDK。

COMMAND is started once for each case. {url} {keys} {card} {function} {hardware} {core} {state} {timeout_seconds}
are replaced in its arguments, and are in KADUN_URL, KADUN_KEYS and so on. Its exit status is 0: opened, and the
unsealed core data printed; 3: a signed rejection; any other: the response is refused. Without COMMAND: the Python SDK.

退出码 exit status: 0 拒绝了所有伪造响应、接受了所有真实响应 every forged response refused, every genuine one accepted;
1 otherwise; 2 usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kit; see `--help`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without Chinese: question marks, no traceback
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--") if "--" in given else len(given)
    parser = _parser()
    options = parser.parse_args(given[:split])
    known = {case.name: case for case in (*GENUINE, *FORGED)}
    for name in [*(options.only or []), *([options.serve] if options.serve else [])]:
        if name not in known:
            parser.error(f"unknown case: {name}; --list shows all cases")
    if options.jobs < 1:
        parser.error("--jobs must be 1 or more")
    if options.list:
        _print("\n".join(f"{name:<28} {case.about}" for name, case in known.items()))
        return 0
    # A proxy of this machine must not stand between the client and this machine.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"
    with tempfile.TemporaryDirectory(prefix="kadun-conformance-") as folder:
        limits = Limits(options.client_timeout, options.timeout)
        try:
            client = Command(given[split + 1 :]) if given[split + 1 :] else python_sdk()
            runner = Runner(Vendor(), client, Path(folder), limits)
            if options.serve:
                return _serve(runner, known[options.serve], options.port)
            return _run(runner, options)
        except CommandError as error:
            parser.error(str(error))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run(runner: Runner, options: argparse.Namespace) -> int:
    # Always the first genuine case: it is recorded for the replays, and a client that fails it proves nothing.
    genuine = [case for case in GENUINE if _is_selected(case, options) or case is GENUINE[0]]
    forged = [case for case in FORGED if _is_selected(case, options)]
    table = options.format == "table"
    if table:
        _print(f"固定公钥 pinned keys: {runner.keys_file}\n{runner.keys_file.read_text(encoding='utf-8')}")
        _print(f"加密的核心数据 sealed core data: {runner.core_file}")
    results, group = [], ""
    for result in runner.run_all(genuine, forged, options.jobs):
        results.append(result)
        if table:
            if result.group != group:
                group = result.group
                _print(f"\n{group}")
            _print(report.line(result))
    _print(f"\n{report.closing(results)}" if table else report.as_json(results))
    return 0 if all(result.passed for result in results) else 1


def _is_selected(case: Case, options: argparse.Namespace) -> bool:
    return not options.only or case.name in options.only


def _serve(runner: Runner, case: Case, port: int) -> int:
    """Serve one case until Ctrl-C, to debug a client."""
    with serving(runner.vendor, case, port) as server:
        _print(f"{case.name}: {case.about}")
        for name, value in runner.settings(server.url, "").environment().items():
            _print(f"{name}={value}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        usage=f"{_PROGRAM} [options] [-- COMMAND …]",
        description="逐一发送伪造响应，检验客户端 / send forged responses and report which ones a client accepts",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, metavar, kind, default, text in (
        ("--jobs", "N", int, 4, "同时运行几个用例 / cases in parallel (4)"),
        ("--timeout", "S", float, 40, "多少秒后判为卡住 / seconds until a client counts as hung (40)"),
        (
            "--client-timeout",
            "S",
            float,
            5,
            "告诉客户端的每次尝试时限，秒 / seconds that a client may take for one try (5)",
        ),
        ("--port", "PORT", int, 0, "--serve 的端口 / the port for --serve"),
    ):
        parser.add_argument(name, metavar=metavar, type=kind, default=default, help=text)
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="只运行此用例，可多次 / only this case; repeatable"
    )
    parser.add_argument("--list", action="store_true", help="列出全部用例 / list all cases")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.add_argument("--serve", metavar="NAME", help="只提供此用例，直到 Ctrl-C / serve this case until Ctrl-C")
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(1)
