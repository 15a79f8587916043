"""Columns are cut into bins once and counted exactly ever after."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.drift.bins import MAX_LEVELS, ColumnBins, fit, kind_for
from monitoring.drift.sketch import add, cdf_at, quantile, sketch_of
from monitoring.drift.tally import MAX_NEW_LEVELS, Tally

few = settings(max_examples=40, deadline=None, derandomize=True)
json_value = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.lists(st.integers(), max_size=2),
    st.sampled_from([10**400, -(10**400), "3.5", "2026-07-01T00:00:00Z", "", {"a": 1}]),
)
column = st.lists(json_value, max_size=60)
kind = st.sampled_from(["numeric", "categorical", "boolean", "text", "datetime", "counter"])


def count_of(bins: ColumnBins, values: list, label: str) -> int:
    return int(bins.count(values)[bins.labels.index(label)])


def test_edges_are_the_ten_numpy_quantiles_with_open_ends():
    reference = list(range(1, 102))
    bins = fit(reference, "numeric")
    assert bins.edges.tolist() == [-math.inf, 11, 21, 31, 41, 51, 61, 71, 81, 91, math.inf]
    assert bins.count(reference).tolist() == [11, 10, 10, 10, 10, 10, 10, 10, 10, 10, 0, 0]


def test_a_value_on_an_edge_belongs_to_the_bin_below():
    bins = fit(list(range(1, 102)), "numeric")
    assert bins.count([11]).argmax() == 0
    assert bins.count([np.nextafter(11, 12)]).argmax() == 1


def test_values_out_of_the_reference_fall_in_the_outer_bins():
    bins = fit(list(range(101)), "numeric")
    counts = bins.count([-1e308, -math.inf, 1e308, math.inf, 10**400, -(10**400)])
    assert counts[0] == 3
    assert counts[9] == 3


def test_equal_edges_are_merged():
    bins = fit([0] * 85 + [1] * 16, "numeric")
    assert bins.inner_edges == (0.0, 1.0)
    assert bins.count([0, 0, 1]).tolist() == [2, 1, 0, 0, 0]


def test_none_nan_and_wrong_types_have_bins_of_their_own():
    bins = fit([1.0, 2.0, 3.0], "numeric")
    tally = bins.tally([None, float("nan"), "3.5", "abc", True, [1], 2.0])
    assert tally.counts[bins.missing_index] == 2
    assert tally.counts[bins.wrong_type_index] == 4
    assert tally.wrong_types == {"numeric string": 1, "string": 1, "boolean": 1, "object": 1}
    assert tally.rows == 7


def test_a_constant_column_tells_below_from_above():
    bins = fit([7.5] * 40, "numeric")
    assert bins.labels == ("< 7.5", "= 7.5", "> 7.5", "missing", "wrong type")
    assert bins.count([7.4, 7.5, 7.6, 8]).tolist() == [1, 1, 2, 0, 0]


def test_an_all_null_column_still_sees_values_come():
    bins = fit([None] * 30, "numeric")
    assert bins.count([None, 3, 4]).tolist() == [2, 1, 0]
    levels = fit([None] * 30, "categorical")
    assert count_of(levels, [None, "a", "b"], "unseen") == 2


def test_an_empty_reference_can_be_counted_with():
    assert fit([], "numeric").count([1, None]).tolist() == [1, 1, 0]


def test_levels_are_counted_and_an_unseen_one_is_named():
    bins = fit(["a"] * 5 + ["b"] * 3 + [None], "categorical")
    tally = bins.tally(["b", "c", "c", "", None, 4])
    assert bins.labels == ("a", "b", "other", "unseen", "missing", "wrong type")
    assert tally.counts.tolist() == [0, 1, 0, 3, 1, 1]
    assert tally.new_levels == {"c": 2, "": 1}


def test_levels_beyond_the_cap_share_other_and_are_not_unseen():
    reference = [f"common{i}" for i in range(MAX_LEVELS) for _ in range(3)] + ["rare1", "rare2"]
    bins = fit(reference, "categorical")
    assert len(bins.levels) == MAX_LEVELS
    assert count_of(bins, ["rare1", "rare2", "never"], "other") == 2
    assert count_of(bins, ["rare1", "rare2", "never"], "unseen") == 1


def test_an_open_column_calls_nothing_unseen():
    bins = fit([f"id{i}" for i in range(1500)], "categorical")
    assert bins.open_levels
    assert count_of(bins, ["id1400", "brand new"], "other") == 2


def test_truth_values_are_not_numbers_and_numbers_not_truth_values():
    bins = fit([True, False, None], "boolean")
    assert bins.labels[:2] == ("false", "true")
    assert bins.count([True, True, False, 1, None]).tolist() == [1, 2, 0, 0, 1, 1]


def test_class_numbers_are_levels_whatever_their_type():
    bins = fit([0, 1, 1, 2], "categorical")
    assert bins.count([1, 1.0, 2.0, 0]).tolist() == bins.count([1, 1, 2, 0]).tolist()


def test_text_is_measured_by_its_length():
    bins = fit(["x" * n for n in range(1, 102)], "text")
    assert bins.count(["x" * 5, "x" * 500, None, 3]).tolist() == [1] + [0] * 8 + [1, 1, 1]


def test_a_time_is_present_missing_or_unreadable():
    bins = fit(["2026-07-01", "2026-07-02T10:00:00Z"], "datetime")
    assert bins.count(["2030-01-01", "soon", None, 5]).tolist() == [1, 1, 2]


@pytest.mark.parametrize(
    ("values", "schema_type", "expected"),
    [
        ([1.5, None, 2], "double", "numeric"),
        ([True, False], None, "boolean"),
        (["a", "b"] * 50, "string", "categorical"),
        ([f"a sentence with number {i}" for i in range(200)], "string", "text"),
        (["2026-07-01"], "datetime", "datetime"),
        (list(range(1000, 1100)), "long", "counter"),
        ([3, 1, 2] * 40, "long", "numeric"),
        ([None] * 5, None, "numeric"),
        (["a", 1, "b"], None, "categorical"),
    ],
)
def test_the_kind_follows_the_schema_and_the_values(values, schema_type, expected):
    assert kind_for(values, schema_type) == expected


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown kind"):
        fit([1], "colour")
    with pytest.raises(ValueError, match="unknown kind"):
        ColumnBins.from_json(fit([1], "numeric").to_json() | {"kind": "colour"})


def test_tallies_of_other_bins_do_not_mix():
    with pytest.raises(ValueError, match="different bins"):
        fit([1, 2, 3], "numeric").tally([1]) + fit([1, 2, 4], "numeric").tally([1])


def test_no_tallies_have_no_total():
    with pytest.raises(ValueError, match="no tallies"):
        Tally.total([])


def test_an_absent_column_is_all_missing():
    bins = fit([1, 2, 3], "numeric")
    assert bins.absent(9).counts[bins.missing_index] == 9
    assert bins.empty().rows == 0


def test_names_of_new_levels_are_bounded_while_their_number_is_exact():
    bins = fit(["a"] * 10, "categorical")
    tally = bins.tally([f"new{i}" for i in range(500)])
    assert len(tally.new_levels) == MAX_NEW_LEVELS
    assert tally.counts[bins.unseen_index] == 500


def test_mean_and_spread_keep_their_digits_far_from_zero():
    values = [1e9 + step for step in (0.1, 0.2, 0.3, 0.4)]
    numbers = fit(values, "numeric").tally(values).numbers
    assert numbers.mean == pytest.approx(np.mean(values), rel=1e-15)
    assert numbers.std == pytest.approx(np.std(values), rel=1e-6)


@few
@given(reference=column, current=column, kind=kind)
def test_every_value_is_counted_once(reference, current, kind):
    bins = fit(reference, kind)
    counts = bins.count(current)
    assert counts.dtype == np.int64
    assert counts.shape == (len(bins.labels),)
    assert counts.sum() == len(current)
    assert (counts >= 0).all()


@few
@given(reference=column, first=column, second=column, kind=kind)
def test_counts_are_additive(reference, first, second, kind):
    bins = fit(reference, kind)
    both = bins.tally(first) + bins.tally(second)
    whole = bins.tally(first + second)
    assert both.counts.tolist() == whole.counts.tolist()
    assert both.wrong_types == whole.wrong_types
    assert dict(both.new_levels) == dict(whole.new_levels) or len(whole.new_levels) == MAX_NEW_LEVELS
    if whole.numbers:
        assert both.numbers.rows == whole.numbers.rows
        assert both.numbers.sketch == whole.numbers.sketch
        assert (both.numbers.minimum, both.numbers.maximum) == (whole.numbers.minimum, whole.numbers.maximum)


@few
@given(reference=column, current=column, kind=kind)
def test_bins_and_tallies_survive_strict_json(reference, current, kind):
    bins = fit(reference, kind)
    again = ColumnBins.from_json(json.loads(json.dumps(bins.to_json(), allow_nan=False)))
    assert again == bins
    assert again.bins_id == bins.bins_id
    tally = bins.tally(current)
    back = Tally.from_json(json.loads(json.dumps(tally.to_json(), allow_nan=False)))
    assert back.to_json() == tally.to_json()


@few
@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1, max_size=80))
def test_the_summary_agrees_with_numpy(values):
    numbers = fit(values, "numeric").tally(values).numbers
    assert numbers.mean == pytest.approx(np.mean(values), rel=1e-9, abs=1e-6)
    assert numbers.std == pytest.approx(np.std(values), rel=1e-5, abs=1e-3)
    assert (numbers.minimum, numbers.maximum) == (min(values), max(values))


@few
@given(st.lists(st.floats(min_value=-1e6, max_value=1e6).filter(lambda x: abs(x) > 1e-6), min_size=1, max_size=80))
def test_sketch_quantiles_are_within_six_per_cent(values):
    array = np.array(values)
    for q in (0.1, 0.5, 0.9):
        true = np.quantile(array, q, method="inverted_cdf")
        assert quantile(sketch_of(array), q) == pytest.approx(true, rel=0.062)


def test_sketches_add_and_scale():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.lognormal(size=400), -rng.lognormal(size=100), np.zeros(20)])
    assert add(sketch_of(x[:300]), sketch_of(x[300:])) == sketch_of(x)
    assert np.abs(cdf_at(sketch_of(x), 1000) - cdf_at(sketch_of(x * 1000), 1)).max() < 1e-12
    assert np.abs(cdf_at(sketch_of(x), -2.5) - cdf_at(sketch_of(x * -2.5), 1)).max() < 0.03
    with pytest.raises(ValueError, match="scaled"):
        cdf_at({}, 2)
