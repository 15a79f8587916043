"""scikit-learn and everything that speaks its language (XGBoost, LightGBM wrappers, pipelines), from pickle or joblib.

Opening a pickle runs its code: this module is imported by sandboxed runners only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.runtime.formats.base import Columns, Model, ModelError, Outcome
from mlops.runtime.formats.categories import categorize, kind_of, levels_of
from mlops.runtime.formats.contents import only_estimator, refuse_no_model
from mlops.runtime.formats.frames import build_frame
from mlops.runtime.formats.pipelines import column_types, columns_with_missing, nested_steps, unread_columns
from mlops.runtime.formats.values import check_dense, check_width, matrix, ordered, plain

_WITH_CHANCES = ("classifier", "clusterer")  # a mixture tells how likely each of its clusters is
_TABLE, _FRAME, _TEXT, _RECORDS = "table", "frame", "text", "records"
# Modules whose estimators take a plain array just as well as a frame.
_PLAIN_MODULES = ("sklearn", "xgboost", "lightgbm")
# These look at column names or types, or run a function that may.
_BY_NAME = {"ColumnTransformer", "FunctionTransformer", "TargetEncoder"}


def load(path: str, *, device: str, options: dict[str, Any]) -> Model:
    import joblib

    # joblib also opens plain pickles and every compression it can write; the sandbox is the gate, not this call.
    found = joblib.load(path)
    return wrap(found, threads=int(options.get("threads", 1)))


def wrap(found: Any, *, threads: int = 1) -> Model:
    """The right `Model` for an unpickled object; `ModelError` when it cannot predict."""
    name = _qualified(found)
    if name == "xgboost.core.Booster":
        from mlops.runtime.formats.xgboost import BoosterModel

        return BoosterModel(found, threads=threads)
    if name == "lightgbm.basic.Booster":
        from mlops.runtime.formats.lightgbm import LightGbmModel

        return LightGbmModel(found, threads=threads)
    if isinstance(found, (dict, list, tuple)):
        return wrap(only_estimator(found), threads=threads)
    refuse_no_model(found)
    _must_be_fitted(found)
    return SklearnModel(found, threads=threads)


def _must_be_fitted(estimator: Any) -> None:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError as error:
        raise ModelError(
            "not_fitted",
            f"The file holds a {type(estimator).__name__} that was never fitted.",
            "Call fit() on your training rows, then save the fitted model.",
        ) from error
    except Exception:  # noqa: BLE001, S110  a class that only looks like an estimator: the smoke prediction tells
        pass


class SklearnModel(Model):
    """An estimator with the scikit-learn interface."""

    def __init__(self, estimator: Any, *, threads: int = 1) -> None:
        super().__init__()
        self.estimator = estimator
        _single_threaded(estimator, threads)
        self.names = _feature_names(estimator)
        self.width = _feature_count(estimator, self.names)
        self.levels = levels_of(estimator, self.names or [f"f{index}" for index in range(self.width or 0)])
        self.way = _FRAME if self.levels else _way_in(estimator)
        self.framework = _framework(estimator)
        self.libraries = _libraries(estimator)
        self.task = _task(estimator)
        self._method = getattr(estimator, "predict", None) or estimator.transform
        self._proba = _proba_method(estimator) if self.task in _WITH_CHANCES else None
        self.probabilities = self._proba is not None
        self._array_classes, self.classes = _classes(estimator) if self.task == "classifier" else (None, None)
        self.classes_by_output = _classes_by_output(estimator) if self.task == "classifier" else None
        self.multilabel = self.task == "classifier" and _is_multilabel(estimator)
        if self.multilabel:
            self._array_classes = self.classes = _label_numbers(estimator) or self.classes
        self._labels = self.classes
        self.inputs = _inputs(self)

    def rename_classes(self, names: list[Any]) -> None:
        if self.classes is not None:
            self._labels = list(names)
            self.classes = list(names)

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        table = self.table(columns, schema)
        if self._proba is None:
            return Outcome(self._named(self._method(table)))
        if self._array_classes is None or self.multilabel or not _argmax_is_predict(self.estimator):
            return self._both(table)
        # One pass instead of two: predict() of these estimators is the argmax of predict_proba().
        chances = np.asarray(self._proba(table))
        if chances.ndim != 2 or self._labels is None or chances.shape[1] != len(self._labels):
            return self._both(table)
        labels = self._labels
        return Outcome([labels[index] for index in chances.argmax(axis=1).tolist()], plain(chances))

    def _both(self, table: Any) -> Outcome:
        values = self._named(self._method(table))
        chances = self._proba(table) if self._proba is not None else None
        if isinstance(chances, list) and chances:  # several outputs: an array of [rows, classes] for each of them
            return Outcome(values, [list(row) for row in zip(*map(plain, chances), strict=True)])
        if not isinstance(chances, np.ndarray) or chances.ndim != 2:
            return Outcome(values)
        return Outcome(values, plain(chances))

    def _named(self, result: Any) -> list[Any]:
        if hasattr(result, "toarray"):
            check_dense(result.shape)
        values = plain(result)
        if not isinstance(values, list):
            values = [values]
        if self._labels is not None and self._array_classes is not None and self._labels != self._array_classes:
            renamed = dict(zip(self._array_classes, self._labels, strict=True))
            return [renamed.get(value, value) if isinstance(value, (str, int, float)) else value for value in values]
        return values

    def table(self, columns: Any, schema: dict[str, Any] | None) -> Any:
        """Columns in the form that the estimator takes: an array, a frame, texts or records."""
        if not isinstance(columns, dict):
            return columns
        if self.way == _TEXT:
            if len(columns) != 1:
                raise ModelError(
                    "wrong_width", f"This model reads one text column, got {len(columns)}.", "Send one column of text."
                )
            return [value or "" for value in next(iter(columns.values()))]
        if self.way == _RECORDS:
            names = list(columns)
            return [
                {name: value for name, value in zip(names, row, strict=True) if value is not None}
                for row in zip(*columns.values(), strict=True)
            ]
        check_width(len(columns), self.width)
        if self.way == _FRAME:
            return categorize(build_frame(self._renamed(columns), schema), self.levels)
        return matrix(columns, self.names)

    def _renamed(self, columns: Columns) -> Columns:
        """Columns under the names the model was fitted with (by position when the names differ)."""
        if self.names is None or len(self.names) != len(columns):
            return columns
        return dict(zip(self.names, ordered(columns, self.names), strict=True))


def _qualified(found: Any) -> str:
    kind = type(found)
    return f"{kind.__module__}.{kind.__qualname__}"


def _single_threaded(estimator: Any, threads: int) -> None:
    """A pool of workers costs more than it gives for a request of a few rows, and the sandbox forbids processes."""
    for step in nested_steps(estimator):
        if hasattr(step, "n_jobs"):
            step.n_jobs = threads


def _feature_names(estimator: Any) -> list[str] | None:
    for step in [estimator, *([estimator.steps[0][1]] if getattr(estimator, "steps", None) else [])]:
        try:
            names = getattr(step, "feature_names_in_", None)
        except Exception:  # noqa: BLE001, S112  a property of somebody's class; xgboost's raises NotFittedError
            continue
        if names is not None:
            return [str(name) for name in names]
    if _framework(estimator) == "lightgbm" and getattr(estimator, "feature_name_", None):
        names = list(estimator.feature_name_)
        return None if names == [f"Column_{index}" for index in range(len(names))] else names
    return None


def _feature_count(estimator: Any, names: list[str] | None) -> int | None:
    if names is not None:
        return len(names)
    try:
        count = getattr(estimator, "n_features_in_", None)
    except Exception:  # noqa: BLE001  see _feature_names
        return None
    return int(count) if isinstance(count, (int, np.integer)) else None


def _way_in(estimator: Any) -> str:
    """How rows reach the estimator: a float array, a frame, a list of texts, or a list of dicts."""
    first = estimator
    while getattr(first, "steps", None):
        first = first.steps[0][1]
    if type(first).__name__ == "DictVectorizer":
        return _RECORDS
    if getattr(type(first), "__module__", "").startswith("sklearn.feature_extraction.text") and type(
        first
    ).__name__.endswith("Vectorizer"):
        return _TEXT
    for step in nested_steps(estimator):
        kind = type(step)
        if kind.__name__ in _BY_NAME or kind.__module__.partition(".")[0] not in _PLAIN_MODULES:
            return _FRAME if _feature_names(estimator) is not None or kind.__name__ == "ColumnTransformer" else _TABLE
        if _encodes_text(step) or _has_categories(step) or (step is estimator and _asks_for_names(step)):
            return _FRAME
    return _TABLE


def _encodes_text(step: Any) -> bool:
    """An encoder fitted on text: its categories are strings, and a float array would never match them."""
    categories = getattr(step, "categories_", None)
    return isinstance(categories, list) and any(
        getattr(levels, "dtype", np.dtype(float)).kind in "OUST" for levels in categories
    )


def _has_categories(step: Any) -> bool:
    if getattr(step, "is_categorical_", None) is not None:  # HistGradientBoosting
        return True
    kinds = getattr(step, "feature_types", None)  # xgboost
    return isinstance(kinds, (list, tuple)) and "c" in kinds


def _asks_for_names(step: Any) -> bool:
    """XGBoost's linear booster, fitted on a frame, refuses an array."""
    return getattr(step, "booster", None) == "gblinear" and _feature_names(step) is not None


