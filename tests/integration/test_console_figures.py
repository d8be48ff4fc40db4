"""The overview, the abuse report and usage: figures, and links to the rows behind them."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from html import unescape
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.console.overview_charts import charts
from app.domain.codes import Code, Counted, EventKind
from app.services.card_actions import CardActions
from app.storage import journal
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import Card, Figures, Usage
from tests.support.console import Browser, Seen, add_operator
from tests.support.service import Service, question

ZONE = ZoneInfo("Asia/Shanghai")


@pytest.fixture
def owner(service: Service, database: Database) -> Browser:
    add_operator("alice")
    return Browser(service).log_in("alice")


def counted(owner: Browser, path: str) -> Seen:
    """The page with figures of this moment: on a busy machine those that the log-in showed are kept a while."""
    Figures.delete().execute()
    return owner.get(path)


def drawn(page: Seen, title: str) -> dict[str, Any]:
    """What the chart of that name draws."""
    (spec,) = re.findall(rf'aria-label="{title}" data-chart="([^"]+)"', page.text)
    found: dict[str, Any] = json.loads(unescape(spec))
    return found


def rows(page: Seen) -> int:
    """How many rows the page's list has."""
    return page.text.count("<tr>") - 1


def pages_on(page: Seen) -> list[str]:
    """Where the link to the next page leads, if there is one."""
    return [unescape(link) for link in re.findall(r'href="([^"]+)"[^>]*>下一页 ›</a>', page.text)]


def rejected(code: Code, count: int = 1, **more: Any) -> list[Entry]:
    now = datetime.now(UTC)
    return [Entry(at=now, kind=EventKind.REJECTED, code=code, **more) for _ in range(count)]


def test_each_chart_links_to_as_many_rows_as_it_shows(service: Service, owner: Browser) -> None:
    cards = service.issue(3)
    for number, card in enumerate(cards[:2]):
        assert service.verify(question(card, f"machine-{number}")).status == 200
    service.verify(question(cards[2], "machine-0", "=1+1"))
    journal.append(rejected(Code.CARD_EXPIRED, 4, ip="203.0.113.7"))
    page = counted(owner, "/admin/")

    states = drawn(page, "当前卡密状态")
    assert dict(zip(states["labels"], states["series"][0]["values"], strict=True)) == {
        "使用中": 2,
        "未激活": 1,
        "已过期": 0,
        "已冻结": 0,
        "已用于续费": 0,
    }
    assert rows(owner.get(states["series"][0]["links"][1])) == 1

    activations = drawn(page, "最近 14 天的激活")
    assert len(activations["labels"]) == 14
    assert activations["series"][0]["values"][-1] == 2
    assert rows(owner.get(activations["series"][0]["links"][-1])) == 2
    assert rows(owner.get(activations["series"][0]["links"][-2])) == -1

    requests = drawn(page, "最近 14 天的验证")
    assert requests["series"][0]["values"][-1] == 2
    assert rows(owner.get(requests["series"][0]["links"][-1])) == 2

    expired = next(
        series for series in drawn(page, "最近 14 天的拒绝，按原因")["series"] if series["name"] == "卡密已过期"
    )
    assert expired["values"] == [0] * 13 + [4]
    assert rows(owner.get(expired["links"][-1])) == 4

    functions = drawn(page, "最近 14 天最常用的功能")
    assert functions["labels"] == ["打开程序"]
    assert rows(owner.get(functions["series"][0]["links"][0])) == 2


