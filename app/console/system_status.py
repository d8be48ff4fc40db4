"""System status: files, functions, keys and health. The command line changes them, the web never does."""

import json

import falcon
import msgspec

from app.console.forms import Form
from app.console.page import Page, Values, visitor_of
from app.domain.programs import MAIN
from app.domain.texts import Text
from app.functions.client import FunctionsBusyError, FunctionsUnavailableError
from app.services.system.doctor.results import Status


class FilesPage(Page):
    template = "files/files.html"

    def values(self, request: falcon.Request, _form: Form) -> Values:
        return {"files": self.console.system_status.files(visitor_of(request).program)}


class FunctionsPage(Page):
    template = "functions/functions.html"

    def values(self, request: falcon.Request, _form: Form) -> Values:
        listing, trouble, chosen = None, None, visitor_of(request).program
        try:
            listing = self.console.system_status.functions.list()
            shown = [each for each in listing.functions if chosen in {None, each.program}]
            listing = msgspec.structs.replace(listing, functions=shown)
        except FunctionsBusyError as error:
            trouble = Text(
                f"核心功能的服务暂时忙：{error}", f"The service that runs core functions is busy at the moment: {error}"
            )
        except FunctionsUnavailableError:
            trouble = Text(
                "核心功能的服务没有响应：客户端调用核心功能时会收到“暂不可用”，验证和文件不受影响。",
                "The service that runs core functions does not answer: clients get “unavailable” for them; "
                "verification and files are not affected.",
            )
        return {"listing": listing, "trouble": trouble}


class KeysPage(Page):
    template = "system/keys.html"

    def values(self, request: falcon.Request, _form: Form) -> Values:
        status, program = self.console.system_status, visitor_of(request).program or MAIN
        pinned = json.dumps(status.pinned(program), ensure_ascii=False, indent=2).splitlines()
        return {"program": program, "keys": status.signer.public_keys(status.clock())[::-1], "pinned": pinned}


class HealthPage(Page):
    template = "system/health.html"

    def values(self, _request: falcon.Request, _form: Form) -> Values:
        health = self.console.system_status.health()
        order = [Status.FAIL, Status.WARN, Status.OK]
        results = sorted(health["results"].items(), key=lambda item: order.index(item[1].status))
        return {"health": health, "results": results}
