"""The results, for people and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from kadun_conformance.runner import ACCEPTED, CRASHED, HUNG, REFUSED, UNTESTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kadun_conformance.runner import Result

_OUTCOMES = {
    ACCEPTED: "接受 accepted",
    REFUSED: "拒绝 refused ",
    UNTESTED: "未测 untested",
    HUNG: "卡住 HUNG    ",
    CRASHED: "崩溃 CRASHED ",
}


def summary(results: Iterable[Result]) -> dict[str, int]:
    """Count the results: `forged` and `genuine` are totals."""
    names = ("forged", "forged_accepted", "untested", "genuine", "genuine_refused", "hung", "crashed")
    counts = dict.fromkeys(names, 0)
    for result in results:
        kind = "genuine" if result.genuine else "forged"
        counts[kind] += 1
        name = result.outcome if result.outcome in counts else f"{kind}_{result.outcome}"
        if name in counts:
            counts[name] += 1
    return counts


def as_json(results: Sequence[Result]) -> str:
    """Return all results as one JSON document."""
    rows = [{**vars(result), "passed": result.passed} for result in results]
    return json.dumps({"summary": summary(results), "results": rows}, ensure_ascii=False, indent=2)


def line(result: Result) -> str:
    """Return one row of the table; failures start with an exclamation mark."""
    note = f"  [{result.note}]" if result.note and not (result.passed and result.outcome != UNTESTED) else ""
    return f"{' ' if result.passed else '!'} {_OUTCOMES[result.outcome]}  {result.name:<28} {result.about}{note}"


def closing(results: Sequence[Result]) -> str:
    """Return the last lines, in Chinese and in English."""
    n = summary(results)
    return (
        f"伪造响应 {n['forged']} 种：接受 {n['forged_accepted']}，未测 {n['untested']}；"
        f"真实响应 {n['genuine']} 种：拒绝 {n['genuine_refused']}；卡住 {n['hung']}；崩溃 {n['crashed']}\n"
        f"{n['forged']} forged responses: {n['forged_accepted']} accepted, {n['untested']} untested; "
        f"{n['genuine']} genuine responses: {n['genuine_refused']} refused; {n['hung']} hung; {n['crashed']} crashed"
    )
