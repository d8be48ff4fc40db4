"""Query strings, forms and uploaded files: bounded, and text that PostgreSQL can store; and the fields about cards."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import parse_qs

import falcon
from falcon.media.multipart import MultipartFormHandler

from app.domain.cards.cards import card_id_of, parse_duration, trade_name
from app.domain.texts import RefusedError, Text
from app.http.problems import body_too_large, invalid_request, unsupported_media_type
from app.services.imports.import_times import read_validity

MAX_FIELDS = 5_000
PROOFS = OWN_PASSWORD, OWN_CODE = "own_password", "own_code"
"""The fields by which an operator shows who they are."""
_MAX_DIGITS = 18  # such a number fits into PostgreSQL's bigint
_MULTIPART_PARTS = 8
_PART_HEADERS_BYTES = 1024
"""A file's name of 255 characters fits. Falcon's parser takes quadratic time for what somebody made to be slow."""
_MAX_CONTENT_TYPE = 200
"""In characters; browsers' are half as long. It goes through the same parser."""
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


@dataclass(frozen=True, slots=True)
class Form:
    """The values of each field, and the content and the name of each file, by the field's name."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    file_names: dict[str, str] = field(default_factory=dict)

    def one(self, name: str) -> str:
        """Return a field's only value without surrounding white space, "" if it is missing."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise invalid_request(Text(f"{name} 出现多次", f"{name} has several values"), name)
        return values[0].strip() if values else ""

    def exactly(self, name: str) -> str:
        """Return a field's first value exactly as sent, "" if it is missing: for passwords and texts from clients."""
        return self.fields.get(name, [""])[0]

    def number(self, name: str) -> int | None:
        """Return a field's only value as a whole number of at most 18 digits, None if it is anything else."""
        text = self.one(name)
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None

    def all(self, name: str) -> list[str]:
        return self.fields.get(name, [])

    def digest(self) -> str:
        """Return the SHA-256, in hex, of all fields but proofs of who sends them, and of all files."""
        fields = {name: values for name, values in self.fields.items() if name not in PROOFS}
        files = {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}
        return hashlib.sha256(json.dumps([fields, files], sort_keys=True).encode()).hexdigest()


def query_of(request: falcon.Request) -> Form:
    return Form(_fields(request.query_string.encode("utf-8", "surrogatepass")))


def read_form(request: falcon.Request, limit_bytes: int, *, takes_files: bool = False) -> Form:
    """Read the form in a request's body: URL-encoded, and multipart only where a page takes files."""
    if (request.content_length or 0) > limit_bytes:
        raise body_too_large(limit_bytes)
    content_type = request.content_type or ""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data" and takes_files and len(content_type) <= _MAX_CONTENT_TYPE:
        return _read_multipart(request, limit_bytes)
    if kind != "application/x-www-form-urlencoded":
        raise unsupported_media_type()
    body = request.bounded_stream.read(limit_bytes + 1)
    if len(body) > limit_bytes:
        raise body_too_large(limit_bytes)
    return Form(_fields(body))


def selected_ids(form: Form, *names: str) -> list[str]:
    """Return the IDs of the cards in the fields of these names, each once; at least one."""
    ids = list(dict.fromkeys(card_id_of(text) for name in names for text in form.all(name) if text.strip()))
    if not ids:
        raise invalid_request(Text("没有选中任何卡密，请返回勾选", "no card is selected: go back and tick some"))
    if len(ids) > MAX_SELECTED:
        raise invalid_request(Text(f"一次最多 {MAX_SELECTED} 张", f"at most {MAX_SELECTED} at a time"))
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


def _fields(encoded: bytes) -> dict[str, list[str]]:
    try:
        fields = parse_qs(encoded.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise _not_text() from error
    return {name: [_storable(value) for value in values] for name, values in fields.items()}


def _read_multipart(request: falcon.Request, limit_bytes: int) -> Form:
    if request.content_length is None:
        raise _not_text()
    handler = MultipartFormHandler()
    handler.parse_options.max_body_part_count = _MULTIPART_PARTS
    handler.parse_options.max_body_part_headers_size = _PART_HEADERS_BYTES
    handler.parse_options.max_body_part_buffer_size = limit_bytes
    form = Form()
    try:
        for part in handler.deserialize(request.bounded_stream, request.content_type, request.content_length):
            if part.name is None:
                raise _not_text()
            if part.filename is not None:
                form.files[part.name], form.file_names[part.name] = part.get_data(), _storable(part.filename)
            else:
                form.fields.setdefault(part.name, []).append(_storable(part.get_data().decode("utf-8")))
    except (falcon.HTTPError, UnicodeDecodeError) as error:
        raise _not_text() from error
    return form


def _storable(text: str) -> str:
    if "\0" in text:
        raise _not_text()
    return text


def _not_text() -> Exception:
    return invalid_request(Text("表单内容无法识别", "The form cannot be read: it is not text in UTF-8."))
