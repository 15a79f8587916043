"""Filling gaps in numbers with 64 bits: ONNX Runtime's own operator for it has 32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mlops.runtime.convert import trees


def converter(usual: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """skl2onnx's converter of SimpleImputer; ``usual`` does what is not 64-bit numbers with NaN for a gap."""

    def convert(scope: Any, operator: Any, container: Any) -> None:
        from skl2onnx.common.data_types import DoubleTensorType

        model = operator.raw_operator
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
