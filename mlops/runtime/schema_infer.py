"""A schema from data (a sample, a reference) or from a model's own description. Light: no ML library."""

from __future__ import annotations

import math
from typing import Any

from mlops.runtime.schema_error import MAX_ERRORS, SchemaError
from mlops.runtime.schema_rules import MAX_LEVELS, validate_schema

# A short sample of whole numbers is no proof that a column never holds a fraction.
_ROWS_TO_BELIEVE_LONG = 20
# What people call the column they predict, when a reference has exactly one column more than the model takes.
_TARGET_NAMES = frozenset(
    ("target", "label", "labels", "y", "class", "outcome", "actual", "output", "prediction", "species")
)


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
    if describe.get("tensors"):
        named = {"kind": "json", "tensors": describe["tensors"]}
        return validate_schema({**named, "output": _output_of(describe), "source": "model"})
    return None


def _output_of(describe: dict[str, Any] | None) -> dict[str, Any] | None:
    return output_of(describe) if describe else None


def output_of(describe: dict[str, Any]) -> dict[str, Any]:
    """What the model itself says about its answers."""
    classes = describe.get("classes")
    listed = classes if isinstance(classes, list) and len(classes) > 1 else None
    return {
        "task": describe.get("task") or "other",
        "classes": listed,
        "probabilities": bool(describe.get("probabilities")),
        **({"classes_by_output": by_output} if (by_output := describe.get("classes_by_output")) else {}),
        **({"multilabel": True} if describe.get("multilabel") else {}),
    }


def _chosen(columns: dict[str, list[Any]], described: list[dict[str, Any]], target: str | None) -> list[str]:
    """The data's columns that the model takes, in the model's order where it has names."""
    names = [name for name in columns if name != target]
    wanted = [column["name"] for column in described]
    if not wanted or len(names) == 0:
        return names
    if all(name in columns for name in wanted):
        return wanted
    underscored = {name.replace(" ", "_"): name for name in names}  # as LightGBM keeps them
    if len(underscored) == len(names) and all(name in underscored for name in wanted):
        return [underscored[name] for name in wanted]
    generic = all(name == f"f{index}" for index, name in enumerate(wanted)) or wanted == ["text"]
    if len(names) == len(wanted) + 1:
        left = [name for name in names if name.strip().lower() not in _TARGET_NAMES]
        names = left if len(left) == len(wanted) else names
    if generic and len(names) == len(wanted):
        return names
    absent = [name for name in wanted if name not in columns]
    if not generic and len(absent) < len(wanted):
        raise _lacking(absent, [name for name in names if name not in wanted])
    raise SchemaError(
        f"The data has {len(names)} columns ({', '.join(names[:8])}), the model takes {len(wanted)} ({', '.join(wanted[:8])}).",
        []
        if generic
        else [{"column": name, "message": f"column {name!r} is missing."} for name in absent[:MAX_ERRORS]],
        "Send the columns the model was trained on; name the target column if the data holds one.",
    )


def _lacking(absent: list[str], others: list[str]) -> SchemaError:
    instead = f" It also has {_listed(others)}." if others else ""
    return SchemaError(
        f"The data lacks the column{'s' if len(absent) > 1 else ''} {_listed(absent)}.{instead}",
        [{"column": name, "message": f"column {name!r} is missing."} for name in absent[:MAX_ERRORS]],
        "Send every column the model was trained on, under the same names.",
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


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
