"""The vendor's terms, which owners see and change."""

from dataclasses import fields

import falcon

from app.console import words
from app.console.form_page import check_own_password, refuse
from app.console.forms import Form, query_of
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.domain.cards import format_validity
from app.domain.terms import (
    MAX_CHANGES_PER_DAY,
    MAX_NOTICE,
    MAX_UNBINDS,
    BindingTerm,
    RenewTerm,
    Terms,
    TermsContradictionError,
    read_terms,
    write_term,
)
from app.domain.texts import MAX_TEXT, RefusedError, Text
from app.services.import_times import read_validity
from app.services.terms import TermsChangedError, VendorTerms

PATH = "/admin/settings"
_NAMES = tuple(each.name for each in fields(Terms))
_SWITCHES = tuple(each.name for each in fields(Terms) if isinstance(each.default, bool))


class SettingsPage(Page):
    """`/admin/settings`: a form with every term."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the terms in force. No query fills in the form: anybody can send an owner a link."""
        revision, terms = self._terms(request).read()
        self._show(request, response, _texts(terms), revision, {})

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change the terms; after a refusal, show the form again with what was typed."""
        form = form_of(request)
        typed, seen = _typed(form), form.number("revision")
        if faults := _faults(typed):
            response.status = falcon.HTTP_400
            self._show(request, response, typed, seen, faults)
            return
        terms = self._terms(request)
        try:
            if terms.read()[0] != seen:  # before the password: a code works once
                raise TermsChangedError
            check_own_password(self.console, request)
            terms.change(_given(typed), seen)
        except RefusedError as error:
            refuse(response, error)
            self._show(request, response, typed, seen, {"": error.text})
        else:
            see_other(response, url(PATH, done="saved"))

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        typed: dict[str, str],
        seen: int | None,
        faults: dict[str, Text],
    ) -> None:
        """Show the form with a text for each field; `faults` are by field, that of the form as a whole is by ""."""
        revision, terms = self._terms(request).read()
        self.render(
            request,
            response,
            "settings.html",
            typed=typed,
            now_in_force=_texts(terms),
            revision=revision,
            faults=faults,
            refusal=faults.get("") if seen == revision else TermsChangedError().text,
            bindings=list(BindingTerm),
            renewals=list(RenewTerm),
            most_changes=MAX_CHANGES_PER_DAY,
            most_unbinds=MAX_UNBINDS,
            most_notice=MAX_NOTICE,
            most_text=MAX_TEXT,
            done=query_of(request).exactly("done"),
        )

    def _terms(self, request: falcon.Request) -> VendorTerms:
        return VendorTerms(self.console.database, visitor_of(request).actor, self.console.clock)


def _texts(terms: Terms) -> dict[str, str]:
    """Return the text of each field of the form."""
    return {name: write_term(value) for name, value in terms.as_texts().items()}


def _typed(form: Form) -> dict[str, str]:
    # Browsers send a text area's lines with CR LF, and nothing for a box that is not ticked.
    texts = {name: form.one(name).replace("\r\n", "\n") for name in _NAMES}
    return texts | {name: texts[name] or "off" for name in _SWITCHES}


def _given(typed: dict[str, str]) -> list[tuple[str, str]]:
    """Return names and texts for `read_terms`; durations may also be written as in other forms of the console."""
    return [(name, _duration(text) if name == "self_unbind_cost" else text) for name, text in typed.items()]


def _duration(text: str) -> str:
    try:
        length = read_validity(text) if text else None
    except RefusedError:
        return text
    return text if length is None else format_validity(length)


def _faults(typed: dict[str, str]) -> dict[str, Text]:
    """Return what is wrong, by field: each field by itself, then fields that contradict each other."""
    faults = {}
    for name, text in _given(typed):
        try:
            read_terms(Terms(), [(name, text)])
        except RefusedError as error:
            faults[name] = words.with_term_names(error.text)
    if faults:
        return faults
    try:
        read_terms(Terms(), _given(typed))
    except TermsContradictionError as error:
        return dict.fromkeys(error.names, words.with_term_names(error.text))
    return {}
