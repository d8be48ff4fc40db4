"""The vendor's terms, which owners see and change."""

from dataclasses import fields

import falcon

from app.console import words
from app.console.form_page import FormPage
from app.console.forms import Form
from app.console.page import Values, program_of, visitor_of
from app.console.rendering import url
from app.domain.cards.cards import format_validity
from app.domain.licence import terms as rules
from app.domain.programs import MAIN
from app.domain.texts import MAX_TEXT, RefusedError, Text
from app.services.imports.import_times import read_validity
from app.services.licence.terms import TermsChangedError, VendorTerms

PATH = "/admin/settings"
_NAMES = tuple(each.name for each in fields(rules.Terms))
_SWITCHES = tuple(each.name for each in fields(rules.Terms) if isinstance(each.default, bool))


class SettingsPage(FormPage):
    """`/admin/settings`: a form with every term. No query fills it in: anybody can send an owner a link."""

    template = "licence/settings.html"

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        typed, seen = _typed(form), form.number("revision")
        if _faults(typed):
            response.status = falcon.HTTP_400
            self.show(request, response, form)
            return None
        terms, program = self.acting(request, VendorTerms), _program(request, form)
        if terms.read(program)[0] != seen:  # before the password: a code works once
            raise TermsChangedError
        self.check_own_password(request, form)
        terms.change(_given(typed), seen, program)
        return url(PATH, done="saved")

    def values(self, request: falcon.Request, form: Form) -> Values:
        """Return a text for each field: the terms in force, or what was typed; `faults` are by field."""
        program = _program(request, form)
        revision, terms = self.acting(request, VendorTerms).read(program)
        is_sent = request.method == "POST"
        now_in_force = {name: rules.write_term(value) for name, value in terms.as_texts().items()}
        typed = _typed(form) if is_sent else now_in_force
        return {
            "program": program,
            "typed": typed,
            "now_in_force": now_in_force,
            "revision": revision,
            "faults": _faults(typed) if is_sent else {},
            "refusal": TermsChangedError().text if is_sent and form.number("revision") != revision else None,
            "bindings": list(rules.BindingTerm),
            "renewals": list(rules.RenewTerm),
            "most_changes": rules.MAX_CHANGES_PER_DAY,
            "most_unbinds": rules.MAX_UNBINDS,
            "most_notice": rules.MAX_NOTICE,
            "most_text": MAX_TEXT,
        }


def _program(request: falcon.Request, form: Form) -> str:
    """Return the program that the form is about, or the chosen one."""
    if request.method == "POST":
        return program_of(request, form)
    return visitor_of(request).program or MAIN


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
            rules.read_terms(rules.Terms(), [(name, text)])
        except RefusedError as error:
            faults[name] = words.with_term_names(error.text)
    if faults:
        return faults
    try:
        rules.read_terms(rules.Terms(), _given(typed))
    except rules.TermsContradictionError as error:
        return dict.fromkeys(error.names, words.with_term_names(error.text))
    return {}
