"""`python -m kadun seal`: seal core data on the vendor's own PC. Exit status: 0 done, 1 failed, 2 usage."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import pyrage

from kadun import files


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without Chinese: request marks, no traceback
    parser = _parser()
    chosen = parser.parse_args(arguments)
    source, target = Path(chosen.source), Path(chosen.output)
    try:
        if target.exists() and source.samefile(target):
            parser.error("FILE 与输出相同 / FILE and the output are the same file")
        with source.open("rb") as plain, files.replaced(target, mode=0o644) as sealed:  # customers receive this file
            pyrage.encrypt_io(plain, sealed, [chosen.recipient])
    except OSError as failure:
        return _failed(f"{failure.strerror or failure}: {failure.filename or chosen.output}")
    except pyrage.EncryptError as failure:  # contains what reading or writing raised, as text
        return _failed(str(failure))
    except KeyboardInterrupt:
        return _failed("已中断 / interrupted")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kadun", description="卡盾客户端工具 / Kadun's client tools")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "seal",
        help="加密核心数据 / seal core data",
        description="在本机加密核心数据，只需公钥，明文不离开本机 / "
        "Seal core data on this machine; only the public recipient is needed, and the plain data stays here.",
    )
    command.add_argument("source", metavar="FILE", help="要加密的文件 / the file to seal")
    command.add_argument("-o", "--output", metavar="FILE.age", required=True, help="输出文件 / the output file")
    command.add_argument(
        "--recipient",
        metavar="age1…",
        required=True,
        type=_recipient,
        help="`cardctl key recipient` 打印的公钥 / the output of `cardctl key recipient`",
    )
    return parser


def _recipient(text: str) -> pyrage.x25519.Recipient:
    if text.upper().startswith("AGE-SECRET-KEY-"):  # not repeated: logs and screens keep what is printed
        raise argparse.ArgumentTypeError(
            "这是私钥，请勿外传！这里需要的是公钥 age1… / this is the SECRET key, keep it to yourself: "
            "the recipient age1… is required"
        )
    try:
        return pyrage.x25519.Recipient.from_str(text.strip())
    except pyrage.RecipientError:
        raise argparse.ArgumentTypeError("不是 age1… 公钥 / not an age recipient (age1…)") from None


def _failed(why: str) -> int:
    sys.stderr.write(f"失败 / failed: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
