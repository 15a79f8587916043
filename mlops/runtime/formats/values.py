"""Between the libraries' arrays and plain JSON values: columns in, lists out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mlops.runtime.formats.base import Columns, ModelError, Outcome
from mlops.runtime.formats.fence import LABELS


def plain(value: Any) -> Any:
    """Any library's result as JSON-able Python: NaN and infinities become None, numpy scalars plain numbers."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    if isinstance(value, np.generic):
        return plain(value.item()) if not isinstance(value, (np.datetime64, np.timedelta64)) else str(value)
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return _plain_object(value)


def _plain_array(array: np.ndarray) -> Any:
    if array.dtype.kind in "biu":
        return array.tolist()
    if array.dtype.kind == "f":
        listed = array.tolist()
        return listed if np.isfinite(array).all() else _without_nan(listed)
    if array.dtype.kind in "mM":
        return array.astype(str).tolist()
    return [plain(item) for item in array.tolist()] if array.ndim else plain(array.item())


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return value if math.isfinite(value) else None


def _plain_object(value: Any) -> Any:
    """Objects of pandas, scipy and torch, told by what they can do so that none of them is imported here."""
    if hasattr(value, "toarray"):  # scipy.sparse
        return plain(value.toarray())
    if hasattr(value, "to_dict") and hasattr(value, "columns"):  # pandas.DataFrame
        return plain(value.to_dict(orient="records"))
    if hasattr(value, "to_numpy"):  # pandas.Series, Index
        return plain(value.to_numpy())
    if hasattr(value, "detach"):  # torch.Tensor
        return plain(value.detach().cpu().numpy())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    return str(value)


def ordered(columns: Columns, names: list[str] | None) -> list[list[Any]]:
    """The columns in the model's order: by name when all names are there, else as they come."""
    if names is None or len(names) != len(columns):
        return list(columns.values())
    try:
        return [columns[name] for name in names]
    except KeyError:
        return list(columns.values())


def check_width(got: int, want: int | None) -> None:
    if want is not None and got != want:
        raise ModelError(
            "wrong_width",
            f"The model takes {want} columns per row, the request has {got}.",
            "See the deployment's schema.",
        )


MAX_DENSE = 2_000_000  # numbers of one answer: 8 MB of "0.0,"


def check_dense(shape: tuple[int, ...]) -> None:
    """A sparse answer becomes a list for each row, zeros and all. Raises `ModelError` where that is too much."""
    rows, width = shape[0], int(np.prod(shape[1:]))
    if rows * width > MAX_DENSE:
        most = MAX_DENSE // max(1, width)
        hint = (
            f"Send at most {most:,} rows at a time."
            if most
            else "Reduce it inside the model: TruncatedSVD after the vectorizer."
        )
        raise ModelError(
            "answer_too_wide", f"{rows:,} rows of {width:,} numbers each are too many for one answer.", hint
        )


def matrix(columns: Columns, names: list[str] | None, dtype: Any = np.float64) -> np.ndarray:
    """Columns as a C-ordered [rows, columns] array of numbers; None becomes NaN."""
    chosen = ordered(columns, names)
    try:
        return np.ascontiguousarray(np.array(chosen, dtype=dtype).T)
    except (TypeError, ValueError, OverflowError) as error:
        raise _not_numbers(columns, dtype, error) from error


def _not_numbers(columns: Columns, dtype: Any, error: Exception) -> ModelError:
    for name, values in columns.items():
        try:
            np.array(values, dtype=dtype)
        except (TypeError, ValueError, OverflowError):
            bad = next((value for value in values if isinstance(value, (str, list, dict)) or value is None), values[:1])
            return ModelError(
                "not_a_number",
                f"Column {name!r}: this model takes {np.dtype(dtype).name} numbers, got {bad!r}.",
                "Encode text columns inside the model (a scikit-learn Pipeline with a ColumnTransformer does).",
            )
    return ModelError(
        "bad_input", f"The columns do not make a table: {error}", "All columns need the same number of rows."
    )


