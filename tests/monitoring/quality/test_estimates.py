"""Performance without labels: calibration like scikit-learn's, counts like rows, and the truth where the world is as it was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from monitoring.drift.quality import calibration, cbpe
from monitoring.drift.quality.calibration import Calibrator
from monitoring.drift.quality.scores import ScoreCounts
from tests.monitoring.quality.test_metrics import labelled


def test_isotonic_regression_is_scikit_learns():
    draw = np.random.default_rng(0)
    for decimals in (2, 9):
        score = np.round(draw.random(3000), decimals)
        positive = (draw.random(3000) < score**2).astype(float)
        theirs = IsotonicRegression(out_of_bounds="clip").fit(score, positive)
        asked = np.linspace(-0.1, 1.1, 500)
        assert np.abs(calibration.isotonic(score, positive)(asked) - theirs.predict(asked)).max() < 1e-9


def test_scores_are_calibrated_only_where_it_helps():
    draw = np.random.default_rng(1)
    score = draw.random(20_000)
    honest = calibration.fit(score, (draw.random(20_000) < score).astype(float))
    boastful = calibration.fit(score, (draw.random(20_000) < 0.3 + 0.4 * score).astype(float))
    assert boastful.used
    assert boastful.ece_after < boastful.ece_before / 3
    assert honest.ece_before < 0.02
    assert not calibration.fit(score[:100], np.ones(100)).used, "one class alone teaches nothing"


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_the_estimate_from_counts_is_that_from_rows(classes):
    probabilities, predicted, truth = labelled(20_000, classes, seed=classes)
    columns = (1,) if classes == 2 else range(classes)
    fitted = [
        calibration.isotonic(probabilities[:5000, each], (truth[:5000] == each).astype(float)) for each in columns
    ]
    now = slice(5000, None)
    counts = ScoreCounts.of(probabilities[now], predicted[now])
    rows = cbpe.from_rows(probabilities[now], predicted[now], fitted)
    binned = cbpe.from_counts(ScoreCounts.from_json(counts.to_json()), fitted)
    assert set(rows) == set(binned) == {"accuracy", "f1", "auc"}
    assert max(abs(binned[name].value - rows[name].value) for name in rows) <= 0.001


def test_hours_of_scores_add_up():
    probabilities, predicted, _ = labelled(500, 3, seed=1)
    parts = ScoreCounts.of(probabilities[:200], predicted[:200]) + ScoreCounts.of(probabilities[200:], predicted[200:])
    whole = ScoreCounts.of(probabilities, predicted)
    assert parts.rows == whole.rows
    assert (parts.counts == whole.counts).all()
    assert np.allclose(parts.sums, whole.sums)


def test_without_concept_drift_the_estimate_finds_the_drop_before_any_label():
    """The inputs shift: harder rows come. Estimated from scores alone, within its own error of what labels show later."""
    probabilities, predicted, truth = labelled(40_000, 2, seed=8)
    model = calibration.fit(probabilities[:20_000, 1], truth[:20_000].astype(float)).calibrator
    hard = np.flatnonzero(np.abs(probabilities[20_000:, 1] - 0.5) < 0.35) + 20_000
    found = cbpe.from_counts(ScoreCounts.of(probabilities[hard], predicted[hard]), [model])
    realised = float((predicted[hard] == truth[hard]).mean())
    usual = float((predicted[:20_000] == truth[:20_000]).mean())
    assert realised < usual - 0.1
    assert abs(found["accuracy"].value - realised) < 4 * found["accuracy"].error


def test_the_error_of_an_estimate_is_the_scatter_of_the_truth():
    draw = np.random.default_rng(3)
    score = draw.beta(2, 2, 2000)
    predicted = (score > 0.5).astype(int)
    found = cbpe.from_counts(ScoreCounts.of(np.c_[1 - score, score], predicted), [Calibrator()])
    seen = [float((predicted == (draw.random(2000) < score)).mean()) for _ in range(400)]
    assert np.std(seen) == pytest.approx(found["accuracy"].error, rel=0.15)
    assert np.mean(seen) == pytest.approx(found["accuracy"].value, abs=0.002)


def test_nothing_is_estimated_of_nothing():
    assert cbpe.from_counts(ScoreCounts.empty(2), [Calibrator()]) == {}
    assert cbpe.from_counts(ScoreCounts.empty(80), []) == {}, "too many classes for a histogram each"


def test_cbpe_gives_nannymls_figures_on_its_car_loan_data():
    """Ten chunks of 5,000 rows, five of them after the inputs changed (car_loan.json says where its counts come from)."""
    known = json.loads((Path(__file__).parent / "car_loan.json").read_text())
    score, _, truth, count = np.array(known["reference"]).T
    rows = count.astype(int)
    fitted = calibration.fit(np.repeat(score, rows), np.repeat(truth, rows))
    assert fitted.used
    worst = 0.0
    for chunk in known["chunks"]:
        score, answered, count = np.array(chunk["cells"]).T
        score, answered = np.repeat(score, count.astype(int)), np.repeat(answered, count.astype(int)).astype(int)
        found = cbpe.from_counts(ScoreCounts.of(np.c_[1 - score, score], answered), [fitted.calibrator])
        worst = max(worst, *(abs(found[name].value - chunk[name]) for name in ("accuracy", "f1", "auc")))
    assert worst < 1e-6, "the goal was 0.002"
