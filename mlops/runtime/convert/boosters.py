"""XGBoost and LightGBM from their own files: the boosters put into their scikit-learn wrappers, for which converters exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlops.runtime.convert import lightgbm
from mlops.runtime.convert.candidates import Candidate
from mlops.runtime.convert.plan import MATRIX, Plan, Unsuitable
from mlops.runtime.formats.base import Model


def candidates(model: Model) -> Iterator[Candidate]:
    """Raises Unsuitable for categorical columns, linear boosters and odd objectives."""
    if getattr(model, "_levels", None) or "c" in getattr(model, "_types", []):
        raise Unsuitable("its categorical columns are kept by the booster itself")
    if model.framework == "xgboost":
        if not model._in_place:  # type: ignore[attr-defined]
            raise Unsuitable("it is a linear booster")
        yield Candidate("float32", lambda: _xgboost(model))
        return
    yield Candidate("float64", lambda: _lightgbm(model))


def _xgboost(model: Any) -> tuple[Any, Plan]:
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("x", FloatTensorType([None, model.width]))]
    proto = convert_xgboost(_plain(model), initial_types=types, target_opset=15)
    names = [output.name for output in proto.graph.output]
    return proto, _plan(model, "float32", names[0], names[1] if len(names) > 1 else names[0])


def _lightgbm(model: Any) -> tuple[Any, Plan]:
    return lightgbm.graph(model.booster, model.width), _plan(model, "float64", "y", "y")


def _plan(model: Any, precision: str, values: str, chances: str) -> Plan:
    plan = Plan(MATRIX, precision, [{"name": "x", "dtype": precision}], model.names)
    if model.classes is not None and model.probabilities:
        plan.chances, plan.labels, plan.pick = chances, list(range(len(model.classes))), True
    else:
        plan.values = values
    return plan


def _plain(model: Any) -> Any:
    """The rounds that answer, with columns called f0, f1, ...: the converter knows no other names."""
    first, last = model._rounds
    booster = model.booster[first:last] if last else model.booster.copy()
    booster.feature_names = None
    return booster
