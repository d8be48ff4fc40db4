"""The messages of the functions service: those of its API, and those between its own processes."""

from typing import Any

import msgspec

from app.domain.programs import MAIN
from app.functions.decorator import Caller


class Returned(msgspec.Struct, frozen=True, tag="ok", tag_field="outcome"):
    """The function returned `result`, a JSON value."""

    result: Any


class NotFound(msgspec.Struct, frozen=True, tag="not_found", tag_field="outcome"):
    """There is no such function."""


class Invalid(msgspec.Struct, frozen=True, tag="invalid", tag_field="outcome"):
    """The arguments are invalid: `field` is like `arguments.amount`, `message` says what is wrong with it.

    The message is empty where the vendor's own check refused: its message is printed, for the vendor only.
    """

    field: str
    message: str


class Failed(msgspec.Struct, frozen=True, tag="failed", tag_field="outcome"):
    """The function failed: `detail` says why, for the vendor only; at most 4,000 characters, no NUL."""

    detail: str


class TimedOut(msgspec.Struct, frozen=True, tag="timeout", tag_field="outcome"):
    """The function did not end in time: `detail` is the end of what it printed, for the vendor only."""

    detail: str = ""


Outcome = Returned | NotFound | Invalid | Failed | TimedOut


class CallResult(msgspec.Struct, frozen=True):
    """The answer to `POST /call`: the outcome, and the end of what was printed unless `detail` has it."""

    outcome: Outcome
    printed: str


class FunctionInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function that can be called; `schema` is the JSON schema of its arguments if they are checked."""

    name: str
    module: str
    schema: dict[str, Any] | None
    doc: str
    program: str = MAIN

    @property
    def key(self) -> tuple[str, str]:
        """What it is called by: its program, and its name."""
        return self.program, self.name


class BrokenModule(msgspec.Struct, frozen=True):
    """A module that could not be loaded; `error` is a traceback, or a line that says what is wrong."""

    module: str
    error: str


class Listing(msgspec.Struct, frozen=True):
    """The answer to `GET /functions`. `generation` is how often the modules were loaded.

    `sha256` is the digest of all files of the folder as loaded: hosts compare it. An older service tells none.
    """

    functions: list[FunctionInfo]
    broken: list[BrokenModule]
    generation: int
    sha256: str = ""


class CallRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /call`; `address` is what counts as the client's address, None for an operator's call."""

    function: str
    arguments: dict[str, Any]
    caller: Caller
    address: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The function's, as `FunctionInfo` has it."""
        return self.caller.program, self.function


class Limits(msgspec.Struct, frozen=True):
    """The limits of one call: time in seconds, memory and the result as JSON in bytes."""

    seconds: int
    memory_bytes: int
    result_bytes: int


Start = tuple[str, Limits]
"""What a zygote is started with: the folder of the modules, and the limits of a call."""
Contents = tuple[list[FunctionInfo], list[BrokenModule]]
"""What a zygote has imported, and which modules are broken; it says so in a line of JSON."""
