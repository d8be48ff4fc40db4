"""Importing cards in the console: a preview first, then all cards or none."""

import time
from concurrent.futures import ThreadPoolExecutor

from app.console.imports import MAX_BYTES
from app.domain.codes import EventKind
from app.domain.texts import MAX_TEXT
from app.storage.database import Database
from app.storage.idempotency import CLAIM_SECONDS
from app.storage.models import Card, Event
from tests.support.console import PASSWORD, Browser, Seen, add_operator
from tests.support.service import Service, wait_for

IMPORT = "/admin/cards/import"
IDS = [f"{letter}123456789ABCDEFGHJKMNPQRSTVWXYZ" for letter in "012345"]
GOOD = f"卡密,有效期,批次,店名\n{IDS[0]},月卡,旧批,甲\n{IDS[1]},永久,,乙\n"


def send(browser: Browser, page: Seen, step: str, content: bytes) -> Seen:
    """Send a file; a long one takes the password when it is imported."""
    own = {"own_password": PASSWORD} if "own_password" in dict(page.form(IMPORT).fields) else {}
    return browser.submit(page, IMPORT, own, button=("step", step), files={"file": ("旧卡.csv", content)})


def previewed(browser: Browser, content: bytes) -> Seen:
    return send(browser, browser.get(IMPORT), "preview", content)


def test_a_file_is_previewed_then_imported(owner: Browser) -> None:
    preview = previewed(owner, GOOD.encode("gb18030"))
    assert preview.status == 200
    for text in ["可以导入 2 张", "GB18030", "月卡 × 1", "永久 × 1", "旧批 × 1", "店名", IDS[0], IDS[1]]:
        assert text in preview.words, text
    assert Card.select().count() == 0
    done = send(owner, preview, "import", GOOD.encode("gb18030"))
    assert "已导入 2 张" in done.words
    assert {card.id for card in Card.select()} == set(IDS[:2])
    entry = Event.get(Event.kind == EventKind.IMPORTED)
    assert (entry.actor, entry.details["count"]) == ("console:老王", 2)


def test_every_fault_is_shown_with_its_line(owner: Browser) -> None:
    Card.insert(id=IDS[2], created_at="2026-01-01T00:00:00Z").execute()
    content = f"id,validity,batch\n{IDS[0]},30d,a\nx,30d,b\n{IDS[0]},30d,c\n{IDS[1]},30,d\n{IDS[2]},1d,e\n".encode()
    preview = previewed(owner, content)
    assert "4 行有误" in preview.words
    for line, text in [(3, "不是卡密"), (4, "与第 2 行重复"), (5, "没有单位"), (6, "此卡密已在数据库中")]:
        assert text in preview.words
        assert f">{line}</td>" in preview.text
    assert [button for button in preview.form(IMPORT).buttons if button[1] == "import"] == []
    forced = owner.post(IMPORT, {"step": "import"}, {"file": ("a.csv", content)})
    assert forced.status == 400
    assert Card.select().count() == 1


def test_another_file_than_the_previewed_one_is_not_imported(owner: Browser) -> None:
    preview = previewed(owner, GOOD.encode())
    refused = send(owner, preview, "import", GOOD.replace("月卡", "年卡").encode())
    assert refused.status == 400
    assert "与核对时不同" in refused.words
    unseen = owner.post(IMPORT, {"step": "import"}, {"file": ("a.csv", GOOD.encode())})
    assert unseen.status == 400
    assert Card.select().count() == 0


def test_unused_cards_of_a_file_without_validities_get_the_one_that_was_checked(owner: Browser) -> None:
    file = {"file": ("a.csv", f"卡密,到期时间,状态\n{IDS[0]},,未使用\n".encode())}

    def send(page: Seen, step: str, validity: str) -> Seen:
        return owner.submit(page, IMPORT, {"validity": validity}, button=("step", step), files=file)

    assert "请选择未使用卡密的有效期" in send(owner.get(IMPORT), "preview", "").words
    assert "不是时长" in send(owner.get(IMPORT), "preview", "soon").words
    preview = send(owner.get(IMPORT), "preview", "季卡")
    assert "季卡 × 1" in preview.words
    assert send(preview, "import", "年卡").status == 400
    assert "已导入 1 张" in send(preview, "import", "季卡").words
    assert Card.get().validity.days == 90


