"""The schema of a model: what columns (or tensor) it takes and what it answers, as plain JSON.

{"kind": "table"|"tensor",
 "inputs": [{"name", "type": double|long|boolean|string|datetime, "nullable", "min"?, "max"?, "levels"?, "example"?}],
 "tensor": {"dtype", "shape": [-1, 4]} | null,
 "output": {"task": classifier|regressor|other, "classes": [...]|null, "probabilities": bool, "activation"?},
 "source": given|sample|reference|model}

The web process imports this module: standard library and numpy only. Checking rows lives in checker.py.
"""

from __future__ import annotations

import math
from typing import Any

from mlops.runtime.checker import MAX_ERRORS, MAX_ROWS, Checker, SchemaError

__all__ = [
    "MAX_ERRORS",
    "MAX_ROWS",
    "TYPES",
    "Checker",
    "SchemaError",
    "answer_json_schema",
    "check_rows",
    "example_row",
    "from_model",
    "infer",
    "to_json_schema",
    "validate_schema",
]

TYPES = ("double", "long", "boolean", "string", "datetime")
TASKS = ("classifier", "regressor", "other")
SOURCES = ("given", "sample", "reference", "model")
ACTIVATIONS = ("softmax", "sigmoid", "none")
DTYPES = (
    "float32",
    "float64",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
MAX_COLUMNS = 10_000
MAX_LEVELS = 50
MAX_NAME = 200
# A short sample of whole numbers is no proof that a column never holds a fraction.
_ROWS_TO_BELIEVE_LONG = 20
# What people call the column they predict, when a reference has exactly one column more than the model takes.
_TARGET_NAMES = frozenset(
    ("target", "label", "labels", "y", "class", "outcome", "actual", "output", "prediction", "species")
)
_SYNONYMS = {
    "float": "double", "float32": "double", "float64": "double", "number": "double", "numeric": "double",
    "int": "long", "int32": "long", "int64": "long", "integer": "long",
    "bool": "boolean", "str": "string", "text": "string", "category": "string", "categorical": "string",
    "date": "datetime", "timestamp": "datetime",
}  # fmt: skip


def check_rows(schema: dict[str, Any], parsed: Any, *, max_rows: int = MAX_ROWS) -> Any:
    """Columns (or an array for a tensor schema) of one request; `SchemaError` naming row and column. Keep a `Checker` to be fast."""
    return Checker(schema, max_rows=max_rows).rows(parsed)


# -- a schema somebody gave ---------------------------------------------------------------------------------------


def validate_schema(obj: Any, *, source: str = "given") -> dict[str, Any]:
    """The schema in its full form, or `SchemaError` listing everything wrong with it. Type synonyms (float, int, str) are accepted."""
    if not isinstance(obj, dict):
        raise _bad_schema([{"message": "A schema is a JSON object."}])
    errors: list[dict[str, Any]] = []
    unknown = sorted(set(obj) - {"kind", "inputs", "tensor", "output", "source"})
    if unknown:
        errors.append({"message": f"Unknown keys: {', '.join(map(str, unknown))[:200]}."})
    kind = obj.get("kind") or ("tensor" if obj.get("tensor") and not obj.get("inputs") else "table")
    if kind not in ("table", "tensor"):
        errors.append({"message": f'"kind" is "table" or "tensor", not {kind!r}.'})
    tensor = _tensor_part(obj.get("tensor"), errors) if kind == "tensor" else None
    inputs = _input_part(obj.get("inputs"), errors) if kind == "table" else []
    output = _output_part(obj.get("output"), errors)
    said = obj.get("source", source)
    if said not in SOURCES:
        errors.append({"message": f'"source" is one of {", ".join(SOURCES)}.'})
    if errors:
        raise _bad_schema(errors)
    return {"kind": kind, "inputs": inputs, "tensor": tensor, "output": output, "source": said}


def _bad_schema(errors: list[dict[str, Any]]) -> SchemaError:
    return SchemaError(
        "The schema is not valid: " + errors[0]["message"],
        errors[:MAX_ERRORS],
        'A schema looks like {"inputs": [{"name": "age", "type": "double", "nullable": false}]}.',
        code="invalid_schema",
    )


def _input_part(given: Any, errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not given:
        errors.append({"message": '"inputs" is a list with at least one column.'})
        return []
    if len(given) > MAX_COLUMNS:
        errors.append({"message": f"{len(given):,} columns are more than {MAX_COLUMNS:,}."})
        return []
    seen: set[str] = set()
    columns = []
    for place, column in enumerate(given):
        checked = _column(column, place, errors)
        if checked is None:
            continue
        if checked["name"] in seen:
            errors.append({"column": checked["name"], "message": f"Column {checked['name']!r} appears twice."})
        seen.add(checked["name"])
        columns.append(checked)
    return columns


def _column(column: Any, place: int, errors: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not isinstance(column, dict):
        errors.append({"message": f"Column {place} is not an object with name and type."})
        return None
    name = column.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > MAX_NAME:
        errors.append({"message": f"Column {place} needs a name of 1 to {MAX_NAME} characters."})
        return None

    def wrong(text: str) -> None:
        errors.append({"column": name, "message": f"Column {name!r}: {text}"})

    kind = _SYNONYMS.get(str(column.get("type")), column.get("type"))
    if kind not in TYPES:
        wrong(f"the type is one of {', '.join(TYPES)}, not {column.get('type')!r}.")
        return None
    nullable = column.get("nullable", False)
    if not isinstance(nullable, bool):
        wrong("nullable is true or false.")
    extra = sorted(set(column) - {"name", "type", "nullable", "min", "max", "levels", "example"})
    if extra:
        wrong(f"unknown keys {', '.join(map(str, extra))[:200]}.")
    checked: dict[str, Any] = {"name": name, "type": kind, "nullable": bool(nullable)}
    _bounds_part(column, kind, checked, wrong)
    if column.get("example") is not None:
        checked["example"] = column["example"]
    return checked


def _bounds_part(column: dict[str, Any], kind: str, checked: dict[str, Any], wrong: Any) -> None:
    for key in ("min", "max"):
        bound = column.get(key)
        if bound is None:
            continue
        if (
            kind not in ("double", "long")
            or isinstance(bound, bool)
            or not isinstance(bound, (int, float))
            or not math.isfinite(bound)
        ):
            wrong(f"{key} is a finite number and belongs to a numeric column.")
        else:
            checked[key] = bound
    if "min" in checked and "max" in checked and checked["min"] > checked["max"]:
        wrong("min is above max.")
    levels = column.get("levels")
    if levels is None:
        return
    allowed = {"string": (str,), "long": (int,), "double": (int, float), "boolean": (bool,), "datetime": (str,)}[kind]
    fine = (
        isinstance(levels, list) and 0 < len(levels) <= MAX_LEVELS and all(type(level) in allowed for level in levels)
    )
    if not fine:
        wrong(f"levels is a list of 1 to {MAX_LEVELS} values of type {kind}.")
    else:
        checked["levels"] = list(dict.fromkeys(levels))


def _tensor_part(given: Any, errors: list[dict[str, Any]]) -> dict[str, Any] | None:
    if not isinstance(given, dict):
        errors.append({"message": '"tensor" is {"dtype": "float32", "shape": [-1, 4]}.'})
        return None
    dtype, shape = given.get("dtype", "float32"), given.get("shape")
    if dtype not in DTYPES:
        errors.append({"message": f"The tensor's dtype is one of {', '.join(DTYPES)}."})
    sizes = (
        isinstance(shape, list)
        and 1 <= len(shape) <= 8
        and all(type(size) is int and (size > 0 or size == -1) for size in shape)
    )
    if not sizes:
        errors.append(
            {"message": "The tensor's shape is a list of 1 to 8 sizes; -1 is any size, and the first is the rows."}
        )
        return None
    assert isinstance(shape, list)
    # Rows are the first dimension and free: loaders cut and pad where a model has a fixed batch.
    return {"dtype": dtype, "shape": [-1, *shape[1:]]}


def _output_part(given: Any, errors: list[dict[str, Any]]) -> dict[str, Any]:
    if given is None:
        return {"task": "other", "classes": None, "probabilities": False}
    if not isinstance(given, dict):
        errors.append({"message": '"output" is {"task": "classifier", "classes": [...]}.'})
        return {}
    classes = given.get("classes")
    task = given.get("task") or ("classifier" if classes else "other")
    if task not in TASKS:
        errors.append({"message": f"The output's task is one of {', '.join(TASKS)}."})
    labels = (
        isinstance(classes, list)
        and 1 < len(classes) <= 10_000
        and all(isinstance(item, (str, int, float)) for item in classes)
    )
    if classes is not None and not (labels and len({repr(item) for item in classes}) == len(classes)):
        errors.append({"message": "classes is a list of at least two different labels."})
    activation = given.get("activation")
    if activation is not None and activation not in ACTIVATIONS:
        errors.append({"message": f"activation is one of {', '.join(ACTIVATIONS)}."})
    output = {"task": task, "classes": classes, "probabilities": bool(given.get("probabilities", False))}
    return output if activation is None else {**output, "activation": activation}


# -- a schema from data or from the model ---------------------------------------------------------------------------


def infer(
    columns: dict[str, list[Any]],
    *,
    source: str = "sample",
    types: dict[str, str] | None = None,
    describe: dict[str, Any] | None = None,
    target: str | None = None,
    nullable_from_data: bool = True,
) -> dict[str, Any]:
    """A table schema from canonical columns (None = missing).

    `types`: what tables.read() found, preferred over a guess. `describe`: the model's own description; its column order,
    its output and whether it takes missing values win, and columns it does not take (such as `target`) are left out.
    """
    if not columns or not any(columns.values()):
        raise SchemaError("The data has no rows.", hint="Send a header and at least one row.", code="empty_table")
    described = (describe or {}).get("inputs") or []
    chosen = _chosen(columns, described, target)
    by_name = {column["name"]: column for column in described}
    by_place = described if len(described) == len(chosen) else []
    inputs = []
    for place, name in enumerate(chosen):
        hint = by_name.get(name) or (by_place[place] if by_place else {})
        inputs.append(_inferred(name, columns[name], (types or {}).get(name), hint, nullable_from_data))
    return validate_schema({"kind": "table", "inputs": inputs, "output": _output_of(describe), "source": source})


def from_model(describe: dict[str, Any]) -> dict[str, Any] | None:
    """The schema a model's own description gives, or None when it does not say what it takes."""
    if describe.get("inputs"):
        inputs = [
            {key: column[key] for key in ("name", "type", "nullable", "levels") if key in column}
            for column in describe["inputs"]
        ]
        return validate_schema({"kind": "table", "inputs": inputs, "output": _output_of(describe), "source": "model"})
    if describe.get("tensor"):
        tensor = {"dtype": describe["tensor"]["dtype"], "shape": describe["tensor"]["shape"]}
        return validate_schema({"kind": "tensor", "tensor": tensor, "output": _output_of(describe), "source": "model"})
    return None


def _output_of(describe: dict[str, Any] | None) -> dict[str, Any] | None:
    if not describe:
        return None
    classes = describe.get("classes")
    listed = classes if isinstance(classes, list) and len(classes) > 1 else None
    return {
        "task": describe.get("task") or "other",
        "classes": listed,
        "probabilities": bool(describe.get("probabilities")),
    }


def _chosen(columns: dict[str, list[Any]], described: list[dict[str, Any]], target: str | None) -> list[str]:
    """The data's columns that the model takes, in the model's order where it has names."""
    names = [name for name in columns if name != target]
    wanted = [column["name"] for column in described]
    if not wanted or len(names) == 0:
        return names
    if all(name in columns for name in wanted):
        return wanted
    generic = all(name == f"f{index}" for index, name in enumerate(wanted)) or wanted == ["text"]
    if len(names) == len(wanted) + 1:
        left = [name for name in names if name.strip().lower() not in _TARGET_NAMES]
        names = left if len(left) == len(wanted) else names
    if generic and len(names) == len(wanted):
        return names
    absent = [name for name in wanted if name not in columns]
    raise SchemaError(
        f"The data has {len(names)} columns ({', '.join(names[:8])}), the model takes {len(wanted)} ({', '.join(wanted[:8])}).",
        []
        if generic
        else [{"column": name, "message": f"column {name!r} is missing."} for name in absent[:MAX_ERRORS]],
        "Send the columns the model was trained on; name the target column if the data holds one.",
    )


def _inferred(
    name: str, values: list[Any], told: str | None, hint: dict[str, Any], nullable_from_data: bool
) -> dict[str, Any]:
    present = [value for value in values if value is not None and not (isinstance(value, float) and math.isnan(value))]
    kind = _kind_of(name, present, told, hint.get("type"))
    missing = len(present) < len(values)
    column: dict[str, Any] = {
        "name": name,
        "type": kind,
        "nullable": bool(hint.get("nullable")) or (nullable_from_data and missing),
    }
    if kind in ("double", "long"):
        numbers = [value for value in present if math.isfinite(value)]
        if numbers:
            column |= {"min": min(numbers), "max": max(numbers), "example": numbers[0]}
    elif kind == "string":
        levels = sorted(set(present))
        if 0 < len(levels) <= MAX_LEVELS:
            column["levels"] = levels
        if present:
            column["example"] = present[0][:200]
    elif present:
        column["example"] = present[0]
    return column


def _kind_of(name: str, present: list[Any], told: str | None, modelled: str | None) -> str:
    if told == "datetime":
        return told
    found = {type(value) for value in present}
    if not found:
        return modelled or told or "double"
    if found == {bool}:
        return "boolean"
    if found == {str}:
        return "datetime" if modelled == "datetime" else "string"
    if found <= {int, float}:
        fits_long = all(type(value) is int or value.is_integer() for value in present)
        if modelled == "long" and fits_long:
            return "long"
        whole = found == {int} or told == "long"
        return (
            "long"
            if whole and fits_long and modelled != "double" and len(present) >= _ROWS_TO_BELIEVE_LONG
            else "double"
        )
    kinds = ", ".join(sorted(kind.__name__ for kind in found))
    raise SchemaError(
        f"Column {name!r} mixes kinds of values ({kinds}).",
        [{"column": name, "message": f"column {name!r} mixes {kinds}."}],
        "Keep one type per column; leave a missing value empty or null.",
    )


# -- a schema for people: examples and OpenAPI ----------------------------------------------------------------------


def example_row(schema: dict[str, Any]) -> Any:
    """One row that the schema accepts: a dict for a table, nested lists (without the rows dimension) for a tensor."""
    if schema["kind"] == "tensor":
        zero: Any = {"f": 0.0, "b": False}.get(schema["tensor"]["dtype"][0], 0)
        for size in reversed(schema["tensor"]["shape"][1:]):
            zero = [zero] * (size if size > 0 else 1)
        return zero
    return {column["name"]: _example(column) for column in schema["inputs"]}


def _example(column: dict[str, Any]) -> Any:
    if column.get("example") is not None:
        return column["example"]
    if column.get("levels"):
        return column["levels"][0]
    low, high, kind = column.get("min"), column.get("max"), column["type"]
    if kind in ("double", "long"):
        value = (
            (low + high) / 2
            if low is not None and high is not None
            else low
            if low is not None
            else high
            if high is not None
            else 0
        )
        return int(value) if kind == "long" else float(value)
    return {"boolean": False, "string": "text", "datetime": "2026-01-01T00:00:00Z"}[kind]


def to_json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a native request body: {"inputs": rows}."""
    if schema["kind"] == "tensor":
        inputs = _nested(schema["tensor"])
    else:
        row = _row_schema(schema)
        order = [column["name"] for column in schema["inputs"]]
        flat = {
            "type": "array",
            "items": {},
            "minItems": len(order),
            "maxItems": len(order),
            "description": "Values in this order: " + ", ".join(order[:50]) + (", ..." if len(order) > 50 else ""),
        }
        inputs = {
            "anyOf": [
                {"type": "array", "minItems": 1, "items": row},
                {"type": "array", "minItems": 1, "items": flat},
                row,
            ]
        }
    example = example_row(schema)
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {"inputs": inputs},
        "example": {"inputs": [example]},
    }


def _row_schema(schema: dict[str, Any]) -> dict[str, Any]:
    strict = schema.get("source") == "given"
    return {
        "type": "object",
        "required": [column["name"] for column in schema["inputs"]],
        "additionalProperties": False,
        "properties": {column["name"]: _property(column, strict) for column in schema["inputs"]},
    }


def _property(column: dict[str, Any], strict: bool) -> dict[str, Any]:
    kind = {"double": "number", "long": "integer", "boolean": "boolean", "string": "string", "datetime": "string"}[
        column["type"]
    ]
    found: dict[str, Any] = {"type": [kind, "null"] if column.get("nullable") else kind, "example": _example(column)}
    if column["type"] == "datetime":
        found["format"] = "date-time"
    low, high, levels = column.get("min"), column.get("max"), column.get("levels")
    if strict:
        found |= {"minimum": low} if low is not None else {}
        found |= {"maximum": high} if high is not None else {}
        found |= {"enum": [*levels, None] if column.get("nullable") else levels} if levels else {}
        return found
    # Seen in the data, not enforced: a description keeps generated clients from refusing what we accept.
    if low is not None and high is not None:
        found["description"] = f"Seen between {low} and {high}."
    elif levels:
        found["description"] = "Seen: " + ", ".join(str(level)[:40] for level in levels[:20])
    return found


def _nested(tensor: dict[str, Any]) -> dict[str, Any]:
    kind = {"f": "number", "b": "boolean"}.get(tensor["dtype"][0], "integer")
    found: dict[str, Any] = {"type": kind}
    for size in reversed(tensor["shape"]):
        found = {"type": "array", "items": found} | (
            {"minItems": size, "maxItems": size} if size > 0 else {"minItems": 1}
        )
    return found


def answer_json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a native answer."""
    output = schema.get("output") or {}
    classes = output.get("classes")
    value: dict[str, Any] = (
        {"enum": classes} if classes else {"type": "number"} if output.get("task") == "regressor" else {}
    )
    found: dict[str, Any] = {
        "predictions": {"type": "array", "items": value},
        "prediction_ids": {"type": "array", "items": {"type": "string", "format": "uuid"}},
        "model": {"type": "object", "properties": {"name": {"type": "string"}, "version": {"type": "integer"}}},
        "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}},
    }
    if output.get("probabilities"):
        found["probabilities"] = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
        found["classes"] = {"type": "array", "items": {}, "example": classes or []}
    return {"type": "object", "required": ["predictions", "prediction_ids", "model", "timings_ms"], "properties": found}
