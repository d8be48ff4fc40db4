"""The security headers of the console's answers."""

from datetime import UTC, datetime

from app.storage.models import Figures, LoginFailure
from tests.support.console import OWN, Browser, Seen
from tests.support.console_scene import Scene
from tests.support.service import Service

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


def test_every_answer_of_the_console_has_the_security_headers(scene: Scene, service: Service) -> None:
    owner, outsider = Browser(service).walk_in("olga"), Browser(service)
    odd = {"Content-Type": "text/odd"}
    wrong = {"name": "nobody", "password": "wrong"}
    answers = [
        (200, owner.get("/admin/cards")),
        (200, owner.post("/admin/cards/export", {"format": "csv", **OWN})),
        (303, outsider.get("/admin/cards")),
        (303, owner.post("/admin/token", scene.forms["/admin/token"])),
        (204, outsider.get("/admin/", {"HX-Request": "true"})),
        (400, owner.get("/admin/cards?status=odd")),
        (403, owner.post("/admin/logout", csrf="")),
        (404, owner.get("/admin/card?id=odd")),
        (404, owner.get(f"/admin/card?id={'0' * 32}")),
        (404, owner.get("/admin/static/odd.css")),
        (405, owner.send("PUT", "/admin/cards")),
        (413, owner.post("/admin/cards/apply", {"id": "x" * 300_000})),
        (415, owner.send("POST", "/admin/logout", b"x", odd)),
        (403, outsider.post("/admin/login", wrong, csrf="")),
    ]
    LoginFailure.update(failures=99).execute()
    answers += [(200, outsider.get("/admin/login")), (429, outsider.post("/admin/login", wrong, csrf=""))]
    assert int(answers[-1][1].headers["retry-after"]) > 0
    Figures.delete().execute()
    # Figures that took long to count are shown as they are; these have nothing in them.
    Figures.insert(counted_at=datetime.now(UTC), seconds=9, document={}).execute()
    answers.append((500, Browser(service, foreseen=False).walk_in("olga").get("/admin/")))
    for status, seen in answers:
        assert seen.status == status, (seen.path, seen.words)
        secure(seen)
        assert seen.headers["cache-control"] == "no-store", seen.path
    seen = outsider.get("/admin/static/console.css")
    secure(seen)
    assert seen.headers["cache-control"] == "public, max-age=31536000, immutable"


def secure(seen: Seen) -> None:
    said = seen.headers
    assert said["content-security-policy"] == CONTENT_SECURITY_POLICY, seen.path
    assert said["x-content-type-options"] == "nosniff"
    assert said["x-frame-options"] == "DENY"
    assert said["referrer-policy"] == "same-origin"
    assert said["cross-origin-opener-policy"] == said["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in said if name.startswith("access-control")]
