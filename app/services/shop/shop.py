"""What shops (发卡平台) do with cards: each order takes effect once, however often it is sent."""

from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from app.domain.cards.card_actions import Action
from app.domain.operators.operators import shop_actor
from app.domain.programs import MAIN
from app.domain.texts import RefusedError
from app.runtime.clock import Clock
from app.services.cards.card_actions import CardActions
from app.services.cards.card_lists import CardLists
from app.services.cards.exports import issued_documents
from app.services.cards.issuing import Issuing
from app.services.formatting import local, seconds
from app.services.operators.ceilings import OwnerLimits
from app.services.programs import ProgramNotFoundError
from app.services.shop.idempotency import Answer, Document, Idempotency, Owner, Request
from app.services.shop.shop_tokens import ShopToken
from app.storage.database import Database


class OtherProgramError(RefusedError):
    """The token does not issue cards of this program, or there is no such program."""

    def __init__(self, program: str) -> None:
        super().__init__(f"此令牌不能发程序 {program} 的卡密", f"the token issues no cards of the program {program}")


@dataclass(frozen=True, slots=True)
class Shop:
    """The shops' orders on one database; the times in answers are in `timezone`, the vendor's."""

    database: Database
    timezone: ZoneInfo
    clock: Clock

    def issue(  # noqa: PLR0913  # the parts of an order
        self,
        shop: ShopToken,
        order: Request,
        count: int,
        validity: timedelta | None,
        batch: str | None = None,
        note: str | None = None,
        program: str | None = None,
    ) -> Answer:
        """Issue new cards of a program, by default the token's or `main`.

        Raise as `Idempotency.run`, RefusedError or CeilingExceededError; OtherProgramError if the token is for another
        program, or there is none of that ID.
        """
        issuing = Issuing(self.database, shop_actor(shop.name), self.clock, self._limits(shop))

        chosen = program or shop.program or MAIN
        if shop.program not in {None, chosen}:
            raise OtherProgramError(chosen)

        def act() -> Document:
            try:
                issued = issuing.issue(count, validity, batch, note, chosen).cards
            except ProgramNotFoundError as error:
                raise OtherProgramError(chosen) from error
            return {"cards": list(issued_documents(issued))}

        return Idempotency(self.database, self.clock).run(order, act)

    def change(
        self, shop: ShopToken, order: Request, action: Action, card_ids: list[str], by: timedelta | None
    ) -> Answer:
        """Apply an action to cards, all or none, or raise as `Idempotency.run`.

        Raise CardNotFoundError if one of the cards does not exist, or another issued it and the token is for its own
        only; RefusedError if the action is not allowed on one of them; CeilingExceededError if a card would last longer
        than the token may make it, or the token changed too many cards today.
        """
        actions = CardActions(
            self.database, shop_actor(shop.name), self.clock, self._limits(shop), _issuer(shop), shop.program
        )

        def act() -> Document:
            result = actions.apply(action, card_ids, by)
            return {"changed": result.changed, "revived_unbound": result.revived_unbound}

        return Idempotency(self.database, self.clock).run(order, act)

    def _limits(self, shop: ShopToken) -> OwnerLimits:
        return OwnerLimits(Owner(token_id=shop.id), self.timezone)

    def look_up(self, shop: ShopToken, card_id: str) -> Document:
        """Return a card by its ID as typed; of its client only whether there is one and when it was last seen.

        Raise CardNotFoundError if there is no such card, or another issued it and the token is for its own only.
        """
        row = CardLists(self.clock).get(card_id, _issuer(shop), shop.program)
        return {
            "id": row.id,
            "status": row.status,
            "validity_seconds": seconds(row.validity),
            "activated_at": local(row.activated_at, self.timezone),
            "expires_at": local(row.expires_at, self.timezone),
            "frozen": row.frozen_at is not None,
            "batch": row.batch,
            "note": row.note,
            "created_at": local(row.created_at, self.timezone),
            "bound": row.client is not None,
            "last_seen_at": local(row.used_at, self.timezone),
        }


def _issuer(shop: ShopToken) -> Owner | None:
    """Return whose cards alone exist for a shop, None for a token for all cards."""
    return Owner(token_id=shop.id) if shop.own_cards_only else None
