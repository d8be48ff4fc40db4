"""Rendering of templates: the visitor's language, and escaped texts from clients."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import falcon
from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.filters import do_filesizeformat
from jinja2.runtime import Context
from markupsafe import Markup, escape

from app.console import words
from app.console.static_files import StaticFiles
from app.domain.cards.cards import HIDDEN, format_validity, parse_validity, validity_text
from app.domain.operators.ceilings import format_longest
from app.domain.operators.operators import console_actor, shop_actor
from app.domain.texts import Text
from app.http.customer_messages import MESSAGES
from app.services.field_names import field_name
from app.services.formatting import escaped, takes
from app.services.reports.statistics import ONLINE_WITHIN

if TYPE_CHECKING:
    from app.console.visitor import Visitor

CSRF_FIELD, FORM_NUMBER_FIELD = "csrf", "form_number"
_NUMBER_BYTES = 16
# Made before gunicorn forks, so that all workers share it. Without it a guess at a machine's text could be checked.
_DIGEST_KEY = secrets.token_bytes(32)
_DIGEST_LENGTH = 8
_TEMPLATES = Path(__file__).parent / "templates"


class Renderer:
    """Renders Jinja2 templates with autoescaping; every time is shown in `zone`, the vendor's."""

    def __init__(self, static: StaticFiles, zone: ZoneInfo, clock: Callable[[], datetime]) -> None:
        self._zone = zone
        self._clock = clock
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=_harmless,
            auto_reload=False,
        )
        self._environment.globals.update(
            static=static.url,
            url=url,
            form_number_field=_form_number_field,
            console_actor=console_actor,
            shop_actor=shop_actor,
            zone=zone.key,
            online_within=ONLINE_WITHIN,
            hidden=HIDDEN,
            style=_style,
        )
        self._environment.filters.update(
            when=self._when,
            moment=self._moment,
            instant=datetime.fromisoformat,
            number="{:,}".format,
            validity=_in_language(lambda value: validity_text(_length(value))),
            card_validity=_in_language(lambda value: words.card_validity(_length(value))),
            longest=format_longest,
            lines=_lines,
            takes=takes,
            size=_in_language(_size),
            hardware_digest=_hardware_digest,
        )

    def render(
        self,
        request: falcon.Request,
        response: falcon.Response,
        template: str,
        **values: Any,  # noqa: ANN401  # the template's variables
    ) -> None:
        """Answer with a template.

        It can use `visitor`, `t(zh, en)`, `word(code)`, `told(code)` (what customers read),
        `reason(code)` (why, for the vendor), `here`, its `query`, `now` and `csrf_field`.
        """
        visitor: Visitor = request.context.visitor
        say = visitor.say
        query = {name: value for name, value in request.params.items() if isinstance(value, str)}
        response.content_type = "text/html; charset=utf-8"
        response.text = self._environment.get_template(template).render(
            visitor=visitor,
            t=lambda zh, en: say(Text(zh, en)),
            told=lambda code: say(MESSAGES[code]),
            word=lambda value: say(words.word(value)),
            reason=lambda value: say(words.reason(value)),
            detail_name=lambda name: say(field_name(name)),
            detail=lambda name, value: say(words.detail(name, value)),
            term_name=lambda name: say(words.term_name(name)),
            term_value=lambda name, value: say(words.term_value(name, value)),
            here=request.path,
            query=query,
            here_with=lambda **changes: url(request.path, **{**query, **changes}),
            now=self._clock(),
            csrf_field=Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, visitor.csrf),
            **values,
        )

    def _moment(self, value: datetime | None) -> str:
        """Format a time for people, to the second; the page's last line names the time zone."""
        return "" if value is None else f"{value.astimezone(self._zone):%Y-%m-%d %H:%M:%S}"

    def _when(self, value: datetime | None) -> Markup:
        """Return a time as a `time` element, whose attribute has the offset."""
        if value is None:
            return Markup("<span>—</span>")
        local = value.astimezone(self._zone)
        return Markup('<time datetime="{}">{}</time>').format(local.isoformat(), self._moment(value))


def url(path: str, /, **parameters: object) -> str:  # a query may have a parameter called `path`
    """Return a path with those parameters that are neither None nor empty."""
    said = {name: value for name, value in parameters.items() if value not in {None, ""}}
    return f"{path}?{urlencode(said)}" if said else path


@cache
def _style(name: str) -> Markup:
    return Markup((_TEMPLATES / name).read_text())  # noqa: S704  # ours


def style_source(name: str) -> str:
    """Return how a Content-Security-Policy names such a style sheet: by its digest."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(_style(name).encode()).digest()).decode()}'"


def _hardware_digest(hardware: str, sha256: str | None = None) -> str:
    """Return eight hexadecimal digits by which a seller knows a machine again, until the service restarts."""
    # An entry with only the beginning of the hardware has the digest of all of it.
    whole = sha256 or hashlib.sha256(hardware.encode()).hexdigest()
    return hmac.new(_DIGEST_KEY, whole.encode(), hashlib.sha256).hexdigest()[:_DIGEST_LENGTH]


def _form_number_field() -> Markup:
    """Return the field with a new number for a form that takes effect once (`FormPage.once`)."""
    number = secrets.token_urlsafe(_NUMBER_BYTES)
    # Firefox would fill an old number in again when the page is reloaded.
    return Markup('<input type="hidden" name="{}" value="{}" autocomplete="off">').format(FORM_NUMBER_FIELD, number)


def _harmless(value: Any) -> Any:  # noqa: ANN401  # any value in a template
    """Escape control and bidirectional characters in every text that is not our own markup."""
    if isinstance(value, timedelta):
        return format_validity(value)
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(texts: list[str]) -> Markup:
    return escape("\n".join(map(escaped, texts)))


def _in_language(text_of: Callable[[Any], Text]) -> Callable[[Context, Any], str]:
    return pass_context(lambda context, value: context["visitor"].say(text_of(value)))


def _length(value: timedelta | str | None) -> timedelta | None:
    """Return a validity, which in the journal is a text."""
    return parse_validity(value) if isinstance(value, str) else value


def _size(number: float) -> Text:
    written = do_filesizeformat(number, binary=True)
    return Text(re.sub("Bytes?", "字节", written), written)
