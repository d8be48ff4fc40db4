"""The comparison of two commits: what is read from a benchmark's output, and the ratios."""

from bench.against import read_figures, table

PRINTED = """\
machine: 2 cores
medians of 1 rounds of 1 s a measurement (lowest to highest)

  H  empty route, requests/s               10,900   (10,900 to 10,900)

1,000 bound cards
  V  verifications/s, key in clear          2,130   (2,130 to 2,130)
     99% answered within, ms (clear)         17.5   (17.5 to 17.5)

1,000,000 bound cards
  V  verifications/s, key in clear          1,900   (1,900 to 1,900)

V falls by 10.8% from 1,000 to 1,000,000 cards
memory of gunicorn: 130 MiB (PSS), 200 MiB (RSS)
"""


def test_figures_are_read_with_the_number_of_cards_that_they_are_for() -> None:
    assert read_figures(PRINTED) == {
        "H  empty route, requests/s": 10_900,
        "1,000 bound cards: V  verifications/s, key in clear": 2_130,
        "1,000 bound cards: 99% answered within, ms (clear)": 17.5,
        "1,000,000 bound cards: V  verifications/s, key in clear": 1_900,
    }


def test_ratios_are_of_the_same_round_and_of_what_both_measured() -> None:
    old = [{"V": 100.0, "gone": 1.0}, {"V": 200.0, "gone": 1.0}, {"V": 300.0, "gone": 1.0}]
    new = [{"V": 110.0, "new": 1.0}, {"V": 300.0, "new": 1.0}, {"V": 390.0, "new": 1.0}]
    heading, line = table(old, new)
    assert heading.split() == ["before", "after", "after/before", "(lowest", "to", "highest)"]
    assert line.split() == ["V", "200", "300", "1.30", "(1.10", "to", "1.50)"]
