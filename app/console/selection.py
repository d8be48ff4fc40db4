"""The selection of cards in a form."""

from app.console.forms import Form
from app.domain.cards import parse_card_id
from app.domain.texts import RefusedError

MAX_SELECTED = 500
"""The largest page of a list."""


def selected_ids(form: Form, *names: str) -> list[str]:
    """Return the IDs of the cards in the fields of these names, each once.

    Raises:
        RefusedError: the selection is empty, too large, or contains an invalid card ID.
    """
    ids = []
    for text in dict.fromkeys(text for name in names for text in form.all(name)):
        card_id = parse_card_id(text)
        if card_id is None:
            raise RefusedError("选中的不是卡密", "the selection contains an invalid card ID")
        ids.append(card_id)
    if not ids:
        raise RefusedError("没有选中任何卡密，请返回勾选", "no card is selected: go back and tick some")
    if len(ids) > MAX_SELECTED:
        raise RefusedError(f"一次最多 {MAX_SELECTED} 张", f"at most {MAX_SELECTED} at a time")
    return ids
