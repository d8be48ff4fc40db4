"""The template of a file to import: the headers, in columns of text, and a second sheet that says what to write.

It has no example lines: keys that everybody can read here must not become cards.
"""

import csv
import io
from typing import NamedTuple

from app.domain.texts import Text


class _Column(NamedTuple):
    header: Text
    what: Text
    example: Text


_COLUMNS = (
    _Column(
        Text("卡密", "id"),
        Text("必填。原系统的卡密原样填写，或本系统的卡密 ID", "Required: the key as it was sold, or a card ID of ours"),
        Text("VIP-2024-8K3M", "VIP-2024-8K3M"),
    ),
    _Column(
        Text("有效期", "validity"),
        Text("必填。激活后可用多久", "Required: how long the card lasts once activated"),
        Text("月卡、30天、1年、永久", "30d, 1 year, permanent"),
    ),
    _Column(
        Text("状态", "status"),
        Text("可空。已冻结的卡密导入后仍为冻结", "Frozen cards stay frozen"),
        Text("未使用、已激活、已过期、已冻结", "unused, active, expired, frozen"),
    ),
    _Column(
        Text("激活时间", "activated_at"),
        Text("使用中的卡密；可空，由到期时间推算", "Of cards in use; it may follow from the expiry"),
        Text("2026-03-01 20:00:00", "2026-03-01 20:00:00"),
    ),
    _Column(
        Text("到期时间", "expires_at"),
        Text("使用中的卡密；只写日期为当天结束时到期", "Of cards in use; a date alone is the end of that day"),
        Text("2026-04-01", "2026-04-01"),
    ),
    _Column(
        Text("机器码", "hardware"),
        Text(
            "可空。须与新程序发送的 hardware 逐字相同；空则首次启动时绑定",
            "Exactly what the new program sends as hardware; where it is empty, the first start binds",
        ),
        Text("BFEBFBFF000906E9", "BFEBFBFF000906E9"),
    ),
    _Column(Text("IP", "ip"), Text("可空。该设备的地址", "The machine's address"), Text("203.0.113.7", "203.0.113.7")),
    _Column(Text("批次", "batch"), Text("可空", "Your name for these cards"), Text("2024春季", "spring 2024")),
    _Column(Text("备注", "note"), Text("可空", "Anything"), Text("淘宝 张先生", "Mr. Zhang")),
)
_WIDTHS = (30, 12, 10, 20, 20, 40, 16, 14, 24)


def as_csv(*, chinese: bool) -> bytes:
    """Return the header as CSV, in UTF-8 with a BOM: without that Excel does not read it as UTF-8."""
    text = io.StringIO()
    csv.writer(text).writerow([column.header[not chinese] for column in _COLUMNS])
    return text.getvalue().encode("utf-8-sig")


def as_xlsx(*, chinese: bool) -> bytes:
    """Return the template as a workbook. Its columns are text: a spreadsheet rounds long numbers, and drops zeros."""
    import xlsxwriter  # type: ignore[import-untyped]  # noqa: PLC0415  # for this alone

    content = io.BytesIO()
    with xlsxwriter.Workbook(content, {"in_memory": True}) as workbook:
        text, bold = workbook.add_format({"num_format": "@"}), workbook.add_format({"bold": True, "num_format": "@"})
        wrapped = workbook.add_format({"text_wrap": True, "valign": "top", "num_format": "@"})
        cards = workbook.add_worksheet("卡密" if chinese else "cards")
        help_ = workbook.add_worksheet("填写说明" if chinese else "how to fill in")
        help_.write_row(0, 0, ["列", "内容", "例"] if chinese else ["column", "content", "example"], bold)
        help_.set_column(0, 0, 16, wrapped)
        help_.set_column(1, 2, 48, wrapped)
        for place, column in enumerate(_COLUMNS):
            cards.set_column(place, place, _WIDTHS[place], text)
            cards.write_string(0, place, column.header[not chinese], bold)
            help_.write_row(place + 1, 0, [part[not chinese] for part in column], wrapped)
        cards.freeze_panes(1, 1)
    return content.getvalue()
