"""Everything that the kit's server can do, in the order in which it is tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadun.hostile import controls, lies_claims, lies_http, lies_keys, lies_sealed, lies_tokens

if TYPE_CHECKING:
    from kadun.hostile.world import Scenario

CONTROLS: tuple[Scenario, ...] = tuple(controls.controls())
LIES: tuple[Scenario, ...] = (
    *lies_claims.lies(),
    *lies_tokens.lies(),
    *lies_keys.lies(),
    *lies_sealed.lies(),
    *lies_http.lies(),
)
