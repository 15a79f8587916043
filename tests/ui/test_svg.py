"""The geometry of the small charts."""

from __future__ import annotations

import pytest

from mlops.core import svg


def test_a_sparkline_runs_from_edge_to_edge_and_its_top_is_the_highest_value():
    line, area = svg.spark_paths([0, 5, 10])
    assert line == "M2.0 26.0L60.0 14.0L118.0 2.0"
    assert area == "M2.0 28L2.0 26.0L60.0 14.0L118.0 2.0L118.0 28Z"


def test_a_missing_value_breaks_the_line():
    line, _ = svg.spark_paths([1, 2, None, float("nan"), 3])
    assert line.count("M") == 2


@pytest.mark.parametrize("values", [[], [None, None], [float("inf")]])
def test_no_values_draw_nothing(values):
    assert svg.spark_paths(values) == ("", "")


def test_equal_values_draw_a_flat_line():
    assert svg.spark_paths([0, 0])[0] == "M2.0 26.0L118.0 26.0"


def test_bins_compare_shares_so_that_different_sums_are_fair():
    drawn = svg.bins([10, 30], [1, 1], ["a", "b"])
    assert [(each.reference, each.current) for each in drawn] == [(0.25, 0.5), (0.75, 0.5)]
    assert drawn[1].reference_height == pytest.approx(100)
    assert drawn[0].current_y == pytest.approx(100 - 50 / 0.75)


def test_an_empty_side_has_no_height():
    assert [each.current_height for each in svg.bins([1, 1], [0, 0], ["a", "b"])] == [0, 0]


def test_bins_of_different_length_are_refused():
    with pytest.raises(ValueError, match="as many labels as bins"):
        svg.bins([1], [1, 2], ["a"])
