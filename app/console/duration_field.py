"""The field for a duration in forms: presets, and a text field for any other duration."""

from datetime import timedelta

from app.console.forms import Form
from app.domain.texts import RefusedError, Text
from app.services.import_cells import READERS

DURATION_PRESETS = {
    "1d": Text("1 天", "1 day"),
    "7d": Text("7 天", "7 days"),
    "30d": Text("30 天", "30 days"),
    "90d": Text("90 天", "90 days"),
    "365d": Text("365 天", "365 days"),
}
OTHER = "other"


def read_duration(form: Form, name: str, default: str) -> timedelta | None:
    """Return the preset in the field `name`, or the duration typed in `name`_other; None is permanent.

    Raises:
        RefusedError: it is not a duration, or another one is typed beside a preset.
    """
    choice, typed = form.one(name) or default, form.one(f"{name}_other")
    if choice == OTHER and not typed:
        raise RefusedError("请填写时长，例如 45d、12h 或 3天", "enter a duration, such as 45d or 12h")
    validity: timedelta | None = READERS["validity"](typed if choice == OTHER else choice)
    if typed and READERS["validity"](typed) != validity:
        raise RefusedError(
            f"选择的时长与填写的“{typed}”不一致：请选“其他”，或清空填写的内容",
            f"“{typed}” is typed, but a preset is selected: select “Other”, or clear the field",
        )
    return validity
