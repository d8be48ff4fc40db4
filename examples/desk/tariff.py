"""The core data: shipping rates by zone."""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, Decimal, InvalidOperation

HEAVIEST_KG = 1000


class Tariff:
    """Rates for a first and each further kilogram, from the unsealed core data."""

    def __init__(self, core: bytes) -> None:
        """Read the core data; ValueError if it has another form."""
        try:
            self._zones = {
                zone: (Decimal(rates["first_kg"]), Decimal(rates["further_kg"]))
                for zone, rates in json.loads(core)["zones"].items()
            }
        except (ValueError, TypeError, KeyError, AttributeError, InvalidOperation):
            raise ValueError("the core data contains no table of rates") from None
        self.zones = list(self._zones)

    def price(self, zone: str, kilograms: str) -> Decimal:
        """Return the price of a parcel, in which each started kilogram counts; ValueError if the weight is invalid."""
        try:
            weight = Decimal(kilograms)
        except InvalidOperation:
            raise ValueError(kilograms) from None
        if not weight.is_finite() or not 0 < weight <= HEAVIEST_KG:
            raise ValueError(kilograms)
        first, further = self._zones[zone]
        return first + further * (weight.to_integral_value(ROUND_CEILING) - 1)
