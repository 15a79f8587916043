"""The likely cause and the hour: each injected fault is named, with its numbers."""

import json

import numpy as np
import pytest

from monitoring.drift.bins import fit
from monitoring.drift.causes import likely_causes, number, percent
from monitoring.drift.since import change_point

RNG = np.random.default_rng(7)
LOGNORMAL = RNG.lognormal(3, 0.7, 4000)
NARROW = RNG.normal(100, 5, 4000)
CELSIUS = RNG.normal(18, 6, 4000)
WEIGHTS = RNG.normal(72, 12, 4000)
SIGNED = RNG.normal(-20, 60, 4000)
LEVELS = RNG.choice(["red", "green", "blue"], 4000, p=[0.5, 0.3, 0.2])


def window(values, rows=800, seed=1):
    return np.random.default_rng(seed).choice(values, rows).tolist()


def first_cause(reference, current, kind="numeric"):
    bins = fit(list(reference), kind)
    causes = likely_causes(bins, bins.tally(list(reference)), bins.tally(list(current)))
    json.dumps([cause.to_json() for cause in causes], allow_nan=False)
    return causes[0]


def holed(values, share):
    return [None if index % 100 < share * 100 else value for index, value in enumerate(values)]


FAULTS = {
    "half missing": (LOGNORMAL, holed(window(LOGNORMAL), 0.5), "numeric", "missing_spike", "50 % of the values"),
    "column gone": (LOGNORMAL, [None] * 500, "numeric", "column_missing", "no row has a value"),
    "filled in": (holed(NARROW.tolist(), 0.4), window(NARROW), "numeric", "missing_gone", "fewer values"),
    "x1000": (LOGNORMAL, [x * 1000 for x in window(LOGNORMAL)], "numeric", "unit_change", "1,000 times larger"),
    "/1000": (LOGNORMAL, [x / 1000 for x in window(LOGNORMAL)], "numeric", "unit_change", "1,000 times smaller"),
    "x100": (NARROW, [x * 100 for x in window(NARROW)], "numeric", "unit_change", "100 times larger"),
    "x1000 negative": (SIGNED, [x * 1000 for x in window(SIGNED)], "numeric", "unit_change", "1,000 times larger"),
    "x60": (LOGNORMAL, [x * 60 for x in window(LOGNORMAL)], "numeric", "unit_change", "minutes to seconds"),
    "kg to lb": (WEIGHTS, [x * 2.20462 for x in window(WEIGHTS)], "numeric", "unit_change", "2.2 times larger"),
    "a third x1000": (
        LOGNORMAL,
        [x * 1000 if index % 3 == 0 else x for index, x in enumerate(window(LOGNORMAL))],
        "numeric",
        "unit_change",
        "about 33",
    ),
    "C to F": (CELSIUS, [x * 1.8 + 32 for x in window(CELSIUS)], "numeric", "unit_change", "Fahrenheit"),
    "sign": (NARROW, [-x for x in window(NARROW)], "numeric", "sign_change", "opposite sign"),
    "3x higher": (LOGNORMAL, [x * 3 for x in window(LOGNORMAL)], "numeric", "scaled", "times higher"),
    "shifted": (NARROW, [x + 10 for x in window(NARROW)], "numeric", "range_shift", "10 higher on average"),
    "shifted, not x1.61": (NARROW, [x + 61 for x in window(NARROW)], "numeric", "range_shift", "61 higher"),
    "wider": (NARROW, [100 + (x - 100) * 3 for x in window(NARROW)], "numeric", "spread_change", "wider"),
    "stuck": (NARROW, [101.5] * 500, "numeric", "constant", "every value is 102"),
    "zeros": (NARROW, [0 if i % 4 == 0 else x for i, x in enumerate(window(NARROW))], "numeric", "zero_spike", "25 %"),
    "numbers as text": (NARROW, [str(x) for x in window(NARROW)], "numeric", "wrong_type", "numbers sent as text"),
    "new level": (LEVELS, [*window(LEVELS, 700), *["mauve"] * 100], "categorical", "new_category", '"mauve"'),
    "spelt": (LEVELS, [x.upper() for x in window(LEVELS)], "categorical", "case_change", "upper and lower case"),
    "level gone": (LEVELS, window(LEVELS[LEVELS != "blue"]), "categorical", "category_gone", '"blue" no longer comes'),
    "renamed": (
        LEVELS,
        ["teal" if x == "blue" else x for x in window(LEVELS)],
        "categorical",
        "renamed_category",
        '"teal" took the place of "blue"',
    ),
    "other mix": (LEVELS, ["red"] * 200 + ["green"] * 500 + ["blue"] * 100, "categorical", "mix_change", '"green"'),
    "booleans flipped": (
        [True] * 900 + [False] * 100,
        [False] * 300 + [True] * 30,
        "boolean",
        "levels_swapped",
        "each other",
    ),
    "longer text": (
        ["x" * int(n) for n in NARROW],
        ["x" * int(n + 40) for n in window(NARROW)],
        "text",
        "range_shift",
        "lengths are",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_cause_is_named(name):
    reference, current, kind, code, words = FAULTS[name]
    cause = first_cause(reference, current, kind)
    assert cause.code == code
    assert words in cause.sentence
    assert 0 < cause.share <= 1


def test_no_cause_is_invented_for_the_same_data():
    bins = fit(NARROW.tolist(), "numeric")
    found = likely_causes(bins, bins.tally(NARROW), bins.tally(window(NARROW, 4000)))
    assert not [cause for cause in found if cause.code not in ("range_shift", "spread_change")]


def test_no_rows_have_no_cause_and_foreign_bins_are_refused():
    bins = fit([1, 2, 3], "numeric")
    assert likely_causes(bins, bins.tally([1]), bins.empty()) == []
    with pytest.raises(ValueError, match="other bins"):
        likely_causes(bins, bins.tally([1]), fit([5, 6], "numeric").tally([5]))


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567, "1,230,000"), (0.41234, "0.412"), (0, "0"), (-42.25, "-42.2"), (3e20, "3e+20"), (None, "none")],
)
def test_numbers_are_short(value, shown):
    assert number(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0 %"), (1e-5, "under 0.1 %"), (0.0512, "5.12 %"), (0.5, "50 %"), (0.9995, "over 99.9 %"), (1, "100 %")],
)
def test_shares_never_round_to_nothing_or_all(share, shown):
    assert percent(share) == shown