def softmax(scores: np.ndarray) -> np.ndarray:
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def sigmoid(scores: np.ndarray) -> np.ndarray:
    # Written so that exp never sees a large positive number.
    small = np.exp(-np.abs(scores))
    return np.where(scores >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def pick(labels: list[Any], probabilities: np.ndarray) -> list[Any]:
    """The label with the highest probability, per row."""
    return [labels[index] for index in probabilities.argmax(axis=1).tolist()]


def _are_probabilities(scores: np.ndarray) -> bool:
    inside = bool(((scores >= 0) & (scores <= 1)).all())
    return inside and (scores.shape[1] == 1 or bool(np.allclose(scores.sum(axis=1), 1.0, atol=1e-4)))


def from_scores(scores: Any, output: dict[str, Any] | None, classes: list[Any] | None) -> Outcome:
    """Raw network outputs as an outcome, by what the schema's `output` says.

    `output` may hold task, classes and activation ("softmax", "sigmoid", "none"). A classifier without an activation gets
    softmax (sigmoid for a single score) unless its rows already are probabilities. Anything else is answered raw.
    """
    said = output or {}
    labels = said.get("classes") or classes
    array = np.asarray(scores)
    if (
        said.get("task", "classifier" if labels else "other") != "classifier"
        or array.ndim > 2
        or array.dtype.kind not in "fiu"
    ):
        return Outcome(plain(array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array))
    if array.dtype.kind in "iu" and (array.ndim == 1 or array.shape[1] == 1):
        return Outcome(_labelled(array.reshape(-1), labels))
    return _classified(array.astype(np.float64).reshape(len(array), -1), said.get("activation"), labels)


def records(outputs: dict[str, Any], rows: int) -> list[Any] | None:
    """Several outputs as an object per row: {"price": 6.0, "embedding": [...]}. None when not one of them has an entry per row.

    Outputs without one (a loss, a shared state) are left out; one number per row is said as a number.
    """
    arrays = {name: np.asarray(output) for name, output in outputs.items()}
    kept = {name: array for name, array in arrays.items() if array.ndim and len(array) == rows}
    if not kept:
        return None
    for name, array in kept.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0][0])
            raise ModelError(
                "model_output_invalid",
                f"The model answered NaN or infinity for row {row} in {name!r}.",
                "Check that row's values; a missing value the model was not trained on is the usual reason.",
            )
    listed = {
        name: plain(array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array) for name, array in kept.items()
    }
    return [dict(zip(listed, row, strict=True)) for row in zip(*listed.values(), strict=True)]


def are_probabilities(scores: Any) -> bool:
    """Whether rows of scores could be probabilities of classes."""
    array = np.asarray(scores)
    return array.ndim == 2 and array.dtype.kind == "f" and _are_probabilities(array)


def _labelled(indexes: np.ndarray, labels: list[Any] | None) -> list[Any]:
    if labels and len(indexes) and indexes.min() >= 0 and indexes.max() < len(labels):
        return [labels[index] for index in indexes.tolist()]
    return plain(indexes)


def _classified(scores: np.ndarray, activation: str | None, labels: list[Any] | None) -> Outcome:
    if activation is None:
        activation = "none" if _are_probabilities(scores) else "softmax" if scores.shape[1] > 1 else "sigmoid"
    if activation == "softmax" and scores.shape[1] > 1:
        scores = softmax(scores)
    elif activation in ("sigmoid", "softmax"):
        scores = sigmoid(scores)
    if scores.shape[1] == 1:
        scores = np.hstack([1.0 - scores, scores])
    names = labels if labels and len(labels) == scores.shape[1] else list(range(scores.shape[1]))
    if np.isfinite(scores).all():
        return Outcome(pick(names, scores), scores.tolist(), {type(name) for name in names} <= set(LABELS))
    return Outcome(pick(names, scores), plain(scores))
