"""What the kit found, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kadun.hostile.runner import BELIEVED, CRASHED, FAILED, HONOURED, HUNG, REFUSED, UNTRIED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kadun.hostile.runner import Result

_WORDS = {
    REFUSED: "  未信 refused ",
    BELIEVED: "! 相信 BELIEVED",
    HUNG: "! 卡住 HUNG    ",
    CRASHED: "! 崩溃 CRASHED ",
    UNTRIED: "- 未试 untried ",
    HONOURED: "  认可 honoured",
    FAILED: "! 未认 FAILED  ",
}


_NAMES: dict[str, list[str]] = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))


def words(name: str) -> str:
    """What a scenario is, in Chinese and English."""
    return " / ".join(_NAMES[name])


def summary(results: Iterable[Result]) -> dict[str, int]:
    """How many of which; `lies` and `honest` are totals."""
    counts = dict.fromkeys(("lies", BELIEVED, REFUSED, UNTRIED, "honest", HONOURED, FAILED, HUNG, CRASHED), 0)
    for result in results:
        counts["honest" if result.honest else "lies"] += 1
        counts[result.outcome] += 1
    return counts


def as_json(results: Sequence[Result]) -> str:
    """One document."""
    rows = [{**vars(result), "zh": _NAMES[result.name][0], "en": _NAMES[result.name][1]} for result in results]
    return json.dumps({"summary": summary(results), "results": rows}, ensure_ascii=False, indent=2)


def line(result: Result) -> str:
    """One row of the table."""
    note = f"  [{result.note}]" if result.note and not (result.fine and result.outcome != UNTRIED) else ""
    return f"{_WORDS[result.outcome]}  {result.name:<28} {words(result.name)}{note}"


def closing(results: Sequence[Result]) -> str:
    """The last line."""
    counts = summary(results)
    return (
        f"{counts['lies']} lies: {counts[BELIEVED]} believed, {counts[UNTRIED]} untried; "
        f"{counts['honest']} honest answers: {counts[FAILED]} not honoured; "
        f"{counts[HUNG]} hung; {counts[CRASHED]} crashed"
    )


def closing_in_chinese(results: Sequence[Result]) -> str:
    """The same for Chinese readers."""
    counts = summary(results)
    return (
        f"谎言 {counts['lies']} 种：相信 {counts[BELIEVED]}，未试 {counts[UNTRIED]}；"
        f"诚实答复 {counts['honest']} 种："
        f"未认 {counts[FAILED]}；卡住 {counts[HUNG]}；崩溃 {counts[CRASHED]}"
    )