def test_many_thousand_faults_are_counted_and_the_first_500_shown(owner: Browser) -> None:
    preview = previewed(owner, b"id,validity\n" + b"x,soon\n" * 12_345)
    assert "12,345 行有误" in preview.words
    assert f"还有 {2 * 12_345 - 500:,} 个问题" in preview.words
    assert preview.text.count("<tr>") <= 504  # two headers and two columns
    assert len(preview.content) < 500_000


def test_a_file_that_is_not_a_list_of_cards_is_refused(owner: Browser) -> None:
    for content in [
        b"",
        b"\xff\xfe\xfa\xfb\xff",
        b"\0",
        b"id,validity\n",
        b'id,validity\n"',
        b"x",
        b"\r\n" * 100,
        b"id,id,validity\n1,2,3",
    ]:
        preview = previewed(owner, content)
        assert preview.status in {200, 400}, content
        assert "alert" in preview.text, content
        assert owner.post(IMPORT, {"step": "import"}, {"file": ("a.csv", content)}).status == 400
        assert Card.select().count() == 0, content


def test_a_form_without_a_file_is_refused(owner: Browser) -> None:
    assert "请选择一个 CSV 或 XLSX 文件" in owner.post(IMPORT, {"step": "preview"}).words


def test_a_file_of_five_megabytes_is_imported(owner: Browser) -> None:
    note = "n" * MAX_TEXT
    rows = [f"{number:032d},30d,{note}" for number in range(MAX_BYTES // 250)]
    content = "\n".join(["id,validity,note", *rows]).encode()
    assert MAX_BYTES * 0.9 < len(content) < MAX_BYTES
    preview = previewed(owner, content)
    assert f"可以导入 {len(rows):,} 张" in preview.words
    done = send(owner, preview, "import", content)
    assert f"已导入 {len(rows):,} 张" in done.words
    assert Card.select().count() == len(rows)


def test_a_larger_file_is_refused_before_it_is_read(owner: Browser) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": str(MAX_BYTES + 100_000)}
    assert owner.send("POST", IMPORT, b"", headers).status == 413


def test_an_import_sent_again_while_it_runs_leads_to_its_result(service: Service, database: Database) -> None:
    add_operator("olga")
    owner = Browser(service).walk_in("olga")
    preview = previewed(owner, GOOD.encode())
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"

    def waits(count: int) -> bool:
        return database.execute_sql(waiting).fetchone()[0] >= count

    # As many as one of the two processes lets one session have under way.
    with ThreadPoolExecutor(8) as pool, database.atomic() as other:
        Card.insert(id=IDS[0], created_at="2026-01-01T00:00:00Z").execute()  # the import waits for what becomes of it
        answers = [pool.submit(send, owner, preview, "import", GOOD.encode())]
        wait_for(lambda: waits(1))
        began = time.monotonic()
        answers += [pool.submit(send, owner, preview, "import", GOOD.encode()) for _ in range(7)]
        wait_for(lambda: waits(2))
        other.rollback()
        answers[0].result()
        took_seconds = time.monotonic() - began
    seen = [answer.result() for answer in answers]
    # Only a machine that takes long to send one of them may see its wait end.
    assert {each.status for each in seen} <= ({200, 503} if took_seconds >= CLAIM_SECONDS else {200})
    assert len({each.path for each in seen if each.status == 200}) == 1
    assert Event.select().where(Event.kind == EventKind.IMPORTED).count() == 1


def test_cards_are_inserted_in_the_order_of_their_ids_so_that_two_imports_do_not_deadlock(
    owner: Browser, database: Database
) -> None:
    database.execute_sql("TRUNCATE card CASCADE")  # space that deleted rows left is used in any order
    rows = [f"{number:032d},30d" for number in reversed(range(10_000))]
    content = "\n".join(["id,validity", *rows]).encode()
    assert "已导入" in send(owner, previewed(owner, content), "import", content).words
    stored = [row[0] for row in database.execute_sql("SELECT id FROM card ORDER BY ctid").fetchall()]
    assert stored == sorted(stored)
