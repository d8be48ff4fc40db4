"""Changes of a card's batch and note, the vendor's own texts."""

from collections.abc import Mapping
from typing import NamedTuple

from app.domain.texts import RefusedError, check_text


class Texts(NamedTuple):
    """A card's batch and note; None if not set."""

    batch: str | None
    note: str | None


def check_edit(changes: Mapping[str, str | None]) -> None:
    """Refuse changes of nothing, or to an invalid text; a name that is not in `changes` stays, None clears."""
    if not changes:
        raise RefusedError("请选择要修改的内容：批次或备注", "choose what to change: the batch or the note")
    for name in Texts._fields:
        check_text(name, changes.get(name))


def journalled(before: Texts, changes: Mapping[str, str | None]) -> dict[str, object] | None:
    """Return what the journal has of an edit: the changed texts, and what they were; None if nothing changes."""
    was = before._asdict()
    changed = {name: text for name, text in changes.items() if text != was[name]}
    if not changed:
        return None
    return {**{name: text or "" for name, text in changed.items()}, "before": {name: was[name] for name in changed}}
