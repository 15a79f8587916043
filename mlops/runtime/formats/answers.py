"""What a user's predict() gave, as JSON: lists, arrays, tensors, frames, or {"predictions", "probabilities"?, "classes"?}. Imports no library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from mlops.runtime.formats.base import ModelError

_HINT = (
    'Return one prediction per row: a list, an array, a tensor, or {"predictions": [...], "probabilities": [[...]]}.'
)
_PARTS = frozenset(("predictions", "probabilities", "classes"))
_NATIVE = (str, int, float, bool, type(None))


@dataclass(frozen=True)
class Answer:
    values: list[Any]
    probabilities: list[list[float]] | None = None
    classes: list[Any] | None = None


def read(given: Any, rows: int, name: str) -> Answer:
    """The answer to ``rows`` rows. Raises ModelError (``bad_output``) that names the counts, or the row that JSON cannot say."""
    if isinstance(given, Mapping) and "predictions" in given:
        if unknown := sorted(str(key) for key in given if key not in _PARTS):
            raise _bad(f"{name} answered the unknown keys {', '.join(unknown)[:200]}")
        values = _per_row(given["predictions"], rows, name, "predictions")
        found = given.get("probabilities")
        probabilities = None if found is None else _probabilities(_per_row(found, rows, name, "probabilities"), name)
        classes = given.get("classes")
        return Answer(values, probabilities, None if classes is None else _listed(classes, name))
    return Answer(_per_row(given, rows, name, "predictions"))


def _per_row(given: Any, rows: int, name: str, what: str) -> list[Any]:
    values = _listed(given, name)
    if len(values) != rows:
        raise _bad(f"{name} answered {len(values):,} {what} for {rows:,} rows")
    return values


def _listed(given: Any, name: str) -> list[Any]:
    if hasattr(given, "to_dict") and hasattr(given, "columns"):  # a frame: its rows
        given = given.to_dict("records")
    elif hasattr(given, "detach"):
        given = _tensor(given)
    elif hasattr(given, "tolist"):
        given = given.tolist()
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise _bad(f"{name} answered {_article(given)}, not a list")
    return [_plain(value, name, row) for row, value in enumerate(given)]


def _tensor(given: Any) -> Any:
    """A torch tensor's numbers; those of kinds that have no list go by float32."""
    given = given.detach().cpu()
    return given.float().tolist() if str(given.dtype) == "torch.bfloat16" else given.tolist()


def _plain(value: Any, name: str, row: int) -> Any:
    if type(value) in _NATIVE:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(each, name, row) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each, name, row) for key, each in value.items()}
    if hasattr(value, "detach"):
        return _tensor(value)
    if isinstance(value, (datetime, date)):  # before tolist: pandas' own are datetimes
        return value.isoformat()
    if hasattr(value, "tolist"):  # arrays and scalars of NumPy, series of pandas
        return _plain(value.tolist(), name, row)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, _NATIVE):  # a subclass: an enumeration, a string of NumPy
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    raise _bad(f"{name} answered {_article(value)} for row {row}, which JSON cannot say")


def _probabilities(values: list[Any], name: str) -> list[list[float]]:
    for row, each in enumerate(values):
        numbers = isinstance(each, list) and all(isinstance(p, (int, float)) and not isinstance(p, bool) for p in each)
        if not numbers or len(each) != len(values[0]):
            raise _bad(f"{name}: the probabilities of row {row} are not a list of numbers as long as that of row 0")
    return values


def _article(value: Any) -> str:
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"


def _bad(message: str) -> ModelError:
    return ModelError("bad_output", f"{message}.", _HINT)
