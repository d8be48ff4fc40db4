"""Pages of the vendor's programs, for owners: added, renamed, removed, and what each needs to be shipped."""

import json
from typing import Any
from urllib.parse import quote

import falcon

from app.console.form_page import FormPage
from app.console.forms import Form, query_of
from app.console.page import Access, Values, visitor_of
from app.console.rendering import url
from app.domain.programs import MAIN
from app.domain.texts import RefusedError
from app.http.problems import not_found
from app.services.programs import DataKeys, ProgramNotFoundError, Programs, card_counts, find, programs
from app.tokens import sealing

LIST, ONE = "/admin/programs", "/admin/program"
MAX_SEALED = 16 * 1024 * 1024


class _ProgramsPage(FormPage):
    def programs(self, request: falcon.Request) -> Programs:
        console = self.console
        return Programs(console.database, visitor_of(request).actor, console.clock, console.sealing_key)

    def pinned(self, program: str) -> dict[str, Any]:
        return self.console.system_status.pinned(program)


class ProgramsPage(_ProgramsPage):
    """`/admin/programs`: all programs, and the form that adds one."""

    template = "licence/programs.html"

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str:
        program = form.one("id")
        self.programs(request).add(program, form.one("name"))
        return url(ONE, id=program, done="added")

    def values(self, _request: falcon.Request, form: Form) -> Values:
        typed = {name: form.one(name) for name in ("id", "name")}
        return {"programs": programs(), "cards": card_counts(), "typed": typed, "main": MAIN}


class ProgramPage(_ProgramsPage):
    """`/admin/program?id=…`: what is shipped with a program, and the form that renames it."""

    template = "licence/program.html"
    takes_query = True

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str | None:
        self.programs(request).rename(form.one("id"), form.one("name"))
        return url(ONE, id=form.one("id"), done="renamed")

    def values(self, _request: falcon.Request, form: Form) -> Values:
        row = _row(form)
        pinned = json.dumps(self.pinned(row.id), ensure_ascii=False)
        can_remove = row.id != MAIN and not card_counts().get(row.id)
        return {"row": row, "pinned": pinned, "can_remove": can_remove, "most": MAX_SEALED}


class RemoveProgramPage(ProgramPage):
    name = "remove"
    leads_to = LIST

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str:
        self.programs(request).remove(_row(form).id)
        return url(LIST, done="removed")


class SealPage(ProgramPage):
    """`/admin/programs/seal`: answers with the uploaded file sealed to a program's data key, and keeps nothing."""

    name = "seal"
    leads_to = LIST
    takes_files = True
    body_bytes = MAX_SEALED + 64 * 1024

    def change(self, _request: falcon.Request, response: falcon.Response, form: Form) -> None:
        row, content = _row(form), form.files.get("file")
        if not content:
            raise RefusedError("请选择要加密的文件", "choose the file to seal")
        keys = DataKeys(self.console.system_status.settings.kernal_data_key, self.console.sealing_key)
        recipient = sealing.age_recipient(keys.open(row.id, row.data_key))
        _download(response, f"{form.file_names['file']}.age", sealing.seal_bytes(content, recipient))


class KeysDownload(_ProgramsPage):
    """`/admin/program/keys?id=…`: the keys for clients to pin, as `cardctl key export` prints them."""

    access = {"GET": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        program = _row(query_of(request)).id
        text = json.dumps(self.pinned(program), ensure_ascii=False, indent=2)
        _download(response, f"kadun-keys-{program}.json", text.encode())


def _row(form: Form) -> Any:  # noqa: ANN401  # a row
    try:
        return find(form.one("id"))
    except ProgramNotFoundError as error:
        raise not_found(error.text) from error


def _download(response: falcon.Response, name: str, content: bytes) -> None:
    response.content_type, response.data = "application/octet-stream", content
    response.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name, safe='')}")
