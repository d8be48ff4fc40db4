"""Injection and odd input: texts stay texts in pages, files and URLs, and every request gets an answer."""
# Owns console-injection.

import csv
import io
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from urllib.parse import quote, urlencode, urljoin, urlsplit

import pytest

from app.console.cards.issue import MAX_ISSUED
from app.domain.codes import EventKind
from app.services.formatting import escaped
from app.storage.database import Database
from app.storage.models import Event, Host, Operator
from tests.support.console.console import OWN, Browser, Seen, add_operator
from tests.support.console.console_scene import FILES, Scene, address_of, csrf_of, file_name, furnish, paths
from tests.support.services.service import Service, wait_for

EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)' x='",
    "javascript:alert(1)//",
    "{{1913377*7919}}${1913377*7919}<%=1913377*7919%>#{1913377*7919}",  # a product that no time and no hash contains
    "</textarea></title></script><svg/onload=alert(1)><!--",
    "&quot;><b>&lt;i&gt;",
    "\u202e\u2066\x1b[31m\x07\x9b2J\ufeff\u2028\r\nLocation: x",
    "𠮷👩\u200d💻" * 12,
    "𝔥" * 200,
)
PLAIN = tuple(f"plain{number}" for number in range(len(EVIL)))
FORMULAS = (
    *("=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "'=1", "＝1+1", "＋1", "－1", "＠x", '"=1'),
    *("=1,=2;=3", "a;=1;'+2;;-3;@", 'x;"=1+1;""-1;y'),
)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
JOURNALLED = ("CLIENT_MISMATCH", "FUNCTION_FAILED", "released", "imported", "exported")
LEADS = {"href", "src", "action", "formaction", "hx-get", "hx-post"}


class Page(HTMLParser):
    """A page's elements with the names of their attributes, where they lead, and every text in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.leads: list[str] = []
        self.texts: list[str] = []
        self.charts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag, tuple(sorted(name for name, _ in attrs))] += 1
        for name, value in attrs:
            self.texts.append(value or "")
            if name in LEADS:
                self.leads.append(value or "")
            if name == "data-chart":
                self.charts.append(value or "")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"no page has a comment: {data}")


def harmless(seen: Seen) -> Page:
    """Read a page; there is nothing in it that could run, lead away or steer what shows it."""
    assert seen.headers["content-type"] == "text/html; charset=utf-8", seen.path
    assert not CONTROL.search(seen.text), seen.path
    assert str(1913377 * 7919) not in seen.text, seen.path
    page = Page(seen.text)
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith(("on", "style"))], (seen.path, tag, attributes)
        assert tag not in {"iframe", "object", "embed", "base", "style"}, seen.path
        assert tag != "script" or "src" in attributes, seen.path
    assert [lead for lead in page.leads if not re.match(r"#main$|/admin(/(?!/)|$)", lead)] == [], seen.path
    return page


class Functions(StreamRequestHandler):
    """Stands for the service that runs core functions, with names that the real one would not let pass."""

    texts: Sequence[str] = ()

    def handle(self) -> None:
        self.request.recv(65_536)
        functions = [
            {"name": t, "module": t, "doc": t, "schema": {"properties": {t: {"type": t}, "b": {"$ref": t}}}}
            for t in self.texts
        ]
        broken = [{"module": text, "error": f"{text}\nSyntaxError: {text}"} for text in self.texts]
        content = json.dumps({"functions": functions, "broken": broken, "generation": 0}).encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content))


@pytest.fixture
def functions(service: Service) -> Iterator[type[Functions]]:
    socket = service.folder / "functions.sock"
    with ThreadingUnixStreamServer(str(socket), Functions) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Functions
        server.shutdown()
    socket.unlink()


def every_page(browser: Browser, scene: Scene, texts: Sequence[str]) -> dict[str, Seen]:
    """Every page that a GET shows, in one of the languages; and those that show what was typed into their forms."""
    seen = {}
    for number, (path, access) in enumerate(paths().items()):
        if "GET" in access and path not in FILES:
            query = {**scene.queries.get(path, {}), "lang": ("zh", "en")[number % 2]}
            answer = browser.get(f"{path}?{urlencode(query)}")
            if answer.status != 303:
                assert answer.status == 200, answer.words
                seen[path] = answer
    for what in {event.code or event.kind for event in Event.select()}:
        seen[f"journal {what}"] = browser.get(f"/admin/journal?kind={what}")
    name, text = scene.queries["/admin/operator"]["name"], "".join(texts[:7])
    issue = {"program": "main", "validity": "other", "validity_other": text, "count": text, "batch": text, "note": text}
    seen["issue"] = browser.post("/admin/cards/issue", issue)
    seen["operators"] = browser.post("/admin/operators", {"name": text, "role": "owner", "new_password": "x"})
    seen["operator"] = browser.post("/admin/operator/role", {"name": name, "role": "owner", "own_password": "x"})
    for what in ("operator", "token"):
        seen[f"no {what}"] = browser.get(f"/admin/{what}?{urlencode({'name': name + '?'})}")
    seen["confirm"] = browser.post("/admin/cards/confirm", {**scene.forms["/admin/cards/confirm"], "back": text})
    extend = {"action": "extend", "id": scene.cards, "by": "other", "by_other": text}
    seen["extend"] = browser.post("/admin/cards/confirm", extend)
    new = f"id,validity,note\n{'4' * 32},30d,{texts[5]}\n"
    for number, content in enumerate((f"id,validity,{text}\n{text * 9},{text},{text}\n", text, new)):
        files = {"file": (quote(text), content.encode())}
        seen[f"import {number}"] = browser.post("/admin/cards/import", {"step": "preview"}, files)
    log_in = {"name": text, "password": "x", "next": text}
    seen["log-in"] = Browser(browser.service).post("/admin/login", log_in, csrf="")
    seen["static"] = browser.send("PUT", f"/admin/static/{quote(text.replace('/', '.'))}")
    return seen


def test_no_strangers_text_becomes_markup(olga: Browser, database: Database, functions: type[Functions]) -> None:
    scene, functions.texts = furnish(PLAIN), PLAIN
    wait_for(Host.select().exists, 60)  # the health page tells of it from then on
    plain = {name: harmless(seen) for name, seen in every_page(olga, scene, PLAIN).items()}
    database.execute_sql("SET session_replication_role = replica")
    database.execute_sql("TRUNCATE card, event, file, api_token, login_failure, figures, webhook, block CASCADE")
    database.execute_sql("SET session_replication_role = DEFAULT")
    Operator.delete().where(Operator.name != "olga").execute()
    scene, functions.texts = furnish(EVIL), EVIL
    texts: dict[str, str] = {}
    for name, seen in every_page(olga, scene, EVIL).items():
        page = harmless(seen)
        assert page.elements == plain[name].elements, (name, page.elements - plain[name].elements)
        texts[name] = "\n".join(page.texts)
        for chart in page.charts:
            spec = json.loads(chart)
            links = [link for series in spec["series"] for link in series["links"] if link]
            assert all(link.startswith("/admin/") and not CONTROL.search(link) for link in links)
    # Or it would be no wonder.
    names = [file_name(number, text) for number, text in enumerate(EVIL)]
    assert [name for name in names if escaped(name) not in texts["/admin/files"]] == []
    for name in (*("", "cards", "usage", "operators", "functions", "sharing"), *JOURNALLED):
        page_name = f"journal {name}" if name in JOURNALLED else f"/admin/{name}"
        assert [text for text in EVIL if escaped(text)[:28] not in texts[page_name]] == [], page_name
    for page_name in ("/admin/card", "/admin/operator", "/admin/token", "issue", "operators", "extend", "import 0"):
        assert EVIL[0] in texts[page_name], page_name


def test_no_parameter_of_any_page_becomes_markup_a_header_or_another_sites_address(olga: Browser) -> None:
    scene = furnish(["plain"])
    wait_for(Host.select().exists, 60)  # as above
    markup = "".join((EVIL[1], EVIL[5], EVIL[7]))
    evil = [f"//evil.example/\r\nSet-Cookie: evil=1{markup}", "javascript:evil()"]
    tried = set[str]()
    for path in [path for path, access in paths().items() if "GET" in access]:
        query = {**scene.queries.get(path, {}), "lang": "en"}
        # Of what no page asks for the ways to the other language still tell; these are names in Python, too.
        strange = ("path", "self", "request", "<b>'\"")
        olga.get(f"{address_of(path)}?{urlencode(query)}")  # the first look at a card is journalled; its page shows it
        for names in (*((name,) for name in query if name not in tried), (*query, *strange)):
            pages = []
            for value in ("zzz", *(evil if {"next", "back"} & {*names} else evil[:1])):
                address = f"{address_of(path)}?{urlencode({**query, **dict.fromkeys(names, value)})}"
                seen = olga.get(address, {"Referer": "https://evil.example/", "Accept-Language": quote(value)})
                unmoved(seen)
                if seen.status != 303 and path not in FILES:
                    pages.append(harmless(seen).elements)
            assert all(page == pages[0] for page in pages), (path, names)
        tried |= query.keys()


SAYS_EVIL = re.compile(r"evil(?![\w-])")  # a random number of a form may contain the word by chance


def unmoved(seen: Seen) -> None:
    """What a stranger named leads nowhere, and is in no header."""
    assert seen.status < 500, (seen.path, seen.words)
    for name, value in seen.headers.items():
        assert not SAYS_EVIL.search(value) or name in {"location", "hx-redirect"}, (seen.path, name, value)
    where = urlsplit(urljoin("https://vendor.example", seen.headers.get("location", "/admin/")))
    assert (where.scheme, where.netloc) == ("https", "vendor.example"), seen.path
    assert where.path.startswith("/admin/"), seen.path


def test_the_host_that_a_request_names_is_in_no_answer(olga: Browser, service: Service) -> None:
    scene = furnish(["plain"])
    named = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "evil"}
    outsider = Browser(service)
    for path in paths():
        address = f"{address_of(path)}?{urlencode(scene.queries.get(path, {}))}"
        for seen in (olga.get(address, named), outsider.get(address, {**named, "Forwarded": "host=evil.example"})):
            assert not SAYS_EVIL.search(seen.text + str(seen.headers)), path
    for host in ("[::1", "a:99999999999999999999", "é".encode().decode("latin-1"), "a b"):
        for headers in ({"Host": host}, {"Host": host, "Sec-Fetch-Site": "", "Origin": "http://x"}):
            assert outsider.get("/admin/login", headers).status in {200, 400}, host
            forged = outsider.post("/admin/login", {"name": ["a", "b"]}, csrf="", headers=headers)
            assert forged.status in {400, 403}, host


def test_no_cell_of_any_export_is_a_formula_and_no_text_breaks_a_line(olga: Browser) -> None:
    scene = furnish(FORMULAS)
    issued = [event.at.isoformat() for event in Event.select().where(Event.kind == EventKind.ISSUED)]
    exports = [
        olga.post("/admin/cards/export", {"format": "csv", **OWN}),
        olga.post("/admin/cards/export", {"format": "csv", "id": scene.cards, **OWN}),
        olga.post("/admin/journal/export", {"format": "csv", **OWN}),
        *(olga.get(f"/admin/cards/issued?{urlencode({'at': at, 'format': 'csv'})}") for at in issued),
    ]
    cells: Counter[str] = Counter()
    for seen in exports:
        assert seen.status == 200
        assert seen.headers["content-type"] == "text/csv; charset=utf-8"
        assert re.fullmatch(r"attachment; filename[*]?=[\w'\"-]+\.csv\"?", seen.headers["content-disposition"])
        assert seen.content.startswith(b"\xef\xbb\xbf"), "it says its encoding"
        text = seen.content.decode("utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert len({len(row) for row in rows}) == 1, "each text stays in its cell"
        assert len(rows) == len(text.splitlines()), "and in its line"
        cells.update(cell for row in rows for cell in row)
    assert [cell for cell in cells if re.search(r'(^|;"*)[=+\-@＝＋－＠\t\r\n]', cell)] == []
    shown = {cell.replace("'", "") for cell in cells}
    for formula in FORMULAS:
        assert escaped(formula).replace("'", "") in shown, formula
    assert olga.post("/admin/cards/export", {"format": "txt", **OWN}).content.decode().split() == sorted(
        scene.cards, key=lambda card: (int(card[1:]), -int(card[0]))
    )


ODD = (
    *("-1", "9" * 25, "0000-00-00", "9999-12-31T23:59:59.999999-14:00", "١٢٣", "1e309"),
    *("🂡" * 300, "%_\\'\"", ".A", "17.99999999999999999999999"),
)


def test_the_page_of_a_refused_log_in_repeats_no_long_text(service: Service) -> None:
    add_operator("olga")
    outsider = Browser(service)
    outsider.set_cookie(outsider.session_cookie.name, "anything")
    page = outsider.get("/admin/login")
    long = {"name": '"' * 60_000, "password": "wrong", "next": "/admin/cards?q=" + "x" * 5_000}
    refused = outsider.submit(page, "/admin/login", **long)
    assert refused.status == 403
    assert len(refused.text) < 2 * len(page.text) < 50_000


def test_no_odd_input_is_an_error_of_the_service(service: Service) -> None:
    add_operator("olga")
    scene, log = furnish(["plain"]), service.log.stat().st_size
    outsider = Browser(service)
    asked_so_far, sent_so_far = set[str](), set[str]()
    for number, (path, access) in enumerate(paths().items()):
        owner = Browser(service).walk_in("olga")
        csrf = csrf_of(str(owner.cookie("kadun_session")))
        address, query, form = address_of(path), scene.queries.get(path, {}), scene.forms.get(path, {})
        query = {**query, "lang": ""}
        first = next(iter(query))
        asked = [f"{first}={value}" for value in ("%00", "%ff", "%ED%A0%80")]
        asked += [f"{first}=1&{first}=2&{first}={'x' * 6000}", "&" * 8000, "=&=&=", "%", "&".join(["n="] * 1500)]
        asked = [asked[number % len(asked)], *(urlencode({**query, **odd}) for odd in untried(asked_so_far, query))]
        if "GET" in access:
            for said in asked:
                fine(owner.get(f"{address}?{said[:8100]}"))
            fine(outsider.get(f"{address}?{asked[0]}"))
        if "POST" in access:
            fine(owner.post(address, dict.fromkeys((*form, "id"), ("1", "2")), csrf=csrf))
            if "own_password" not in form and path not in {"/admin/login", "/admin/logout"}:
                for odd in untried(sent_so_far, form):
                    fine(owner.post(address, {**form, **odd}, csrf=csrf))
        status = owner.get("/admin/account").status
        assert status == (303 if path == "/admin/logout" else 200), "else all this is nobody's"
    assert "unhandled error" not in service.log.read_text()[log:]
    issued = Event.select().where(Event.kind == EventKind.ISSUED)
    assert max(event.details["count"] for event in issued) <= MAX_ISSUED


def untried(names: set[str], fields: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Each field with every odd value where it is the first of its name, with one of them on every other page."""
    for number, name in enumerate(fields):
        values = (ODD[number % len(ODD)],) if name in names else ODD
        names.add(name)
        yield from ({name: value} for value in values)


def fine(seen: Seen) -> None:
    assert seen.status < 500, (seen.path, seen.words)
    if seen.status in {400, 413, 415, 403}:
        assert "<main" in seen.text, seen.path
