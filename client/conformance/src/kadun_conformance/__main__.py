"""`python -m kadun_conformance`: which forged responses does a client accept?"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kadun_conformance.cases import FORGED, GENUINE, Case
from kadun_conformance.forger import Vendor
from kadun_conformance.runner import Runner
from kadun_conformance.server import serving

if TYPE_CHECKING:
    from collections.abc import Sequence

_SDK = [sys.executable, "-m", "kadun_conformance.adapter"]
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
    if unknown := {*options.only, options.serve or "honest"} - known.keys():
        parser.error(f"unknown case: {', '.join(unknown)}; --list shows all cases")
    if options.list:
        _print("\n".join(f"{name:<28} {case.about}" for name, case in known.items()))
        return 0
    command = given[split + 1 :]
    if not command and importlib.util.find_spec("kadun") is None:
        parser.error("no COMMAND given, and the Python SDK is not installed")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # a proxy must not stand between the client and the kit
    with tempfile.TemporaryDirectory(prefix="kadun-conformance-") as folder:
        runner = Runner(Vendor(), command or _SDK, Path(folder), options.client_timeout, options.timeout)
        try:
            return _serve(runner, known[options.serve], options.port) if options.serve else _run(runner, options)
        except FileNotFoundError as error:
            parser.error(str(error))


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _run(runner: Runner, options: argparse.Namespace) -> int:
    # Always the first genuine case: it is recorded for the replays, and a client that fails it proves nothing.
    chosen = {*options.only, GENUINE[0].name} if options.only else {case.name for case in (*GENUINE, *FORGED)}
    genuine, forged = ([case for case in cases if case.name in chosen] for cases in (GENUINE, FORGED))
    results = []
    for result in runner.run_all(genuine, forged, options.jobs):
        results.append(result)
        if options.format == "table":
            note = f"  [{result.note}]" if result.note and not result.passed else ""
            _print(f"{' ' if result.passed else '!'} {result.outcome:<8}  {result.name:<28} {result.about}{note}")
    if options.format == "json":
        rows = [{**vars(result), "passed": result.passed} for result in results]
        _print(json.dumps(rows, ensure_ascii=False, indent=2))
    else:
        kinds = [[result.passed for result in results if result.genuine is kind] for kind in (False, True)]
        (lies, believed), (truths, refused) = ((len(passed), passed.count(False)) for passed in kinds)
        _print(
            f"\n伪造响应 {lies} 种：{believed} 种未被拒绝；真实响应 {truths} 种：{refused} 种未被接受\n"
            f"{lies} forged responses: {believed} not refused; {truths} genuine responses: {refused} not accepted"
        )
    return 0 if all(result.passed for result in results) else 1


def _serve(runner: Runner, case: Case, port: int) -> int:
    with serving(runner.vendor, case, port) as server:
        _print(f"{case.name}: {case.about}")
        for name, value in runner.settings(server.url, "").items():
            _print(f"KADUN_{name.upper()}={value}")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kadun_conformance",
        usage="%(prog)s [options] [-- COMMAND …]",
        description="逐一发送伪造响应，检验客户端 / send forged responses and report which ones a client accepts",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--jobs", metavar="N", type=int, default=4, help="同时运行几个用例 / cases in parallel (4)")
    add("--timeout", metavar="S", type=float, default=40, help="多少秒后判为卡住 / seconds until a client is hung (40)")
    add("--client-timeout", metavar="S", type=float, default=5, help="客户端每次尝试的秒数 / seconds for one try (5)")
    add("--only", action="append", default=[], metavar="NAME", help="只运行此用例，可多次 / only this case; repeatable")
    add("--list", action="store_true", help="列出全部用例 / list all cases")
    add("--format", choices=("table", "json"), default="table")
    add("--serve", metavar="NAME", help="只提供此用例，直到 Ctrl-C / serve this case until Ctrl-C")
    add("--port", metavar="PORT", type=int, default=0, help="--serve 的端口 / the port for --serve")
    return parser


if __name__ == "__main__":
    sys.exit(main())
