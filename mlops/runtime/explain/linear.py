"""Linear models: each column's coefficient times how far the row is from the middle of the data. Exact for columns taken one by one."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.runtime.explain.parts import LOG_ODDS, PREDICTION, SCORE, Explanation, both_classes

LINEAR = "linear_shap"
_SCORES = (
    "RidgeClassifier",
    "RidgeClassifierCV",
    "LinearSVC",
    "Perceptron",
    "SGDClassifier",
    "PassiveAggressiveClassifier",
)
_LOGISTIC = ("LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis")
_REGRESSORS = (
    "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "Lars", "LassoLars", "BayesianRidge",
    "ARDRegression", "HuberRegressor", "LinearSVR", "SGDRegressor", "TheilSenRegressor", "OrthogonalMatchingPursuit", "QuantileRegressor",
)  # fmt: skip


def is_linear(estimator: Any) -> bool:
    known = type(estimator).__name__ in (*_SCORES, *_LOGISTIC, *_REGRESSORS)
    return known and type(estimator).__module__.startswith("sklearn.")


def explain_linear(estimator: Any, table: np.ndarray, background: np.ndarray) -> Explanation:
    """``background``: rows whose mean is the middle, transformed like ``table``."""
    weights = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
    intercept = np.broadcast_to(np.asarray(estimator.intercept_, dtype=np.float64).reshape(-1), len(weights))
    middle = np.asarray(background, dtype=np.float64).mean(axis=0)
    values = weights[None, :, :] * (np.asarray(table, dtype=np.float64) - middle)[:, None, :]
    base = intercept + weights @ middle
    if type(estimator).__name__ in _REGRESSORS:
        scores = np.asarray(estimator.predict(table), dtype=np.float64).reshape(len(table), -1)
        return Explanation(values, base, scores, LINEAR, PREDICTION)
    kind = LOG_ODDS if type(estimator).__name__ in _LOGISTIC else SCORE
    scores = np.asarray(estimator.decision_function(table), dtype=np.float64)
    if scores.ndim == 1:
        return Explanation(*both_classes(values[:, 0], base, scores), LINEAR, kind)
    return Explanation(values, base, scores, LINEAR, kind)
