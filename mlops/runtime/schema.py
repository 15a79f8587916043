"""The schema of a model: what columns (or tensor) it takes and what it answers, as plain JSON.

{"kind": "table"|"tensor"|"json",
 "inputs": [{"name", "type": double|long|boolean|string|datetime, "nullable", "min"?, "max"?, "levels"?, "example"?}],
 "tensor": {"dtype", "shape": [-1, 4], "encoding"?: image|array, "layout"?: NCHW|NHWC, "scale"?: 0..1|0..255, "resize"?} | null,
 "tensors"?: [{"name", "dtype", "shape"}]: a json model that takes several tensors; without it, rows are any JSON,
 "output": {"task": classifier|regressor|clusterer|outlier_detector|transformer|ranker|other, "classes": [...]|null, "probabilities": bool, "activation"?, "classes_by_output"?, "multilabel"?},
 "source": given|sample|reference|model}

The web process imports this module: standard library and numpy only. The parts live in
schema_rules.py (what is valid), schema_infer.py, schema_docs.py and checker.py (rows of a request).
"""

from __future__ import annotations

from typing import Any

from mlops.runtime.checker import MAX_ERRORS, MAX_ROWS, Checker, SchemaError
from mlops.runtime.schema_docs import answer_json_schema, example_row, to_json_schema
from mlops.runtime.schema_infer import from_model, infer, output_of
from mlops.runtime.schema_rules import TYPES, answers_labels, validate_schema

__all__ = [
    "MAX_ERRORS",
    "MAX_ROWS",
    "TYPES",
    "Checker",
    "SchemaError",
    "answer_json_schema",
    "answers_labels",
    "check_rows",
    "example_row",
    "from_model",
    "infer",
    "output_of",
    "to_json_schema",
    "validate_schema",
]


def check_rows(schema: dict[str, Any], parsed: Any, *, max_rows: int = MAX_ROWS) -> Any:
    """Columns (or an array for a tensor schema) of one request; `SchemaError` naming row and column. Keep a `Checker` to be fast."""
    return Checker(schema, max_rows=max_rows).rows(parsed)
