"""Columns as a pandas frame with the types a pipeline was fitted on. Only for models that select columns by name."""

from __future__ import annotations

from typing import Any

from mlops.runtime.formats.base import Columns


def build_frame(columns: Columns, schema: dict[str, Any] | None) -> Any:
    """A DataFrame; the schema's column types decide the dtypes (by position where the names differ)."""
    import pandas

    types = _types(columns, schema)
    return pandas.DataFrame({name: _series(pandas, values, types.get(name)) for name, values in columns.items()})


def _types(columns: Columns, schema: dict[str, Any] | None) -> dict[str, str]:
    described = (schema or {}).get("inputs") or []
    by_name = {column["name"]: column["type"] for column in described}
    if all(name in by_name for name in columns):
        return by_name
    if len(described) == len(columns):
        return {name: column["type"] for name, column in zip(columns, described, strict=True)}
    return {}


def _series(pandas: Any, values: list[Any], kind: str | None) -> Any:
    missing = None in values
    if kind == "datetime":
        return pandas.to_datetime(pandas.Series(values), format="ISO8601")
    if kind == "double" or (kind == "long" and missing):
        return pandas.Series(values, dtype="float64")
    if kind == "long":
        return pandas.Series(values, dtype="int64")
    if kind == "boolean":
        return pandas.Series(values, dtype="object" if missing else "bool")
    if kind == "string":
        # An all-missing column would become float otherwise, and encoders compare its dtype with the fitted one.
        return pandas.Series(values, dtype="str")
    return pandas.Series(values)