def _framework(estimator: Any) -> str:
    modules = [type(step).__module__.partition(".")[0] for step in nested_steps(estimator)]
    for name in ("xgboost", "lightgbm", "sklearn"):
        if name in modules:
            return name
    return modules[0] if modules else "python"


def _libraries(estimator: Any) -> dict[str, str]:
    from mlops.runtime.formats import version_of

    names = {type(step).__module__.partition(".")[0] for step in nested_steps(estimator)} & set(_PLAIN_MODULES)
    return {name: version_of(name) for name in sorted(names | {"numpy"})}


def _task(estimator: Any) -> str:
    try:
        from sklearn.utils import get_tags

        kind = get_tags(estimator).estimator_type
        if kind in ("classifier", "regressor", "clusterer", "outlier_detector"):
            return str(kind)
    except Exception:  # noqa: BLE001, S110  classes that only look like estimators have no tags
        pass
    last = _last(estimator)
    if callable(getattr(estimator, "predict_proba", None)) and getattr(estimator, "classes_", None) is not None:
        return "classifier"
    if type(last).__name__ in _RANKERS:
        return "ranker"
    if not callable(getattr(estimator, "predict", None)):
        return "transformer"
    return "clusterer" if type(last).__module__.startswith("sklearn.mixture") else "other"


