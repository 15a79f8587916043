"""Counts against scikit-learn on the rows, what adds up, what is taken away, and whether intervals keep their level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from monitoring.drift.quality import metrics
from monitoring.drift.quality.outcomes import ClassOutcomes, NumberOutcomes


def labelled(rows: int, classes: int, seed: int, sharp: float = 2.0):
    """(probabilities, predicted, truth) of a model whose scores mean something."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, rows)
    logits = draw.normal(size=(rows, classes)) + sharp * np.eye(classes)[truth]
    odds = np.exp(logits)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    return probabilities, probabilities.argmax(axis=1), truth


def outcomes(probabilities, predicted, truth) -> ClassOutcomes:
    made = ClassOutcomes.of([str(each) for each in truth], [str(each) for each in predicted])
    return made.with_scores(probabilities, truth)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_metrics_of_counts_agree_with_scikit_learn_on_the_rows(classes):
    probabilities, predicted, truth = labelled(4000, classes, seed=classes)
    found = metrics.of_classes(outcomes(probabilities, predicted, truth), [str(each) for each in range(classes)])
    average = "binary" if classes == 2 else "macro"
    scores = probabilities[:, 1] if classes == 2 else probabilities
    area = reference.roc_auc_score(truth, scores, multi_class="ovr")
    assert found["accuracy"].value == pytest.approx(reference.accuracy_score(truth, predicted))
    assert found["f1"].value == pytest.approx(reference.f1_score(truth, predicted, average=average))
    assert found["precision"].value == pytest.approx(reference.precision_score(truth, predicted, average=average))
    assert found["recall"].value == pytest.approx(reference.recall_score(truth, predicted, average=average))
    assert found["log_loss"].value == pytest.approx(reference.log_loss(truth, probabilities))
    assert abs(found["auc"].value - area) < 1e-3
    assert abs(found["auc"].value - area) <= found["auc"].resolution + 1e-12


def test_the_auc_of_a_rare_class_with_tiny_scores_is_right_too():
    draw = np.random.default_rng(5)
    truth = (draw.random(20_000) < 0.01).astype(int)
    score = np.clip(np.exp(draw.normal(-6 + 1.5 * truth, 0.7)), 0, 1)
    found = metrics.of_classes(outcomes(np.c_[1 - score, score], np.zeros(20_000, int), truth), ["0", "1"])
    assert abs(found["auc"].value - reference.roc_auc_score(truth, score)) < 1e-3


def test_metrics_of_numbers_agree_with_scikit_learn():
    draw = np.random.default_rng(1)
    actual = 1e9 + draw.normal(size=3000)  # a large, nearly constant target loses no digits
    predicted = actual + draw.normal(size=3000) * 0.3
    found = metrics.of_numbers(NumberOutcomes.of(actual, predicted))
    assert found["mae"].value == pytest.approx(reference.mean_absolute_error(actual, predicted))
    assert found["rmse"].value == pytest.approx(reference.root_mean_squared_error(actual, predicted))
    assert found["r2"].value == pytest.approx(reference.r2_score(actual, predicted))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([2, 3]), st.integers(0, 10**6))
def test_outcomes_add_and_subtract_exactly(first, second, classes, seed):
    probabilities, predicted, truth = labelled(first + second, classes, seed)
    a = outcomes(probabilities[:first], predicted[:first], truth[:first])
    b = outcomes(probabilities[first:], predicted[first:], truth[first:])
    whole = outcomes(probabilities, predicted, truth)
    for found, wanted in ((a + b, whole), (whole - b, a), (ClassOutcomes.from_json((a + b).to_json()), whole)):
        assert (found.rows, found.confusion, found.scored) == (wanted.rows, wanted.confusion, wanted.scored)
        assert (found.scores == wanted.scores).all()
        assert found.loss == pytest.approx(wanted.loss)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=2, max_size=40), st.integers(1, 39))
def test_number_outcomes_add_and_subtract(pairs, cut):
    rows = np.array(pairs)
    cut = min(cut, len(rows) - 1)
    parts = [NumberOutcomes.of(rows[s, 0], rows[s, 1]) for s in (slice(cut), slice(cut, None))]
    whole = NumberOutcomes.of(rows[:, 0], rows[:, 1])
    assert (parts[0] + parts[1]).spread == pytest.approx(whole.spread, rel=1e-6, abs=1e-3)
    back = whole - parts[1]
    assert back.rows == parts[0].rows
    assert back.absolute == pytest.approx(parts[0].absolute, rel=1e-6, abs=1e-3)
    assert back.mean == pytest.approx(parts[0].mean, rel=1e-6, abs=1e-3)


def test_no_rows_have_no_metrics_and_one_class_has_no_auc():
    assert metrics.of_classes(ClassOutcomes(), ["a", "b"]) == {}
    assert metrics.of_numbers(NumberOutcomes()) == {}
    only = metrics.of_classes(outcomes(np.array([[0.2, 0.8]] * 5), np.ones(5, int), np.ones(5, int)), ["0", "1"])
    assert "auc" not in only
    assert only["accuracy"].value == 1.0
    assert only["accuracy"].low < 0.7, "five right answers are no proof"


def _coverage(draw_one, truth: dict[str, float], rounds: int) -> dict[str, float]:
    inside = dict.fromkeys(truth, 0)
    for seed in range(rounds):
        found = draw_one(seed)
        for name, value in truth.items():
            inside[name] += found[name].low <= value <= found[name].high
    return {name: count / rounds for name, count in inside.items()}


@pytest.mark.slow
@pytest.mark.parametrize("classes", [2, 4])
def test_intervals_of_a_classifier_hold_what_they_promise(classes):
    names = [str(each) for each in range(classes)]
    big = metrics.of_classes(outcomes(*labelled(400_000, classes, seed=99)), names)
    wanted = {name: big[name].value for name in ("accuracy", "f1", "auc", "log_loss")}
    held = _coverage(lambda seed: metrics.of_classes(outcomes(*labelled(300, classes, seed)), names), wanted, 400)
    for name, share in held.items():
        assert 0.92 <= share <= (1.0 if (name, classes) == ("auc", 4) else 0.98), (name, share)


@pytest.mark.slow
def test_intervals_of_a_regressor_hold_what_they_promise():
    def one(seed: int):
        draw = np.random.default_rng(seed)
        actual = draw.normal(size=300)
        return metrics.of_numbers(NumberOutcomes.of(actual, actual + draw.normal(size=300)))

    held = _coverage(one, {"mae": float(np.sqrt(2 / np.pi)), "rmse": 1.0}, 400)
    assert all(0.92 <= share <= 0.98 for share in held.values()), held
