from datetime import date
from operator import itemgetter

from app.console.card import _chart
from app.services.usage_lists import DayCount

DAY = date(2026, 3, 1)


def test_functions_that_share_a_bar_link_to_the_whole_day() -> None:
    used = [DayCount(DAY, f"f{number}", 9 - number) for number in range(8)]
    for language, said in ((0, "当天全部"), (1, "the whole day")):
        *own, others = _chart(used, [DAY], "7" * 32, itemgetter(language)).series
        assert [series.name for series in own] == [f"f{number}" for number in range(6)]
        assert others.values == [3 + 2]
        assert said in others.name
        assert "function=" not in others.links[0]