_RANKERS = ("XGBRanker", "LGBMRanker")


def _last(estimator: Any) -> Any:
    """The step of a pipeline that answers."""
    while getattr(estimator, "steps", None):
        estimator = estimator.steps[-1][1]
    return estimator


def _proba_method(estimator: Any) -> Any:
    try:
        method = getattr(estimator, "predict_proba", None)  # available_if raises AttributeError, caught by getattr
    except Exception:  # noqa: BLE001  a property of somebody's class
        return None
    return method if callable(method) else None


def _classes(estimator: Any) -> tuple[list[Any] | None, list[Any] | None]:
    try:
        labels = getattr(estimator, "classes_", None)
    except Exception:  # noqa: BLE001  a property of somebody's class
        return None, None
    if not isinstance(labels, (np.ndarray, list)) or len(labels) == 0:
        return None, None
    listed = plain(np.asarray(labels) if not isinstance(labels, list) else labels)
    if any(isinstance(item, list) for item in listed):  # multi-output: classes per output
        return None, None
    return listed, list(listed)


def _classes_by_output(estimator: Any) -> list[list[Any]] | None:
    """The labels of each output of a classifier with several."""
    try:
        labels = getattr(estimator, "classes_", None)
    except Exception:  # noqa: BLE001  a property of somebody's class
        return None
    if not isinstance(labels, list) or not labels or not all(isinstance(each, (np.ndarray, list)) for each in labels):
        return None
    return [list(plain(np.asarray(each))) for each in labels]


def _is_multilabel(estimator: Any) -> bool:
    """Whether each row may have several labels at once: then its probabilities are one for each label, and no argmax says them."""
    last = _last(estimator)
    try:
        if getattr(last, "multilabel_", False) is True:
            return True
        kind = getattr(getattr(last, "_label_binarizer", None), "y_type_", "")
        return str(kind).startswith("multilabel") or len(_label_numbers(estimator) or ()) > 1
    except Exception:  # noqa: BLE001  properties of somebody's class
        return False


def _label_numbers(estimator: Any) -> list[Any] | None:
    """0, 1, ... for each label of an XGBoost classifier of several, whose own ``classes_`` are what a label may be: 0 and 1."""
    last = _last(estimator)
    if not callable(getattr(last, "get_booster", None)):
        return None
    from mlops.runtime.formats.xgboost import targets_of

    count = targets_of(last.get_booster())
    return list(range(count)) if count > 1 else None


# predict() of these is argmax over predict_proba() in their own code. SVC(probability=True) is the known exception;
# voting, thresholded and multi-output classifiers have rules of their own.
_ARGMAX = {
    "LogisticRegression", "LogisticRegressionCV", "RandomForestClassifier", "ExtraTreesClassifier", "DecisionTreeClassifier",
    "ExtraTreeClassifier", "HistGradientBoostingClassifier", "GaussianNB", "MLPClassifier", "XGBClassifier", "XGBRFClassifier",
    "LGBMClassifier", "LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis",
}  # fmt: skip


def _argmax_is_predict(estimator: Any) -> bool:
    return type(_last(estimator)).__name__ in _ARGMAX


def _inputs(model: SklearnModel) -> list[dict[str, Any]] | None:
    if model.way == _TEXT:
        return [{"name": "text", "type": "string", "nullable": False}]
    if model.way == _RECORDS or model.width is None:
        return None
    names = model.names or [f"f{index}" for index in range(model.width)]
    missing = columns_with_missing(model.estimator, names)
    types = column_types(model.estimator, names)
    types |= {name: kind_of(levels) for name, levels in model.levels.items()}
    guessed = unread_columns(model.estimator, names) if model.way == _FRAME else set()
    return [
        {
            "name": name,
            "type": types.get(name, "double"),
            "nullable": name in missing or name in model.levels,
            **({"guessed": True} if name in guessed and name not in types else {}),
        }
        for name in names
    ]
