"""What comes of a call: one JSON object, told apart by its `outcome`."""

from datetime import datetime
from typing import Annotated, Any

import msgspec


class Returned(msgspec.Struct, frozen=True, tag="ok", tag_field="outcome"):
    """The function returned `result`, a JSON value."""

    result: Any


class NotFound(msgspec.Struct, frozen=True, tag="not_found", tag_field="outcome"):
    """There is no such function."""


class Invalid(msgspec.Struct, frozen=True, tag="invalid", tag_field="outcome"):
    """The arguments do not fit: `field` is like `arguments.amount`, `message` says what is wrong with it.

    The message is empty where the vendor's own check refused: what that says is printed, for the vendor's eyes alone.
    """

    field: str
    message: str


class Failed(msgspec.Struct, frozen=True, tag="failed", tag_field="outcome"):
    """There is no result: `detail` says why, for the vendor's eyes alone; at most 4,000 characters, no NUL."""

    detail: str


class TimedOut(msgspec.Struct, frozen=True, tag="timeout", tag_field="outcome"):
    """The function did not end in time: `detail` is the end of what it printed, and for the vendor as in `Failed`."""

    detail: str = ""


Outcome = Returned | NotFound | Invalid | Failed | TimedOut


class CallResult(msgspec.Struct, frozen=True):
    """The answer to `POST /call`: the outcome, and the end of what was printed, unless its `detail` has that."""

    outcome: Outcome
    printed: str


class FunctionInfo(msgspec.Struct, frozen=True):
    """A function that can be called; `schema` is the JSON schema of its arguments, where they are checked."""

    name: str
    module: str
    schema: dict[str, Any] | None
    doc: str


class BrokenModule(msgspec.Struct, frozen=True):
    """A module that is not served, and why: a traceback, or a line that says what is wrong."""

    module: str
    error: str


class Listing(msgspec.Struct, frozen=True):
    """What the service serves. `generation` counts how often it has loaded the modules."""

    functions: list[FunctionInfo]
    broken: list[BrokenModule]
    generation: int


class CallerFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who calls, as it travels."""

    card_id: str
    client_id: str
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None


class CallRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST /call`."""

    function: str
    arguments: dict[str, Any]
    caller: CallerFacts
