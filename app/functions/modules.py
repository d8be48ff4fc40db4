"""Finds the vendor's modules, imports them in the zygote, and tells whether their folder has changed."""

import contextlib
import faulthandler
import hashlib
import importlib
import importlib.util
import keyword
import os
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
from app.functions.messages import BrokenModule, Contents, FunctionInfo
from app.functions.processes import how_it_ended

IMPORT_SECONDS = 30
MAX_ERROR = 8_000
MAX_DOC = 1_000
FOLDER = "(folder)"
"""Stands for the folder itself in place of a module's name."""


def packages_dir(folder: Path) -> Path:
    """Return the folder of the packages that the modules require, for this Python."""
    return folder.parent / f"{folder.name}-packages" / str(sysconfig.get_config_var("SOABI"))


def import_all(folder: Path) -> Contents:
    """Import the modules in a folder into this process, without those that are broken.

    Each is imported in a child process first: a broken module may end its process, or leave anything behind in it.
    """
    try:
        os.chdir(folder)  # a module opens its data files by relative paths
        names = names_in(folder)
    except OSError as error:
        unreadable = Text(f"无法读取功能目录：{error}", f"the functions folder cannot be read: {error}")
        return [], [BrokenModule(FOLDER, str(unreadable))]
    # After everything that is installed: none can replace a library.
    site.addsitedir(str(packages_dir(folder)))
    sys.path.append(str(folder))
    functions: list[FunctionInfo] = []
    broken: list[BrokenModule] = []
    for name in names:
        found = functions_or_error(name, folder)
        if isinstance(found, str):
            broken.append(BrokenModule(name, found))
        else:
            faulthandler.dump_traceback_later(IMPORT_SECONDS, exit=True)
            importlib.import_module(name)
            faulthandler.cancel_dump_traceback_later()
            functions += found
    modules: dict[tuple[str, str], list[str]] = {}
    for function in functions:
        modules.setdefault(function.key, []).append(function.module)
    twice = {key: list(dict.fromkeys(where)) for key, where in modules.items() if len(where) > 1}
    for (_program, name), where in twice.items():
        refused = Text(
            f"多个功能使用了名称 {name!r}（{'、'.join(where)}）：均不提供",
            f"several functions have the name {name!r}, in {' and '.join(where)}: none is served",
        )
        broken += [BrokenModule(module, str(refused)) for module in where]
    return [function for function in functions if function.key not in twice], broken


def names_in(folder: Path) -> list[str]:
    """Return the names of the modules in a folder: files `*.py` and packages that do not begin with `_` or `.`."""
    found = set()
    for entry in folder.iterdir():
        if entry.name.startswith(("_", ".")):
            continue
        if entry.suffix == ".py" and entry.is_file():
            found.add(_encodable(entry.stem))
        elif (entry / "__init__.py").is_file():
            found.add(_encodable(entry.name))
    return sorted(found)


def functions_or_error(name: str, folder: Path) -> list[FunctionInfo] | str:
    """Import a module in a child process, and return its functions, or what is wrong with it."""
    with os.fdopen(os.memfd_create("found"), "w+b") as file:
        child = os.fork()
        if child == 0:
            faulthandler.enable(file)
            faulthandler.dump_traceback_later(IMPORT_SECONDS, exit=True, file=file)
            try:
                file.write(msgspec.json.encode(_import(name, folder)))
            except BaseException as error:  # noqa: BLE001  # SystemExit included
                lines = traceback.format_exception(type(error), error, _own_traceback(error))
                file.write(_encodable("".join(lines)).replace("\0", "\\x00").encode())
            file.flush()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        file.seek(0)
        found = file.read()
    try:
        return msgspec.json.decode(found, type=list[FunctionInfo])
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = found.decode("utf-8", "replace")[-MAX_ERROR:]
        return said if said and status == 0 else f"{said}\n{how_it_ended(status)}".lstrip()


def _import(name: str, folder: Path) -> list[FunctionInfo]:
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
    before = len(registered)
    importlib.import_module(name)
    return [_info(function) for function in registered[before:]]


def _info(function: CoreFunction) -> FunctionInfo:
    doc = function.function.__doc__
    text = _encodable(doc).strip()[:MAX_DOC] if isinstance(doc, str) else ""
    return FunctionInfo(function.name, function.module, function.json_schema(), text, function.program)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _own_traceback(error: BaseException) -> types.TracebackType | None:
    # Not our own and importlib's.
    ours = {__file__, importlib.__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>"}
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename in ours:
        at = at.tb_next
    return at


Signature = frozenset[tuple[str, tuple[int, ...]]]


def signature(folder: Path) -> Signature:
    """Return a value that changes with content, mode or owner of a file below a folder, and with installed packages."""
    return frozenset({*map(_status, _files(folder)), _status(str(packages_dir(folder)))})


def digest(folder: Path) -> str:
    """Return the SHA-256, in hex, of the names and the content of all files below a folder."""
    whole = hashlib.sha256()
    for path in sorted(_files(folder)):
        content = ""
        if Path(path).is_file():  # a named pipe would wait for its writer
            with contextlib.suppress(OSError), Path(path).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{os.path.relpath(path, folder)}\0{content}\0".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _files(folder: Path) -> Iterator[str]:
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not _is_temporary(name))
        for name in files:
            if not _is_temporary(name):
                yield os.path.join(where, name)  # noqa: PTH118  # of thousands, once a second


def _is_temporary(name: str) -> bool:
    # Hidden, or a swap or backup file of an editor.
    return name.startswith((".", "#")) or name.endswith("~")


def _status(path: str) -> tuple[str, tuple[int, ...]]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # gone, or a link to nowhere
        return path, ()
    # Not ctime, which hard links change.
    return path, (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode, status.st_uid, status.st_gid)
