"""The figures as they are printed, alone and beside an older commit's."""

from bench import report

BEFORE = [
    {"": {"H": 10_000.0}, "1,000 bound cards": {"V": 2_000.0, "to H": 0.2}},
    {"": {"H": 12_000.0}, "1,000 bound cards": {"V": 3_000.0, "to H": 0.25}},
    {"": {"H": 11_000.0}, "1,000 bound cards": {"V": 1_000.0, "to H": 0.1}},
]
AFTER = [
    {"": {"H": 20_000.0}, "1,000 bound cards": {"V": 5_000.0, "to H": 0.25}},
    {"": {"H": 12_000.0}, "1,000 bound cards": {"V": 6_000.0, "to H": 0.5}},
    {"": {"H": 33_000.0}, "1,000 bound cards": {"V": 2_200.0, "to H": 0.07}},
]


def test_figures_are_medians_with_the_lowest_and_the_highest_under_the_heading_of_their_section() -> None:
    lines = [line.split() for line in report.figures(BEFORE)]
    assert lines == [
        [],
        ["H", "11,000", "(10,000", "to", "12,000)"],
        [],
        ["1,000", "bound", "cards"],
        ["V", "2,000", "(1,000", "to", "3,000)"],
        ["to", "H", "0.20", "(0.10", "to", "0.25)"],
    ]


def test_figures_have_at_least_three_digits() -> None:
    assert report.row("p99", [12.345]).split() == ["p99", "12.3", "(12.3", "to", "12.3)"]
    assert report.row("p99", [1.2345]).split() == ["p99", "1.23", "(1.23", "to", "1.23)"]
    assert report.row("p99", [12_345.6]).split() == ["p99", "12,346", "(12,346", "to", "12,346)"]


def test_ratios_are_of_the_same_round() -> None:
    lines = [line.split() for line in report.comparison(BEFORE, AFTER, {})]
    assert lines[0] == ["before", "after", "after/before", "aim"]
    assert lines[2] == ["H", "11,000", "20,000", "2.00", "(1.00", "to", "3.00)"]
    assert lines[5] == ["V", "2,000", "5,000", "2.20", "(2.00", "to", "2.50)"]


def test_a_figure_that_was_nothing_before_has_no_ratio() -> None:
    line = report.comparison([{"": {"lost": 0.0}}], [{"": {"lost": 3.0}}], {})[-1]
    assert line.split() == ["lost", "0.00", "3.00"]


def test_the_aim_of_a_section_goes_before_that_of_the_name() -> None:
    aims = {"V": ">= 2.0", "to H": "more", "1,000 bound cards: V": ">= 2.2"}
    lines = report.comparison(BEFORE, AFTER, aims)
    assert [line.rpartition(")")[2].strip() for line in lines[-2:]] == [">= 2.2", "more"]
