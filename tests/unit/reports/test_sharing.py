"""The thresholds beyond which a card looks shared."""
# Owns sharing.

from app.domain.codes import OF_AN_ENVIRONMENT
from app.domain.sharing import DAY, WEEK, Environment, Spread, Thresholds, environment_of, excess, gets_an_entry

QUIET = Spread(1, 1, 1, 0, 0)
LIMITS = Thresholds(machines=4, networks=10, blocks=5, places=40)


def test_the_number_that_comes_nearest_to_its_threshold_counts_of_a_day_or_of_a_week() -> None:
    for spread, expected in (
        (Spread(4, 1, 1, 3, 0), 1),
        (Spread(3, 1, 1, 2, 0), 3 / 4),
        (Spread(1, 10, 5, 9, 0), 1),
        (Spread(1, 10, 4, 9, 0), 4 / 5),
        (Spread(1, 9, 9, 9, 0), 9 / 10),
        (Spread(1, 39, 1, 39, 40), 1),
    ):
        assert LIMITS.excess(spread) == expected, spread
    machines_of_a_day, machines_of_a_week = Spread(5, 1, 1, 4, 0), Spread(8, 1, 1, 7, 0)
    assert excess(machines_of_a_day, machines_of_a_day) == 1
    assert excess(QUIET, machines_of_a_day) == 5 / 8
    assert excess(QUIET, machines_of_a_week) == 1
    # Many changes of a day are shown, unless they are of one machine. Of a day that repeats another there is no entry.
    for changes, week, expected in (
        (101, Spread(1, 3, 3, 900, 3), 1),
        (100, Spread(1, 3, 3, 900, 3), 100 / 101),
        (101, Spread(2, 1, 1, 900, 2), 1),
        (1_000_000, Spread(1, 2, 2, 1_000_000, 2), 1 / 8),
    ):
        assert excess(Spread(0, 0, 0, changes, 0), week) == expected, (changes, week)
    assert tuple(DAY) == (5, 15, 10, 35, 101)
    assert tuple(WEEK) == (8, 35, 15, 120, None)


def test_an_environment_is_a_machine_at_an_address_and_its_place_a_machine_in_a_network() -> None:
    home = environment_of("pc", "198.51.100.1")
    near = environment_of("pc", "198.51.100.2")
    assert (home.place, home.exact) == (near.place, environment_of("pc", "::ffff:198.51.100.1").exact)
    sources = (("pc", "198.51.101.1"), ("laptop", "198.51.100.1"), ("pc", None))
    others = [environment_of(machine, address) for machine, address in sources]
    assert len({each.place for each in (home, *others)}) == 4
    assert len({each.exact for each in (home, near, *others)}) == 5
    line = environment_of("pc", "2001:db8:1:1::1")
    assert line == environment_of("pc", "2001:db8:1:1:ffff::1")
    other_line = environment_of("pc", "2001:db8:1:2::1")
    assert (line.place, line.exact == other_line.exact) == (other_line.place, False)
    assert all(-(2**63) <= number < 2**63 for number in home)


def test_repetitions_get_no_entry_and_who_uses_up_a_day_is_shown() -> None:
    day: list[Environment] = []

    def come(*environments: Environment) -> int:
        before = len(day)
        for environment in environments:
            if gets_an_entry(environment, day, 50):
                day.append(environment)
        return len(day) - before

    assert come(*(Environment(number % 2, number % 2) for number in range(60))) == 2
    assert come(*(Environment(100 + number, 0) for number in range(60))) == 15
    assert come(*(Environment(200 + number, 1) for number in range(60))) == 0
    assert come(*(Environment(300 + number, 300 + number) for number in range(60))) == 33
    assert come(Environment(400, 400)) == 0
    assert len({environment.place for environment in day}) == DAY.places
    # The protocol's section 4; failed functions and refusals count each time.
    assert {
        *("hardware_changed", "address_changed", "CLIENT_MISMATCH", "CLIENT_HAS_ANOTHER_CARD"),
        *("TOO_MANY_CHANGES", "UPDATE_REQUIRED"),
    } == OF_AN_ENVIRONMENT
