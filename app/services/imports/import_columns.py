"""The columns of an imported file: which of its headers is which of ours, and how its cells are read."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from app.domain.texts import Text
from app.services.imports import import_cells as cells
from app.services.imports.import_times import cut, read_seconds, read_time, read_validity, unit_of

_HEADERS = {
    "id": (
        *("id", "card", "card id", "card key", "card number", "key", "license", "license key", "licence", "code"),
        *("卡密", "卡号", "卡密id", "卡密号", "充值卡号", "卡", "注册码", "激活码", "授权码"),
    ),
    "validity": (
        *("validity", "validity seconds", "duration", "type", "card type", "plan", "days", "hours"),
        *("有效期", "卡密有效期", "类型/时长", "类型", "卡类型", "卡密类型"),
        *("时长", "套餐", "天数", "有效天数", "小时数"),
    ),
    "status": ("status", "state", "状态", "卡密状态", "使用状态"),
    "activated_at": (
        *("activated_at", "activated", "activation", "activation time", "activation date"),
        *("激活时间", "激活日期", "首次使用时间", "首次使用", "开通时间"),
    ),
    "expires_at": (
        *("expires_at", "expires", "expiry", "expiry date", "expires on", "expiration", "expiration date"),
        *("到期时间", "到期日期", "到期日", "到期", "过期时间", "过期日期", "有效期至", "截止时间", "失效时间"),
    ),
    "hardware": (
        *("hardware", "hardware id", "hwid", "machine", "machine code", "machine id", "device", "device id"),
        *("机器码", "硬件", "硬件码", "硬件信息", "设备", "设备码", "设备号", "设备id", "绑定机器码", "绑定设备"),
    ),
    "ip": ("ip", "address", "ip address", "last ip", "ip地址", "地址", "绑定ip", "登录ip", "最后登录ip", "最近ip"),
    "batch": ("batch", "group", "批次", "批号", "分组"),
    "note": ("note", "notes", "remark", "remarks", "memo", "comment", "备注", "说明"),
    "imported_key": ("imported_key", "原卡密"),
}
"""The headers of each of our columns, the first one being the column's own name."""
_UNITS = {"days": "d", "天数": "d", "有效天数": "d", "hours": "h", "小时数": "h"}
"""Headers that name the unit of a bare number."""
NAMES = {
    "id": Text("卡密", "card"),
    "validity": Text("有效期", "validity"),
    "status": Text("状态", "status"),
    "activated_at": Text("激活时间", "activated"),
    "expires_at": Text("到期时间", "expires"),
    "hardware": Text("绑定设备的机器码", "bound machine"),
    "ip": Text("绑定设备的 IP", "its address"),
    "batch": Text("批次", "batch"),
    "note": Text("备注", "note"),
    "imported_key": Text("原卡密", "imported key"),
}


def _plain(header: str) -> str:
    """Return a header without what does not matter in it: case, spaces, underscores."""
    text = header.strip().casefold().translate(str.maketrans("\uff08\uff09\uff0f", "()/"))
    return re.sub(r"[\s_]+", "", text)


_FIELD_OF = {_plain(header): field for field, headers in _HEADERS.items() for header in headers}
_WITH_MORE = re.compile(r"([^()]+)\(([^()]+)\)")


class Column(NamedTuple):
    """A column of a file that is read as one of ours."""

    header: str
    field: str
    place: int
    read: Callable[[str], Any]


def column_of(header: str, place: int, zone: ZoneInfo) -> Column | None:
    """Return the column that a header names, such as 有效期（天）, which gives the unit, or None."""
    plain, more = _plain(header), ""
    if found := _WITH_MORE.fullmatch(plain):  # such as 到期时间(北京时间)
        plain, more = found.groups()
    if plain not in _FIELD_OF:
        return None
    field, name = _FIELD_OF[plain], cut(header.strip())
    readers: dict[str, Callable[[str], Any]] = {
        "id": cells.read_key,
        "validity": partial(read_validity, unit=_UNITS.get(plain, unit_of(more))),
        "status": cells.read_status,
        "activated_at": partial(read_time, zone=zone),
        "expires_at": partial(read_time, zone=zone, at_end=True),
        "hardware": cells.read_hardware,
        "ip": cells.read_address,
        "batch": partial(cells.read_text, name),
        "note": partial(cells.read_text, name),
        "imported_key": lambda cell: cells.read_key(cell)[1] if cell.strip() else None,
    }
    return Column(name, field, place, read_seconds if plain == "validityseconds" else readers[field])


def read_header(
    header: list[str], zone: ZoneInfo, *, is_chosen: bool
) -> tuple[list[Column], list[str], list[tuple[str | None, Text]]]:
    """Return the columns that are read, the headers of all others, and what is wrong, by the column's header.

    None is a column that is missing. No validity is needed where one `is_chosen`, or where expiries say it.
    """
    columns: dict[str, Column] = {}
    ignored: list[str] = []
    wrong: dict[str | None, Text] = {}
    for place, name in enumerate(header):
        column = column_of(name, place, zone)
        if column is None:
            ignored += [name] if name.strip() else []
        elif column.field in columns:
            first, second = columns[column.field].header, column.header
            named = NAMES[column.field]
            wrong[first] = Text(
                f"“{first}”与“{second}”两列都是{named.zh}：请删去一列",
                f"“{first}” and “{second}” both are the {named.en}: remove one of them",
            )
        else:
            columns[column.field] = column
    if "id" not in columns:
        wrong[None] = Text(
            "缺少卡密列（卡密、卡号或 id）：首行须为表头", "the column id is missing: the first line must be a header"
        )
    elif is_chosen and "validity" in columns:
        wrong[columns["validity"].header] = Text(
            "文件中已有有效期列，请勿再选择未使用卡密的有效期",
            "the file has the validity: choose none for unused cards",
        )
    elif not is_chosen and not columns.keys() & {"validity", "expires_at"}:
        wrong[None] = Text(
            "没有有效期列：请加一列，如“月卡”，或选择未使用卡密的有效期（命令行 --validity）",
            "there is no validity: add a column, or choose that of unused cards (command line: --validity)",
        )
    return list(columns.values()), ignored, list(wrong.items())
