"""What a vendor might install, good and bad: the functions that tests of `POST /v1/execute` call."""

import encodings.idna  # noqa: F401  # for socket.create_connection, where calls cannot read Python's folder
import socket
import sys
import time
from typing import Annotated, Any

import msgspec

from app.functions import Caller, core_function


class Order(msgspec.Struct, forbid_unknown_fields=True):
    amount: Annotated[int, msgspec.Meta(ge=1)]
    to: str = "CNY"
    note: str | None = None


@core_function("求和")
def add(arguments: dict[str, Any], caller: Caller) -> object:
    return {"sum": arguments["a"] + arguments["b"]}


@core_function("来者")
def who(arguments: dict[str, Any], caller: Caller) -> object:
    until = caller.expires_at
    return [caller.card_id, caller.client_id, None if until is None else until.isoformat()]


@core_function("下单")
def order(arguments: Order, caller: Caller) -> object:
    return arguments.amount


@core_function("原样")
def echo(arguments: dict[str, Any], caller: Caller) -> object:
    return arguments["value"]


@core_function("泄密")
def leak(arguments: dict[str, Any], caller: Caller) -> object:
    raise ValueError(f"password {arguments['secret']} refused")


@core_function("怪话")
def odd(arguments: dict[str, Any], caller: Caller) -> object:
    raise ValueError("NUL \0, half a pair \ud800, \x1b[31mred")


@core_function("唠叨")
def chatty(arguments: dict[str, Any], caller: Caller) -> object:
    sys.stdout.write("the beginning " + "x" * 100_000 + " then\nhalf a thing \0\x1b[31m\n")
    while arguments.get("for ever"):
        time.sleep(60)
    return 1


@core_function("等待")
def wait(arguments: dict[str, Any], caller: Caller) -> object:
    """Say that it has begun, and go on when it is told to."""
    with socket.create_connection(("127.0.0.1", arguments["port"])) as connection:
        connection.recv(1)
    return "done"