def test_today_and_yesterday_link_to_the_rows_behind_them_by_the_vendors_day(service: Service, owner: Browser) -> None:
    cards = service.issue(2)
    for number, card in enumerate(cards):
        assert service.verify(question(card, f"machine-{number}")).status == 200
    today = datetime.now(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = today - timedelta(seconds=1)
    journal.append([Entry(at=yesterday, kind=EventKind.ACTIVATED)])
    journal.append([Entry(at=yesterday, kind=EventKind.REJECTED, code=Code.CARD_EXPIRED)] * 3)
    Usage.insert(card=cards[0], day=yesterday.date(), function="f", count=5, last_at=yesterday).execute()
    page = counted(owner, "/admin/")
    (section,) = re.findall(r'aria-labelledby="recent">.+?</section>', page.text, re.DOTALL)
    shown = [(int(number), unescape(link)) for link, number in re.findall(r'href="([^"]+)">(\d+)</a>', section)]
    assert [number for number, _link in shown] == [2, 1, 2, 1, 0, 3]
    assert [rows(owner.get(link)) for number, link in shown if number] == [2, 1, 2, 1, 3]
    assert "在线 2 （15 分钟内）" in page.words


def test_a_panel_without_figures_is_one_line(service: Service, owner: Browser) -> None:
    page = counted(owner, "/admin/")
    assert "<canvas" not in page.text
    for title in ("最近 14 天的激活", "7 天内到期的卡密", "卡密最多的批次"):
        assert f"{title} 暂无数据" in page.words


def test_cards_that_expire_soon_are_shown_by_day(service: Service, owner: Browser) -> None:
    (card,) = service.issue(validity="3d")
    service.verify(question(card))
    Card.update(batch="甲&乙", note="<b>").execute()
    page = counted(owner, "/admin/")
    chart = drawn(page, "今后 14 天到期的卡密")
    at = chart["labels"].index(f"{Card.get().expires_at.astimezone(ZONE):%m-%d}")
    assert chart["series"][0]["values"] == [int(day == at) for day in range(len(chart["labels"]))]
    assert rows(owner.get(chart["series"][0]["links"][at])) == 1
    assert f"/admin/card?id={card}" in page.links
    assert "7 天内最先到期 共 1 张" in page.words
    assert "<b>" not in page.text
    batches = drawn(page, "卡密最多的批次")
    assert batches["labels"] == ["甲&乙"]
    active = next(series for series in batches["series"] if series["name"] == "使用中")
    assert rows(owner.get(active["links"][0])) == 1


def test_going_back_in_the_history_shows_the_whole_page(owner: Browser) -> None:
    page = owner.get("/admin/", {"HX-Request": "true", "HX-History-Restore-Request": "true"})
    assert page.status == 200


def test_the_abuse_report_links_to_the_journal(service: Service, owner: Browser) -> None:
    shared, tried = "C" * 32, ["D" * 32, "E" * 32, "F" * 32]
    for number in range(3):
        journal.append(
            rejected(Code.CLIENT_MISMATCH, 2, card_id=shared, hardware=f"copy-{number}", ip=f"198.51.100.{number}")
        )
    for card in tried:
        journal.append(rejected(Code.CLIENT_HAS_ANOTHER_CARD, card_id=card, hardware="hoarder", ip="192.0.2.1"))
    page = counted(owner, "/admin/sharing")

    def behind(subject: str, text: str) -> list[str]:
        (section,) = re.findall(
            rf'<section class="mb-4" aria-labelledby="by-{subject}">.+?</section>', page.text, re.DOTALL
        )
        found = [row for row in re.findall(r"<tr>.+?</tr>", section, re.DOTALL) if text in row]
        return [unescape(link) for row in found for link in re.findall(r'href="(/admin/journal[^"]+)"', row)]

    assert f"/admin/card?id={shared}" in page.links
    (link,) = behind("card_id", shared)
    assert rows(owner.get(link)) == 6
    assert [rows(owner.get(link)) for link in behind("hardware", "hoarder")] == [3, 3]
    assert [rows(owner.get(link)) for link in behind("network", "192.0.2.1")] == [3, 3]
    (by_code,) = [link for link in page.links if "kind=CLIENT_MISMATCH" in link and "card=" not in link]
    assert rows(owner.get(by_code)) == 6


def share(card_id: str, machines: int) -> None:
    """Journal accepted changes of a card that goes through so many machines at one address, in the last hour."""
    at = datetime.now(UTC) - timedelta(minutes=5)
    for number in range(1, machines):
        before = {"hardware": f"seat {number - 1}", "ip": "198.51.100.1"}
        entry = Entry(
            at,
            EventKind.ENVIRONMENT_CHANGED,
            card_id=card_id,
            ip="198.51.100.1",
            hardware=f"seat {number}",
            details={"before": before},
            counted=Counted.HARDWARE_CHANGED,
        )
        journal.append_counted([entry], at.astimezone(ZONE).date())


def accepted(page: Seen) -> str:
    """The section of cards whose accepted requests look shared."""
    (section,) = re.findall(r'<section class="mb-4" aria-labelledby="by-accepted">.+?</section>', page.text, re.DOTALL)
    return str(section)


def test_the_abuse_report_shows_accepted_sharing_in_both_languages(service: Service, owner: Browser) -> None:
    for card, machines in (("A" * 32, 4), ("B" * 32, 9), ("C" * 32, 6)):
        share(card, machines)
    pages = [counted(owner, f"/admin/sharing?lang={language}") for language in ("zh", "en")]
    for page, words in zip(
        pages, (("已通过，但疑似多人共用", "24 小时 9"), ("possibly shared", "24 h: 9")), strict=True
    ):
        section = accepted(page)
        assert re.findall(r"/admin/card\?id=(\w)", section) == ["B", "C"], "the worst first, and not A"
        assert all(word in section for word in words)
        assert "A" * 32 not in page.text
        (link, _) = re.findall(r'href="(/admin/journal[^"]+)"', section)
        assert rows(owner.get(unescape(link))) == 8
    assert "5 台设备；15 个网段且分属 10 个大网段；35 个地点" in pages[0].words
    assert "8 machines; 35 networks in 15 blocks; 120 places" in pages[1].words


def test_without_accepted_sharing_the_report_says_so_and_the_overview_nothing(owner: Browser) -> None:
    assert "最近 7 天未发现" in accepted(counted(owner, "/admin/sharing"))
    assert "疑似多人共用" not in counted(owner, "/admin/").text


def test_the_overview_shows_the_worst_cards(service: Service, owner: Browser) -> None:
    for number, card in enumerate("ABCD"):
        share(card * 32, 5 + number)
    page = counted(owner, "/admin/?lang=en")
    (section,) = re.findall(r'<section class="card mb-3" aria-labelledby="shared">.+?</section>', page.text, re.DOTALL)
    assert re.findall(r"/admin/card\?id=(\w)", section) == ["D", "C", "B"]
    assert "4 within 7 days" in section
    assert 'href="/admin/sharing"' in section


def test_usage_is_listed_by_day_and_function_page_by_page(
    service: Service, owner: Browser, card_actions: CardActions
) -> None:
    today = datetime.now(ZONE).date()
    cards = service.issue(60)
    Usage.insert_many(
        [{"card": card, "day": today, "function": "f.1", "count": 1234, "last_at": datetime.now(UTC)} for card in cards]
    ).execute()
    Usage.insert(
        card=cards[0], day=today - timedelta(days=1), function="other", count=1, last_at=datetime.now(UTC)
    ).execute()
    first = owner.get(f"/admin/usage?function=f.1&day={today}")
    assert "1,234" in first.words
    (onward,) = pages_on(first)
    second = owner.get(onward)
    listed = [set(re.findall(r"/admin/card\?id=(\w+)", page.text)) for page in (first, second)]
    assert [len(each) for each in listed] == [50, 10]
    assert listed[0] | listed[1] == set(cards)
    assert not pages_on(second)
    assert rows(owner.get("/admin/usage?function=other")) == 1
    assert rows(owner.get(f"/admin/usage?day={today - timedelta(days=1)}")) == 1
    assert rows(owner.get("/admin/usage?function=none")) == -1
    assert rows(owner.get("/admin/usage?after=nonsense")) == 50
    assert rows(owner.get(f"/admin/usage?card={cards[0].lower()}")) == 2
    assert rows(owner.get(f"/admin/usage?card={cards[0]}&function=other")) == 1
    assert rows(owner.get("/admin/usage?card=nonsense")) == -1


def test_an_invalid_day_is_refused_with_a_reason(owner: Browser) -> None:
    page = owner.get("/admin/usage?day=tomorrow")
    assert page.status == 400
    assert "“tomorrow”不是有效的日期" in page.words


def test_every_code_of_a_rejection_is_in_the_chart() -> None:
    day = {"day": date(2026, 3, 1).isoformat(), "counts": {str(code): 1 for code in Code if code is not Code.OK}}
    document = {
        "cards": dict.fromkeys(("active", "unused", "expired", "frozen"), 0),
        "days": [],
        "rejection_days": [day],
        "expiring_days": [],
        "functions": [],
        "batches": {"largest": []},
    }
    assert len(charts(document, str)["rejections"].series) == len(Code) - 1


def test_what_customers_did_by_themselves_is_shown_where_they_did_anything(service: Service, owner: Browser) -> None:
    page = owner.get("/admin/")
    assert "客户自助解绑" not in page.words
    assert "客户自助解绑次数多" not in counted(owner, "/admin/sharing").words
    journal.append([journal.Entry(datetime.now(UTC), EventKind.SELF_UNBOUND, card_id="A" * 32)] * 2)
    page = counted(owner, "/admin/")
    assert "客户自助解绑 今天 2 昨天 0" in page.words
    assert "客户自助续费" not in page.words
    renewal = [({"with": "B" * 32}, "A"), ({"renewed": "A" * 32}, "B")]
    journal.append(
        [journal.Entry(datetime.now(UTC), EventKind.RENEWED, card_id=card * 32, details=said) for said, card in renewal]
    )
    assert "客户自助续费 今天 1 昨天 0" in counted(owner, "/admin/").words
    (link,) = [each for each in page.links if "kind=self_unbound" in each][:1]
    assert rows(owner.get(link)) == 2
    sharing = counted(owner, "/admin/sharing")
    assert "客户自助解绑次数多 7 天内自助解绑两次以上的卡密" in sharing.words
    assert "A" * 32 in sharing.words
