"""Fields of forms about cards: the selected cards, and a duration (presets, or a text field for any other)."""

from datetime import timedelta

from app.console.forms import Form
from app.domain.cards import card_id_of, parse_duration, trade_name
from app.domain.texts import RefusedError, Text
from app.services.import_times import read_validity

MAX_SELECTED = 500
"""The largest page of a list."""
DURATION_PRESETS = {
    "1d": Text("1 天", "1 day"),
    "7d": Text("7 天", "7 days"),
    "30d": Text("30 天", "30 days"),
    "90d": Text("90 天", "90 days"),
    "365d": Text("365 天", "365 days"),
}
VALIDITY_PRESETS = {
    value: Text(f"{trade_name(parse_duration(value))}（{length.zh}）", length.en)
    for value, length in DURATION_PRESETS.items()
}
OTHER = "other"


def selected_ids(form: Form, *names: str) -> list[str]:
    """Return the IDs of the cards in the fields of these names, each once."""
    ids = list(dict.fromkeys(card_id_of(text) for name in names for text in form.all(name) if text.strip()))
    if not ids:
        raise RefusedError("没有选中任何卡密，请返回勾选", "no card is selected: go back and tick some")
    if len(ids) > MAX_SELECTED:
        raise RefusedError(f"一次最多 {MAX_SELECTED} 张", f"at most {MAX_SELECTED} at a time")
    return ids


def read_duration(form: Form, name: str, default: str) -> timedelta | None:
    """Return the preset in the field `name`, or the duration typed in `name`_other; None is permanent."""
    choice, typed = form.one(name) or default, form.one(f"{name}_other")
    if choice == OTHER and not typed:
        raise RefusedError("请填写时长，例如 45d、12h 或 3天", "enter a duration, such as 45d or 12h")
    validity = read_validity(typed if choice == OTHER else choice)
    if typed and read_validity(typed) != validity:
        raise RefusedError(
            f"选择的时长与填写的“{typed}”不一致：请选“其他”，或清空填写的内容",
            f"“{typed}” is typed, but a preset is selected: select “Other”, or clear the field",
        )
    return validity
