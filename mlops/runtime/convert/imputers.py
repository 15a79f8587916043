"""Filling gaps in numbers with 64 bits: ONNX Runtime's own operator for it has 32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlops.runtime.convert import trees


def converter(usual: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """skl2onnx's converter of SimpleImputer; ``usual`` does what is not 64-bit numbers with NaN for a gap."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType, StringTensorType

        model = operator.raw_operator
        if (
            _only_texts(operator, StringTensorType)
            and not isinstance(model.missing_values, str)
            and not model.add_indicator
        ):
            # A row with a missing text never comes here: the model itself answers it.
            _as_they_are(scope, operator, container)
            return
        statistics = np.asarray(model.statistics_)
        plain = statistics.dtype.kind == "f" and bool(np.isfinite(statistics).all())
        gap = model.missing_values
        is_nan = isinstance(gap, float) and np.isnan(gap)
        if len(operator.inputs) != 1 or not (
            plain and is_nan and isinstance(operator.inputs[0].type, DoubleTensorType)
        ):
            usual(scope, operator, container)
            return
        add, names = trees.adder(scope, container), scope.get_unique_variable_name
        source, found = operator.inputs[0].full_name, names("gaps")
        add("IsNaN", [source], [found], "")
        known = trees.constant(add, names, statistics.reshape(1, -1))
        filled = names("filled")
        add("Where", [found, known, source], [filled], "")
        wide = isinstance(operator.outputs[0].type, DoubleTensorType)
        add("Cast", [filled], [operator.outputs[0].full_name], "", to=trees.DOUBLE if wide else trees.FLOAT)

    return convert


def _only_texts(operator: Any, kind: type) -> bool:
    return all(isinstance(entry.type, kind) for entry in operator.inputs)


def _as_they_are(scope: Any, operator: Any, container: Any) -> None:
    add = trees.adder(scope, container)
    sources = [entry.full_name for entry in operator.inputs]
    if len(sources) == 1:
        add("Identity", sources, [operator.outputs[0].full_name], "")
    else:
        add("Concat", sources, [operator.outputs[0].full_name], "", axis=1)
