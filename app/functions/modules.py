"""Finding and importing the vendor's modules. Runs in the process that calls are forked from."""

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
    """No Exception: a module's own handlers shall not take it for theirs."""


def packages_dir(folder: Path) -> Path:
    """Return where what the modules require is installed, for this Python."""
    return folder.parent / f"{folder.name}-packages" / str(sysconfig.get_config_var("SOABI"))


def make_importable(folder: Path) -> None:
    """Let the modules be imported, after all that is installed: none can stand in for a library."""
    site.addsitedir(str(packages_dir(folder)))
    sys.path.append(str(folder))


def names_in(folder: Path) -> list[str]:
    r"""Return the names of the modules in a folder: files `*.py` and packages, none that begins with `_` or `.`.

    Bytes of a name that are no UTF-8 are written `\udcff`, which can be told, and is no module's name either.

    Raises:
        OSError: the folder cannot be read.
    """
    found = set()
    for entry in folder.iterdir():
        if entry.name.startswith(("_", ".")):
            continue
        if entry.suffix == ".py" and entry.is_file():
            found.add(_sound(entry.stem))
        elif (entry / "__init__.py").is_file():
            found.add(_sound(entry.name))
    return sorted(found)


def error_of_importing(name: str, folder: Path, functions: list[FunctionInfo]) -> str | None:
    """Import a module, and return what went wrong, None when nothing did; add to `functions` what it registered.

    One that hangs in Python code is broken off after 30 s; the caller must see to those that hang elsewhere.
    """
    former = signal.signal(signal.SIGALRM, _break_off)
    signal.alarm(IMPORT_SECONDS)
    try:
        before = len(registered)
        _import(name, folder)
        functions += map(_info, registered[before:])
    except BaseException as error:  # noqa: BLE001  # whatever a module raises is its own trouble, SystemExit too
        lines = traceback.format_exception(type(error), error, _without_machinery(error))
        return _sound("".join(lines).replace("\0", "\\x00"))[-MAX_ERROR:]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    return None


def named_twice(functions: list[FunctionInfo]) -> Iterator[tuple[str, list[str]]]:
    """Return the names under which several functions are offered, and the modules that do."""
    modules: dict[str, list[str]] = {}
    for function in functions:
        modules.setdefault(function.name, []).append(function.module)
    return ((name, where) for name, where in modules.items() if len(where) > 1)


def _info(offer: CoreFunction) -> FunctionInfo:
    """Return what is told of an offer. What of it cannot be told is an error here, where its module is known."""
    doc = offer.function.__doc__
    text = _sound(doc).strip()[:MAX_DOC] if isinstance(doc, str) else ""
    info = FunctionInfo(offer.name, offer.module, offer.json_schema(), text)
    msgspec.json.encode(info)
    return info


def _sound(text: str) -> str:
    """Return a text that UTF-8 can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def _import(name: str, folder: Path) -> None:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise RefusedError(
            f"{name!r} 不能作为模块名：只能用字母、数字和 _，且不以数字开头",
            f"{name!r} is no name for a module: letters, digits and _ alone, no digit first",
        )
    spec = importlib.util.find_spec(name)
    if spec is None or folder not in Path(spec.origin or "").parents:
        origin = spec and spec.origin
        raise RefusedError(
            f"已有另一个名为 {name!r} 的模块（{origin}）：请给文件改名",
            f"{name!r} is the name of another module already ({origin}): give the file another name",
        )
    importlib.import_module(name)


def _without_machinery(error: BaseException) -> types.TracebackType | None:
    """Return the traceback from the module's own code on."""
    ours = {__file__, importlib.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"}
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename in ours:
        at = at.tb_next
    return at


def _break_off(_signal: int, _frame: object) -> None:
    raise _ImportHangsError(HANGS)
