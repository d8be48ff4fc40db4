"""One call, in a process of its own: check the arguments, run the function, encode the outcome."""

import json
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from typing import Any

import msgspec

from app.domain.texts import RefusedError
from app.functions.decorator import CoreFunction
from app.functions.messages import CallRequest, Failed, Invalid

MAX_DETAIL = 4_000
MAX_DEPTH = 64
MAX_FRAMES = 30  # the last ones: an endless recursion may have millions
_AT = re.compile(r" - at `\$(?P<path>.*)`$")
_NAMED_FIELD = re.compile(r"^Object (?:missing required|contains unknown) field `(?P<name>.*?)`")


class ResultError(RefusedError):
    """The result of the function is not a JSON value, or too large. The message says why."""


def run_function(
    function: CoreFunction, request: CallRequest, max_result_bytes: int, before_failing: Callable[[], None]
) -> bytes:
    """Run a function, and return its outcome as JSON; `before_failing` is called before an exception is formatted."""
    arguments: Any = request.arguments
    caller = request.caller
    if caller.expires_at is not None:
        caller = replace(caller, expires_at=caller.expires_at.astimezone(UTC))
    try:
        if function.schema is not None:
            try:
                arguments = msgspec.convert(arguments, function.schema)
            except msgspec.ValidationError as error:
                return msgspec.json.encode(_invalid_arguments(error))
        result = function.function(arguments, caller)
        return b'{"outcome":"ok","result":' + encode(result, max_result_bytes) + b"}"
    except BaseException as error:  # noqa: BLE001  # SystemExit and KeyboardInterrupt are the function's own too
        before_failing()
        return msgspec.json.encode(failed(_describe(error)))


def encode(result: object, max_bytes: int) -> bytes:
    """Return a result as JSON in UTF-8; raise ResultError if it is no JSON value, nested too deeply, or too large."""
    try:
        encoded = json.dumps(result, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:  # a lone surrogate in a text, too
        raise ResultError(f"结果不是 JSON：{error}", f"the result is not JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    except MemoryError:
        raise ResultError(
            "结果太大，在一次调用的内存内无法写成 JSON",
            "the result is too large to be written as JSON in the memory of a call",
        ) from None
    if len(encoded) > max_bytes:
        raise ResultError(
            f"结果写成 JSON 有 {len(encoded):,} 字节，上限为 {max_bytes:,}",
            f"the result has {len(encoded):,} bytes as JSON: at most {max_bytes:,} are allowed",
        )
    _check_structure(result)
    return encoded


def invalid(message: str) -> Invalid:
    """Return the outcome for arguments that msgspec refused with `message`: the field, and what is wrong."""
    at = _AT.search(message)
    field = "arguments" + (at["path"] if at else "")
    named = _NAMED_FIELD.match(message)
    return Invalid(
        field=f"{field}.{named['name']}" if named else field, message=message[: at.start()] if at else message
    )


def failed(detail: object) -> Failed:
    """Return the outcome for a call that failed; `detail` is cut to its end."""
    return Failed(tail(str(detail)))


def tail(text: str) -> str:
    """Return the end of a text, without NUL and lone surrogates, which databases and encoders refuse."""
    sound = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return sound if len(sound) <= MAX_DETAIL else "…" + sound[1 - MAX_DETAIL :]


def _invalid_arguments(error: msgspec.ValidationError) -> Invalid:
    own = error.__context__ if error.__cause__ is None else error.__cause__
    if own is None:
        return invalid(str(error))
    # The vendor's own check refused: its message stays on the server, printed as by the function itself.
    print(_describe(error), file=sys.stderr)  # noqa: T201
    # msgspec appends the path; the text before it is the vendor's.
    at = _AT.fullmatch(str(error).removeprefix(str(own)))
    return Invalid(field="arguments" + (at["path"] if at else ""), message="")


def _describe(error: BaseException) -> str:
    if isinstance(error, ResultError):
        return str(error)
    try:
        # Without our own line that called the function.
        after_ours = error.__traceback__ and error.__traceback__.tb_next
        return "".join(traceback.format_exception(type(error), error, after_ours, limit=-MAX_FRAMES))
    except BaseException:  # noqa: BLE001  # an exception may fail to format
        return f"{type(error).__name__}, which cannot be shown"


def _check_structure(result: object) -> None:
    # Keys that json would convert to text, and nesting that readers may refuse.
    level = [result]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for value in level:
            if isinstance(value, dict):
                if not all(isinstance(key, str) for key in value):
                    raise ResultError(
                        "结果不是 JSON：对象的键必须是文本",
                        "the result is not JSON: an object has a key that is not a text",
                    )
                below += value.values()
            elif isinstance(value, list | tuple):
                below += value
        if not below:
            return
        level = below
    raise _too_deep()


def _too_deep() -> ResultError:
    return ResultError(f"结果的嵌套超过 {MAX_DEPTH} 层", f"the result is nested deeper than {MAX_DEPTH} levels")
