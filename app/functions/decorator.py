"""The `@core_function` decorator, with which a module of the vendor registers a function."""

import inspect
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar
from unicodedata import category

import msgspec

from app.domain.licence.policy import OPEN_PROGRAM
from app.domain.programs import MAIN, PROGRAM_PATTERN
from app.domain.texts import RefusedError

MAX_NAME = 64
_NOT_ALLOWED = {"Cc", "Cs"}  # control characters and lone surrogates
Decorated = TypeVar("Decorated", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a function: an accepted card of a program, and its client.

    `expires_at` is in UTC, None for a permanent card.
    """

    card_id: str
    client_id: str
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None
    program: str = MAIN


@dataclass(frozen=True, slots=True)
class CoreFunction:
    """A registered function; `schema` is the type of its arguments, None for any JSON object."""

    name: str
    function: Callable[..., object]
    schema: Any
    program: str = MAIN

    @property
    def key(self) -> tuple[str, str]:
        """What it is called by: its program, and its name."""
        return self.program, self.name

    @property
    def module(self) -> str:
        """The module, or the package, that defines it."""
        return self.function.__module__.partition(".")[0]

    def json_schema(self) -> dict[str, Any] | None:
        """Return the JSON schema of its arguments, None for any JSON object."""
        return None if self.schema is None else msgspec.json.schema(self.schema)


registered: list[CoreFunction] = []
"""The functions of the modules imported in this process so far, in order."""


def core_function(
    name: str,
    *,
    schema: Any = None,  # noqa: ANN401  # any type
    program: str = MAIN,
) -> Callable[[Decorated], Decorated]:
    """Register the decorated function, `f(arguments, caller)`, under a name; its result must be a JSON value.

    Args:
        name: What a client calls: 1 to 64 characters, no control characters, of one function of a program only.
        schema: The type that `arguments` must fit and is converted to, as msgspec takes it: a `Struct`, `TypedDict`,
            dataclass, `dict[str, int]`, … Default: the annotation of the first parameter; `dict` or none means any
            JSON object.
        program: The ID of the program whose cards may call it.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not _NOT_ALLOWED.isdisjoint(map(category, name)):
        raise RefusedError(
            f"core_function 需要 1 到 {MAX_NAME} 个字符的名称，不含控制字符",
            f"core_function needs a name of 1 to {MAX_NAME} characters, without control characters",
        )
    if name == OPEN_PROGRAM:
        raise RefusedError(
            f"{OPEN_PROGRAM} 用于打开程序，不能作为核心功能：请换一个名称",
            f"{OPEN_PROGRAM} opens the program and cannot name a core function: choose another name",
        )

    if not isinstance(program, str) or re.match(PROGRAM_PATTERN, program) is None:
        raise RefusedError(
            f"{name} 的 program 必须是程序 ID", f"the program of {name} must be the ID of one of your programs"
        )

    def register(function: Decorated) -> Decorated:
        first = _first_parameter(name, function)
        kind = _type_of_arguments(function, first) if schema is None else schema
        core = CoreFunction(name, function, kind, program)
        try:
            core.json_schema()
        except TypeError as error:
            raise RefusedError(
                f"{name} 的参数类型无法校验：{error}", f"the arguments of {name} cannot be checked: {error}"
            ) from error
        registered.append(core)
        return function

    return register


def _first_parameter(name: str, function: Callable[..., object]) -> str:
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        raise RefusedError(
            f"@core_function({name!r}) 只能用于普通函数，不能用于类或协程",
            f"@core_function({name!r}) can decorate a plain function only, not a class or a coroutine",
        )
    signature = inspect.signature(function)
    try:
        signature.bind({}, None)
    except TypeError as error:
        raise RefusedError(
            f"{function.__name__} 必须接受 (arguments, caller)：{error}",
            f"{function.__name__} must take (arguments, caller): {error}",
        ) from error
    return next(iter(signature.parameters))


def _type_of_arguments(function: Callable[..., object], parameter: str) -> Any:  # noqa: ANN401  # any type
    annotation = function.__annotations__.get(parameter)
    # Only this parameter: the others may be annotated with names that are imported for type checkers only.
    only = types.SimpleNamespace(__annotations__={parameter: annotation})
    found = typing.get_type_hints(only, function.__globals__, include_extras=True)[parameter]
    is_any_object = found in (type(None), Any, object, dict, typing.Dict, dict[str, Any])  # noqa: UP006  # vendors write it
    return None if is_any_object else found
