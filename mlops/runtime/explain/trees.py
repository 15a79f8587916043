"""Exact values of tree models. XGBoost and LightGBM compute their own; scikit-learn's trees need the shap library."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from mlops.runtime.explain.parts import LOG_ODDS, PREDICTION, PROBABILITY, SCORE, Explanation, NotThisWay, both_classes
from mlops.runtime.formats.base import Model
from mlops.runtime.refusals import Refusal

TREE = "tree_shap"
INSTALL = "pip install -r requirements-explain.txt"
_BOOSTED = ("GradientBoostingClassifier", "HistGradientBoostingClassifier")
_AVERAGED = ("RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier", "ExtraTreeClassifier")
_REGRESSORS = (
    "RandomForestRegressor", "ExtraTreesRegressor", "DecisionTreeRegressor", "ExtraTreeRegressor", "GradientBoostingRegressor",
    "HistGradientBoostingRegressor",
)  # fmt: skip
_explainers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def explain_booster(model: Model, columns: Any, schema: dict[str, Any] | None) -> Explanation:
    """A native XGBoost or LightGBM model."""
    if model.framework == "xgboost":
        raw = model.contributions(columns, schema)  # type: ignore[attr-defined]
        return _of_booster(*raw, classes=model.classes, identity=model.objective.startswith("reg:squared"))  # type: ignore[attr-defined]
    raw = model.contributions(columns, schema)  # type: ignore[attr-defined]
    return _of_booster(*raw, classes=model.classes, identity=model.task == "regressor")


def explain_wrapped(estimator: Any, table: Any, classes: list[Any] | None) -> Explanation:
    """XGBoost's and LightGBM's scikit-learn classes."""
    if type(estimator).__module__.startswith("xgboost"):
        import xgboost

        best = getattr(estimator, "best_iteration", None) if estimator.get_booster().attr("best_iteration") else None
        rounds = (0, int(best) + 1) if best is not None else (0, 0)
        data = xgboost.DMatrix(table, missing=estimator.missing, enable_categorical=True, nthread=1)
        booster = estimator.get_booster()
        found = np.asarray(booster.predict(data, pred_contribs=True, iteration_range=rounds, validate_features=False))
        margin = booster.predict(data, output_margin=True, iteration_range=rounds, validate_features=False)
        identity = str(getattr(estimator, "objective", "")).startswith("reg:squared")
        return _of_booster(found, np.asarray(margin), classes=classes, identity=identity)
    booster = estimator.booster_
    found = np.asarray(booster.predict(table, pred_contrib=True, num_threads=1))
    scores = np.asarray(booster.predict(table, raw_score=True, num_threads=1))
    return _of_booster(found, scores, classes=classes, identity=classes is None)


def _of_booster(found: np.ndarray, scores: np.ndarray, *, classes: list[Any] | None, identity: bool) -> Explanation:
    """``found``: [rows, columns + 1], [rows, classes, columns + 1] or LightGBM's flat [rows, classes * (columns + 1)]; the last is the base."""
    outputs = 1 if scores.ndim == 1 else scores.shape[1]
    found = found.astype(np.float64).reshape(len(scores), outputs, -1)
    values, base = found[:, :, :-1], found[0, :, -1]
    if classes is not None and outputs == 1:
        return Explanation(*both_classes(values[:, 0], base, scores), TREE, LOG_ODDS)
    kind = LOG_ODDS if classes is not None else PREDICTION if identity else SCORE
    return Explanation(values, base, scores.astype(np.float64).reshape(-1, outputs), TREE, kind)


def is_tree(estimator: Any) -> bool:
    known = type(estimator).__name__ in (*_BOOSTED, *_AVERAGED, *_REGRESSORS)
    return known and type(estimator).__module__.startswith("sklearn.")


def explain_trees(estimator: Any, table: Any) -> Explanation:
    """scikit-learn's trees and forests. Raises Refusal with the command to install what is missing."""
    name = type(estimator).__name__
    if name in _BOOSTED:
        scores, kind = np.asarray(estimator.decision_function(table)), LOG_ODDS
    elif name in _AVERAGED:
        scores, kind = estimator.predict_proba(table), PROBABILITY
    else:
        scores, kind = np.asarray(estimator.predict(table)), PREDICTION
    if isinstance(scores, list):
        raise NotThisWay("several outputs of several classes")
    explainer = _explainer(estimator)
    values = np.asarray(explainer.shap_values(table, check_additivity=False), dtype=np.float64)
    base = np.asarray(explainer.expected_value, dtype=np.float64).reshape(-1)
    if scores.ndim == 1 and kind == LOG_ODDS:
        return Explanation(*both_classes(values, base, scores), TREE, kind)
    values = values[:, None, :] if values.ndim == 2 else values.transpose(0, 2, 1)
    return Explanation(values, base, scores.astype(np.float64).reshape(len(scores), -1), TREE, kind)


def _explainer(estimator: Any) -> Any:
    found = _explainers.get(estimator)
    if found is None:
        try:
            import shap
        except ImportError as error:
            raise Refusal(
                501,
                "explainer_missing",
                f"Explaining a {type(estimator).__name__} needs the shap library ({error}).",
                f"On the server: {INSTALL}, then start it again. Or ask for an estimate: explain?method=permutation.",
            ) from error
        try:
            found = _explainers[estimator] = shap.TreeExplainer(estimator)
        except Exception as error:  # noqa: BLE001  trees it cannot read: categories, several classes of gradient boosting
            raise NotThisWay(str(error)) from error
    return found