def hours_with(change_at, rows_before, rows_after, hours=24, seed=3):
    rng = np.random.default_rng(seed)
    p, q = np.full(10, 0.1), np.linspace(0.04, 0.16, 10)
    return np.array(
        [rng.multinomial(rows_before, p) if h < change_at else rng.multinomial(rows_after, q) for h in range(hours)]
    )


BASELINE = np.full(10, 500)


@pytest.mark.parametrize("hour", [1, 6, 13, 20, 23])
def test_the_hour_of_the_change_is_found(hour):
    point = change_point(BASELINE, hours_with(hour, 400, 400))
    assert abs(point.index - hour) <= 1
    assert point.earliest <= hour <= point.latest
    assert not point.at_start
    assert point.p_value < 1e-6


def test_a_change_before_the_first_hour_is_said_to_be_older():
    point = change_point(BASELINE, hours_with(0, 400, 400))
    assert point.index == 0
    assert point.at_start
    assert point.rows_after == 24 * 400


def test_empty_hours_are_never_the_answer():
    steps = hours_with(12, 400, 400)
    steps[8:14] = 0
    assert change_point(BASELINE, steps).index == 14


def test_steady_hours_have_no_change():
    false_alarms = sum(
        change_point(BASELINE, hours_with(24, 100, 0, seed=seed), 0.01) is not None for seed in range(200)
    )
    assert false_alarms <= 7  # binomial(200, 0.01) is above 7 once in 1,000


def test_nothing_to_look_at_has_no_change_and_wrong_shapes_are_refused():
    assert change_point(BASELINE, np.zeros((5, 10))) is None
    assert change_point(np.zeros(10), np.zeros((0, 10))) is None
    with pytest.raises(ValueError, match="baseline must be"):
        change_point(BASELINE, np.zeros((5, 9)))
