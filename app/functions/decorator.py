"""The `@core_function` decorator, with which a module of the vendor registers a function."""

import inspect
import types
import typing
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from app.domain.policy import OPEN_PROGRAM
from app.domain.texts import RefusedError

MAX_NAME = 64
_UNSPEAKABLE = ("Cc", "Cs")  # control characters and lone surrogates: no request may hold them, no log should
Decorated = TypeVar("Decorated", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls a function: an accepted card and its client. `expires_at` is in UTC, None for a permanent card."""

    card_id: str
    client_id: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CoreFunction:
    """A function, and the type of its arguments; None where any JSON object will do."""

    name: str
    function: Callable[..., object]
    schema: Any

    @property
    def module(self) -> str:
        """The module, or the package, that defines it."""
        return self.function.__module__.partition(".")[0]

    def json_schema(self) -> dict[str, Any] | None:
        """Return the JSON schema of its arguments, None where any object will do."""
        return None if self.schema is None else msgspec.json.schema(self.schema)


registered: list[CoreFunction] = []
"""What the modules imported in this process have offered so far, in order."""


def core_function(name: str, *, schema: Any = None) -> Callable[[Decorated], Decorated]:  # noqa: ANN401  # any type
    """Offer the function below to clients, under a name: `f(arguments, caller)`, whose result must be a JSON value.

    Args:
        name: What a client asks for: 1 to 64 characters, no control characters, of one function only.
        schema: The type that `arguments` must fit and is converted to, as msgspec takes it: a `Struct`, `TypedDict`,
            dataclass, `dict[str, int]`, … Without it the annotation of the first parameter counts; plain `dict`,
            or nothing, stands for any JSON object.

    Raises:
        RefusedError: the name will not do, or what stands below cannot be called so, or its arguments cannot be
            checked against such a type.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME:
        raise RefusedError(
            f'core_function 需要 1 到 {MAX_NAME} 个字符的名称：@core_function("名称")',
            f'core_function needs a name of 1 to {MAX_NAME} characters: @core_function("name")',
        )
    if any(unicodedata.category(character) in _UNSPEAKABLE for character in name):
        raise RefusedError(
            f"功能名称 {name!a} 含有控制字符或不成对的代理字符",
            f"the name {name!a} holds a control character or a lone surrogate",
        )
    if name == OPEN_PROGRAM:
        raise RefusedError(
            f"{OPEN_PROGRAM} 用于打开程序，不能作为核心功能：请换一个名称",
            f"{OPEN_PROGRAM} is what opens the program, and no core function: choose another name",
        )

    def offer(function: Decorated) -> Decorated:
        first = _first_parameter(name, function)
        made = CoreFunction(name, function, _type_of_arguments(function, first) if schema is None else schema)
        try:
            made.json_schema()
        except TypeError as error:
            raise RefusedError(
                f"{name} 的参数类型无法校验：{error}", f"the arguments of {name} cannot be checked: {error}"
            ) from error
        registered.append(made)
        return function

    return offer


def _first_parameter(name: str, function: Callable[..., object]) -> str:
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        raise RefusedError(
            f"@core_function({name!r}) 只能用于普通函数，不能用于类或协程",
            f"@core_function({name!r}) must stand above a plain function, no class and no coroutine",
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
    """Return the type that a parameter is annotated with, None where that says nothing."""
    annotation = function.__annotations__.get(parameter)
    # This parameter alone: the others may be annotated with what is imported for type checkers only.
    only = types.SimpleNamespace(__annotations__={parameter: annotation})
    wanted = typing.get_type_hints(only, function.__globals__, include_extras=True)[parameter]
    says_nothing = wanted in (type(None), Any, object, dict, typing.Dict, dict[str, Any])  # noqa: UP006  # vendors write it
    return None if says_nothing else wanted
