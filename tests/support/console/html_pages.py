"""What stands in a page: its words, its links, its forms with all that is filled in."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Self


@dataclass
class Form:
    """A form as it stands in a page. `buttons` are its named submit buttons: (name, value, formaction)."""

    action: str
    method: str
    id: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[tuple[str, str, str]] = field(default_factory=list)


class Page(HTMLParser):
    """Reads texts, links as written, and forms with the fields outside of them (`form="…"`) too.

    A form without an action goes to `here`.
    """

    def __init__(self, here: str) -> None:
        super().__init__()
        self._here = here
        self._by_id: dict[str, Form] = {}
        self._outside: list[tuple[str, Any]] = []
        self._open: Form | None = None
        self._select: dict[str, str] | None = None
        self._chosen: str | None = None
        self._textarea: dict[str, str] | None = None
        self._written = ""
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.texts: list[str] = []

    @property
    def words(self) -> str:
        """What a person reads: no tags, white space as one space."""
        return re.sub(r"\s+", " ", " ".join(self.texts))

    @classmethod
    def of(cls, html: str, here: str = "") -> Self:
        page = cls(here)
        page.feed(html)
        page.close()
        return page

    def close(self) -> None:
        super().close()
        for form_id, add in self._outside:
            add(self._by_id[form_id])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(said.get("href", ""))
        elif tag == "form":
            self._open = Form(said.get("action") or self._here, said.get("method", "get"), said.get("id", ""))
            self.forms.append(self._open)
            self._by_id[said.get("id", "")] = self._open
        elif tag == "input" and said.get("name"):
            self._input(said)
        elif tag == "button" and said.get("name"):
            pressed = (said["name"], said.get("value", ""), said.get("formaction", ""))
            self._add(said, lambda form: form.buttons.append(pressed))
        elif tag == "select":
            self._select, self._chosen = said, None
        elif tag == "option" and self._select is not None and ("selected" in said or self._chosen is None):
            self._chosen = said.get("value", "")
        elif tag == "textarea":
            self._textarea, self._written = said, ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "select" and self._select is not None:
            self._field(self._select, self._chosen or "")
            self._select = None
        elif tag == "textarea" and self._textarea is not None:
            self._field(self._textarea, self._written.removeprefix("\n"))
            self._textarea = None

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._textarea is not None:
            self._written += data

    def _input(self, said: dict[str, str]) -> None:
        kind = said.get("type", "text")
        if kind in {"checkbox", "radio"} and "checked" not in said:
            return
        if kind not in {"file", "submit"}:
            self._field(said, said.get("value", "on" if kind == "checkbox" else ""))

    def _field(self, said: dict[str, str], value: str) -> None:
        if said.get("name"):
            self._add(said, lambda form: form.fields.append((said["name"], value)))

    def _add(self, said: dict[str, str], add: Any) -> None:
        if "form" in said:
            self._outside.append((said["form"], add))
        elif self._open is not None:
            add(self._open)
