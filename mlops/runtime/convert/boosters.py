"""XGBoost and LightGBM from their own files: the boosters put into their scikit-learn wrappers, for which converters exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlops.runtime.convert.candidates import Candidate
from mlops.runtime.convert.plan import MATRIX, Plan, Unsuitable
from mlops.runtime.convert.sklearn import OPSET
from mlops.runtime.formats.base import Model


def candidates(model: Model) -> Iterator[Candidate]:
    """Raises Unsuitable for categorical columns, linear boosters and odd objectives."""
    if getattr(model, "_levels", None) or "c" in getattr(model, "_types", []):
        raise Unsuitable("its categorical columns are kept by the booster itself")
    if model.framework == "xgboost":
        if not model._in_place:  # type: ignore[attr-defined]
            raise Unsuitable("it is a linear booster")
        yield Candidate("float32", lambda: _built(model, "float32"))
        return
    yield Candidate("float64", lambda: _built(model, "float64"))
    yield Candidate("float32", lambda: _built(model, "float32"))


def _built(model: Any, precision: str) -> tuple[Any, Plan]:
    from onnxmltools.convert.common.data_types import FloatTensorType

    kind = FloatTensorType
    types = [("x", kind([None, model.width]))]
    if model.framework == "xgboost":
        from onnxmltools import convert_xgboost

        proto = convert_xgboost(_without_names(model.booster), initial_types=types, target_opset=15)
    else:
        from onnxmltools import convert_lightgbm

        proto = convert_lightgbm(model.booster, initial_types=types, target_opset=15, zipmap=False)
    if precision == "float64":
        from mlops.runtime.convert.doubles import widen

        widen(proto, model.booster)
    names = [output.name for output in proto.graph.output]
    plan = Plan(MATRIX, precision, [{"name": "x", "dtype": precision}], model.names)
    if model.classes is not None and model.probabilities:
        plan.values, plan.chances = names[0], names[1]
        plan.labels, plan.pick = list(range(len(model.classes))), True
    else:
        plan.values = names[0]
    return proto, plan


def _without_names(booster: Any) -> Any:
    """A copy whose columns are f0, f1, ...: the converter knows no other names."""
    copy = booster.copy()
    copy.feature_names = None
    return copy
