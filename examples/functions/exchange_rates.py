"""汇率换算: a core function. It runs on the server; the rates never reach a customer's machine.

Put this file into the server's functions folder (`data/functions`); see docs/files-and-functions.md.
"""

from decimal import Decimal
from typing import Annotated

import msgspec

from app.functions import Caller, core_function

RATES = {"CNY": Decimal(1), "USD": Decimal("7.12"), "EUR": Decimal("8.21"), "HKD": Decimal("0.916")}
CENT = Decimal("0.01")


class Conversion(msgspec.Struct, forbid_unknown_fields=True):
    """The arguments; invalid ones are refused before `convert` runs, with the name of the field."""

    amount: Annotated[float, msgspec.Meta(ge=0, le=1_000_000_000)]
    source: str = "USD"
    target: str = "CNY"


@core_function("汇率换算")
def convert(arguments: Conversion, caller: Caller) -> dict[str, str | None]:
    """Convert an amount between two currencies."""
    for currency in (arguments.source, arguments.target):
        if currency not in RATES:
            return {"error": f"汇率表里没有 {currency} / no rate for {currency}"}
    amount = (Decimal(str(arguments.amount)) * RATES[arguments.source] / RATES[arguments.target]).quantize(CENT)
    until = None if caller.expires_at is None else caller.expires_at.isoformat()
    return {"amount": str(amount), "currency": arguments.target, "card_until": until}
