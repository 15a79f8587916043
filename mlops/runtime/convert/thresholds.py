"""Where the trees of a model split: rows there, and a step beside, are where a rounded form answers differently."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

Splits = dict[int, np.ndarray]  # column place -> values
_MOST = 40  # of one column
_XGBOOST = re.compile(r"\[f?(\d+)<([^\]]+)\]")


def of(model: Any, rng: np.random.Generator) -> Splits:
    """The splits of a model's trees in terms of its own columns; empty when it has none or they cannot be traced back."""
    try:
        found = _of_model(model)
    except Exception:  # noqa: BLE001  classes of any make; without splits the other rows still judge
        return {}
    splits = {}
    for column, values in found.items():
        known = np.unique(np.asarray(values, dtype=np.float64))
        known = known[np.isfinite(known)]
        if len(known):
            splits[column] = rng.choice(known, min(_MOST, len(known)), replace=False)
    return splits


def _of_model(model: Any) -> dict[int, list[float]]:
    kind = type(model).__name__
    if kind == "BoosterModel":
        return _xgboost(model.booster)
    if kind == "LightGbmModel":
        return _lightgbm(model.booster)
    if kind != "SklearnModel":
        return {}
    return _of_steps(model.estimator)


def _of_steps(estimator: Any) -> dict[int, list[float]]:
    steps = [estimator]
    while getattr(steps[-1], "steps", None):
        steps[-1:] = [step for _, step in steps[-1].steps if step is not None and step != "passthrough"]
    found = _pulled_back(steps[:-1], _of_estimator(steps[-1]))
    for place, step in enumerate(steps):
        edges = _edges(step)
        for column, values in (_pulled_back(steps[:place], edges) if edges else {}).items():
            found.setdefault(column, []).extend(values)
    return found


def _edges(step: Any) -> dict[int, list[float]]:
    """Where a step that cuts numbers into bins cuts them."""
    edges = getattr(step, "bin_edges_", None)
    if type(step).__name__ != "KBinsDiscretizer" or edges is None:
        return {}
    return {column: np.asarray(values, dtype=np.float64)[1:-1].tolist() for column, values in enumerate(edges)}


def _pulled_back(steps: list[Any], found: dict[int, list[float]]) -> dict[int, list[float]]:
    """The values before the steps that stand in front, where these can be undone column by column."""
    for step in reversed(steps):
        if not found:
            return {}
        width = int(step.n_features_in_)
        if getattr(step, "n_features_out_", width) != width or type(step).__name__ not in _UNDONE:
            return {}
        longest = max(len(values) for values in found.values())
        table = np.zeros((longest, width))
        for column, values in found.items():
            table[:, column] = np.resize(np.asarray(values), longest)
        back = step.inverse_transform(table)
        found = {column: back[:, column].tolist() for column in found}
    return found


_UNDONE = {"StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"}


def _of_estimator(estimator: Any) -> dict[int, list[float]]:
    module = type(estimator).__module__.partition(".")[0]
    if module == "xgboost":
        return _xgboost(estimator.get_booster())
    if module == "lightgbm":
        return _lightgbm(estimator.booster_)
    found: dict[int, list[float]] = {}
    if getattr(estimator, "_predictors", None) is not None:  # HistGradientBoosting
        for predictor in [each for stage in estimator._predictors for each in stage]:
            nodes = predictor.nodes[~predictor.nodes["is_leaf"].astype(bool)]
            for column, value in zip(nodes["feature_idx"].tolist(), nodes["num_threshold"].tolist(), strict=True):
                found.setdefault(column, []).append(value)
        return found
    members = _members(estimator)
    for tree in members or [estimator]:
        inner = getattr(tree, "tree_", None)
        if members and inner is None:  # voting, stacking, calibration: trees further inside
            for column, values in _of_steps(tree).items():
                found.setdefault(column, []).extend(values)
        elif inner is not None:
            inside = inner.feature >= 0
            for column, value in zip(inner.feature[inside].tolist(), inner.threshold[inside].tolist(), strict=True):
                found.setdefault(column, []).append(value)
    return found


def _members(estimator: Any) -> list[Any]:
    """The fitted estimators inside one that see its own columns."""
    if getattr(estimator, "calibrated_classifiers_", None):
        return [each.estimator for each in estimator.calibrated_classifiers_]
    found = getattr(estimator, "estimators_", None)
    if found is None:
        inner = getattr(estimator, "best_estimator_", None) or getattr(estimator, "estimator_", None)
        return [inner] if inner is not None else []
    if getattr(estimator, "estimators_features_", None) is not None:  # bagging: members that see some columns only
        width = estimator.n_features_in_
        if any(not np.array_equal(chosen, np.arange(width)) for chosen in estimator.estimators_features_):
            return []
    return [each for each in np.ravel(np.asarray(found, dtype=object)) if not isinstance(each, str)]


def _xgboost(booster: Any) -> dict[int, list[float]]:
    copy = booster.copy()
    copy.feature_names = None
    found: dict[int, list[float]] = {}
    for dump in copy.get_dump():
        for column, value in _XGBOOST.findall(dump):
            found.setdefault(int(column), []).append(float(np.float32(value)))
    return found


def _lightgbm(booster: Any) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    columns: list[int] = []
    for line in booster.model_to_string().splitlines():
        if line.startswith("split_feature="):
            columns = [int(word) for word in line.partition("=")[2].split()]
        elif line.startswith("threshold="):
            for column, word in zip(columns, line.partition("=")[2].split(), strict=True):
                found.setdefault(column, []).append(float(word))
    return found
