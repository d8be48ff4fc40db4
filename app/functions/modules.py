"""Finds and imports the vendor's modules. Runs in the zygote."""

import importlib
import importlib.util
import keyword
import signal
import site
import sys
import sysconfig
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

import msgspec

from app.domain.texts import RefusedError, Text
from app.functions.decorator import CoreFunction, registered
from app.functions.messages import FunctionInfo

IMPORT_SECONDS = 30
HANGS = Text(f"{IMPORT_SECONDS} 秒内未完成导入", f"its import is not done after {IMPORT_SECONDS} s")
MAX_ERROR = 8_000
MAX_DOC = 1_000


class _ImportHangsError(BaseException):
    """Not an Exception, so that a module's own handlers do not catch it."""


def packages_dir(folder: Path) -> Path:
    """Return the folder of the packages that the modules require, for this Python."""
    return folder.parent / f"{folder.name}-packages" / str(sysconfig.get_config_var("SOABI"))


def make_importable(folder: Path) -> None:
    """Put the modules on the import path, after everything that is installed: none can replace a library."""
    site.addsitedir(str(packages_dir(folder)))
    sys.path.append(str(folder))


def names_in(folder: Path) -> list[str]:
    r"""Return the names of the modules in a folder: files `*.py` and packages that do not begin with `_` or `.`.

    Bytes that are not UTF-8 are written `\udcff`, which is not a valid name of a module.

    Raises:
        OSError: the folder cannot be read.
    """
    found = set()
    for entry in folder.iterdir():
        if entry.name.startswith(("_", ".")):
            continue
        if entry.suffix == ".py" and entry.is_file():
            found.add(_encodable(entry.stem))
        elif (entry / "__init__.py").is_file():
            found.add(_encodable(entry.name))
    return sorted(found)


def error_of_importing(name: str, folder: Path, functions: list[FunctionInfo]) -> str | None:
    """Import a module, and return its error, None if there is none; add its functions to `functions`.

    An import that hangs in Python code is interrupted after 30 s; the caller must end one that hangs elsewhere.
    """
    former = signal.signal(signal.SIGALRM, _interrupt)
    signal.alarm(IMPORT_SECONDS)
    try:
        before = len(registered)
        _import(name, folder)
        functions += map(_info, registered[before:])
    except BaseException as error:  # noqa: BLE001  # SystemExit included
        lines = traceback.format_exception(type(error), error, _own_traceback(error))
        return _encodable("".join(lines).replace("\0", "\\x00"))[-MAX_ERROR:]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    return None


def named_twice(functions: list[FunctionInfo]) -> Iterator[tuple[str, list[str]]]:
    """Return the names that several functions have, and their modules."""
    modules: dict[str, list[str]] = {}
    for function in functions:
        modules.setdefault(function.name, []).append(function.module)
    return ((name, where) for name, where in modules.items() if len(where) > 1)


def _info(function: CoreFunction) -> FunctionInfo:
    """Return what the service tells about a function; raise here, where the module is known, if it is not JSON."""
    doc = function.function.__doc__
    text = _encodable(doc).strip()[:MAX_DOC] if isinstance(doc, str) else ""
    info = FunctionInfo(function.name, function.module, function.json_schema(), text)
    msgspec.json.encode(info)
    return info


def _encodable(text: str) -> str:
    """Return a text with what UTF-8 cannot encode escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def _import(name: str, folder: Path) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise RefusedError(
            f"{name!r} 不能作为模块名：只能用字母、数字和 _，且不以数字开头",
            f"{name!r} cannot name a module: use letters, digits and _, and do not begin with a digit",
        )
    spec = importlib.util.find_spec(name)
    if spec is None or folder not in Path(spec.origin or "").parents:
        origin = spec and spec.origin
        raise RefusedError(
            f"已有另一个名为 {name!r} 的模块（{origin}）：请给文件改名",
            f"{name!r} is the name of another module already ({origin}): give the file another name",
        )
    importlib.import_module(name)


def _own_traceback(error: BaseException) -> types.TracebackType | None:
    """Return the traceback without our own and importlib's frames."""
    ours = {__file__, importlib.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"}
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename in ours:
        at = at.tb_next
    return at


def _interrupt(_signal: int, _frame: object) -> None:
    raise _ImportHangsError(HANGS)
