"""The core data: shipping rates by zone."""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, Decimal, InvalidOperation

HEAVIEST_KG = 1000


class Tariff:
    """Rates for a first and each further kilogram."""

    def __init__(self, core: bytes) -> None:
        """Read the unsealed core data.

        Raises:
            ValueError: the data has another form.
        """
        try:
            self._zones = {
                zone: (Decimal(rates["first_kg"]), Decimal(rates["further_kg"]))
                for zone, rates in json.loads(core)["zones"].items()
            }
        except (ValueError, TypeError, KeyError, AttributeError, InvalidOperation):
            raise ValueError("the core data contains no table of rates") from None

    @property
    def zones(self) -> list[str]:
        """The names of the zones."""
        return list(self._zones)

    def price(self, zone: str, kilograms: str) -> Decimal:
        """Return the price of a parcel; each started kilogram counts.

        Raises:
            ValueError: the zone or the weight is invalid.
        """
        try:
            weight = Decimal(kilograms)
        except InvalidOperation:
            raise ValueError(kilograms) from None
        if zone not in self._zones or not weight.is_finite() or not 0 < weight <= HEAVIEST_KG:
            raise ValueError(f"{zone} {kilograms}")
        first, further = self._zones[zone]
        return first + further * (weight.to_integral_value(ROUND_CEILING) - 1)
