"""Stored tallies: short, and added up as tallies are."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from monitoring import packing
from monitoring.drift.bins import fit
from monitoring.drift.tally import Tally

DRAW = random.Random(3)
KINDS = {
    "numeric": lambda: DRAW.choice(
        [None, "7", True, 0, DRAW.gauss(0, 1), -(10.0 ** DRAW.uniform(-25, 25)), float("inf")]
    ),
    "text": lambda: DRAW.choice([None, 3, "x" * DRAW.randint(0, 400)]),
    "categorical": lambda: DRAW.choice([None, "red", "green", f"new {DRAW.randint(0, 40)}", 5.0]),
    "boolean": lambda: DRAW.choice([None, True, False, "yes"]),
    "datetime": lambda: DRAW.choice([None, "2026-11-21", "soon", 7]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_adds_up_as_tallies_do(kind):
    bins = fit([KINDS[kind]() for _ in range(400)], kind)
    parts = [bins.tally([KINDS[kind]() for _ in range(size)]) for size in (0, 1, 2, 50, 500)]
    stored = [json.loads(json.dumps(packing.pack(part), allow_nan=False)) for part in parts]
    whole, found = Tally.total(parts), packing.total(stored, bins)
    assert found.counts.tolist() == whole.counts.tolist()
    assert found.wrong_types == whole.wrong_types
    assert (found.numbers is None) == (whole.numbers is None)
    if found.numbers is not None:
        for name in ("rows", "minimum", "maximum", "center", "scale"):
            assert getattr(found.numbers, name) == getattr(whole.numbers, name)
        assert found.numbers.sketch == whole.numbers.sketch
        np.testing.assert_allclose(found.numbers.z_bins, whole.numbers.z_bins, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(found.numbers.z_squares, whole.numbers.z_squares, rtol=1e-8)


def test_new_levels_are_named_most_frequent_first():
    bins = fit(["a", "b"], "categorical")
    stored = [packing.pack(bins.tally(["c"] * 3 + ["d"])), packing.pack(bins.tally(["d"] * 7))]
    assert packing.total(stored, bins).new_levels == {"d": 8, "c": 3}


def test_what_an_earlier_release_stored_is_read():
    bins = fit([1.0, 2.0, 3.0], "numeric")
    tally = bins.tally([1.0, 2.5, None])
    found = packing.total([tally.to_json(), packing.pack(tally)], bins)
    assert found.counts.tolist() == (tally + tally).counts.tolist()
    assert packing.counts_of(tally.to_json()).tolist() == packing.counts_of(packing.pack(tally)).tolist()


def test_other_bins_are_refused_and_nothing_is_no_rows():
    bins, other = fit([1, 2, 3], "numeric"), fit([1, 2, 4], "numeric")
    with pytest.raises(ValueError, match="different bins"):
        packing.total([packing.pack(bins.tally([1])), packing.pack(other.tally([1]))], bins)
    assert packing.total([], bins).rows == 0


def test_it_is_half_as_long():
    draw = np.random.default_rng(1)
    bins = fit(draw.lognormal(4, 0.6, 5_000), "numeric")
    tally = bins.tally(draw.lognormal(4, 0.6, 5_000))
    assert len(json.dumps(packing.pack(tally))) < len(json.dumps(tally.to_json())) / 2
