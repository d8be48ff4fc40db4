"""The page that imports cards sold before from a file: checked first, then imported, all or none."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import falcon

from app.console.form_page import FormPage
from app.console.forms import Form
from app.console.page import Console, Values, program_of
from app.console.rendering import url
from app.domain.imports import Chosen
from app.domain.texts import RefusedError
from app.http.problems import unavailable
from app.runtime.greenlets import in_thread
from app.services.cards.issuing import Issuing
from app.services.imports import imports
from app.services.imports.import_columns import NAMES
from app.services.imports.import_files import is_workbook
from app.services.imports.import_times import read_validity
from app.services.imports.imports import Reading

MAX_BYTES = 5 * 1024 * 1024
_BODY_BYTES = MAX_BYTES + 64 * 1024
_FAULTS = 500
_READING_SECONDS = 180
"""What the largest file takes to be read on a busy server with one core, at most."""
_CARDS = 10


class ImportPage(FormPage):
    template = "imports/import.html"
    body_bytes = _BODY_BYTES
    takes_files = True

    # A file of 5 MB takes some 60 MB while it is read (measured), and the container has room for one in each process.
    # XLSX takes up to 160 MB more, in a process that the kernel ends first (docs/decisions.md).
    _reading = threading.Lock()

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        issuing = self.service(request, Issuing)

        # The turn is taken here: the same form sent again waits for the first one's answer instead of getting a 503.
        def act() -> dict[str, Any]:
            self.console.database.allow_idle(_READING_SECONDS)
            with self._turn():
                reading = _read(form, self.console, program_of(request, form))
                if form.one("seen") != _digest(form):
                    raise RefusedError(
                        "文件、有效期或程序与核对时不同，未导入，请重新核对",
                        "this is not the file, the validity or the program that was checked: check it again",
                    )
                if reading.faults or not reading.cards:
                    raise RefusedError("文件有误，未导入任何卡密", "the file has errors, nothing was imported")
                entry = issuing.import_cards(reading.cards)
            location = url("/admin/cards/done", form=form.digest())
            return {"location": location, "action": "import", "at": entry.at.isoformat(), **(entry.details or {})}

        if form.one("step") == "import":
            if self._is_large(form) and self.is_first(request, form):
                self.check_own_password(request, form)
            return self.once(request, response, form, act)
        with self._turn():
            reading = _read(form, self.console, program_of(request, form))
            self.show(
                request,
                response,
                form,
                reading=reading,
                summary=in_thread(lambda: imports.summary(reading)),
                warnings=in_thread(lambda: imports.warnings(reading)),
                faults=reading.faults[:_FAULTS],
                sample=reading.cards[:_CARDS],
            )
        return None

    def values(self, _request: falcon.Request, form: Form) -> Values:
        return {
            "reading": None,
            "digest": _digest(form),
            "validity": form.one("validity"),
            "program": form.one("program"),
            "names": NAMES,
            "max_bytes": MAX_BYTES,
            "max_mib": MAX_BYTES // (1024 * 1024),
            "is_large": self._is_large(form),
        }

    def _is_large(self, form: Form) -> bool:
        """Return whether a file may have so many lines that the visitor has to show who they are."""
        content = form.files.get("file", b"")
        if is_workbook(content):  # what it claims to hold may be a lie, and only its reading would tell
            return True
        breaks = content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")
        return breaks > self.console.confirm_cards

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the process's only permit to read a file."""
        if not self._reading.acquire(blocking=False):
            raise unavailable()
        try:
            yield
        finally:
            self._reading.release()


def _digest(form: Form) -> str:
    """Return a digest of what an import depends on: the file, and the validity and the program that are chosen."""
    chosen = f"{form.one('validity')}\n{form.one('program')}"
    return hashlib.sha256(form.files.get("file", b"") + chosen.encode()).hexdigest()


def _read(form: Form, console: Console, program: str) -> Reading:
    content, validity = form.files.get("file"), form.one("validity")
    if not content:
        raise RefusedError("请选择一个 CSV 或 XLSX 文件", "choose a CSV or XLSX file")
    chosen = Chosen(read_validity(validity)) if validity else None
    return imports.read(content, console.clock(), console.zone, chosen, program)
