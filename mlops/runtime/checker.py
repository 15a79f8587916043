"""Check the rows of a request against a schema, fast: the runner asks this once per prediction.

A schema is compiled once into a `Checker`. Rows of good types take a path without per-value work; anything odd falls
through to the slow path, which names the row and the column in every message.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from datetime import datetime
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from mlops.runtime import tensor_rows
from mlops.runtime.schema_error import MAX_ERRORS, MAX_ROWS, SchemaError, name_errors, refusal, too_many
from mlops.runtime.schema_error import say as _say

__all__ = ["MAX_ERRORS", "MAX_ROWS", "Checker", "SchemaError"]

# Beyond this an int does not fit the int64 that models take; the slow path explains it.
_INT64_LIMIT = 2**63
_MAX_SIGNATURES = 256
_EXACT = 2.0**53  # whole numbers below it are the same as floats
_NONE = type(None)
_ROWS = (dict, list, tuple)
_PLAIN: dict[str, frozenset[type]] = {
    "double": frozenset((float, int)),
    "long": frozenset((int,)),
    "boolean": frozenset((bool,)),
    "string": frozenset((str,)),
    "datetime": frozenset((str,)),
}
_WANTED = {
    "double": "a number",
    "long": "a whole number",
    "boolean": "true or false",
    "string": "text",
    "datetime": "a date and time such as 2026-11-21T09:30:00Z",
}


class Checker:
    """`Checker(schema).rows(inputs)`: columns for a table schema, one array for a tensor schema, rows for JSON, or `SchemaError`.

    min, max and levels are enforced only in a schema the user gave; in an inferred one they describe the data seen.
    """

    def __init__(self, schema: dict[str, Any], *, max_rows: int = MAX_ROWS) -> None:
        self.schema = schema
        self.kind = schema["kind"]
        self.max_rows = max_rows
        self.inputs: list[dict[str, Any]] = schema.get("inputs") or []
        self.names = tuple(column["name"] for column in self.inputs)
        self._width = len(self.names)
        self._get: Callable[[Any], tuple[Any, ...]] = _getter(self.names)
        self._allowed = tuple(
            _PLAIN[column["type"]] | {_NONE} if column.get("nullable") else _PLAIN[column["type"]]
            for column in self.inputs
        )
        kinds = {column["type"] for column in self.inputs}
        self._uniform = _PLAIN[kinds.pop()] if kinds in ({"double"}, {"long"}) else None
        self._strict = schema.get("source") == "given"
        self._extra = tuple(
            (index, column)
            for index, column in enumerate(self.inputs)
            if column["type"] == "datetime" or (self._strict and _bounds(column))
        )
        self._whole = [index for index, column in enumerate(self.inputs) if column["type"] == "long"]
        self._numbers = bool(self.inputs) and all(
            column["type"] in ("double", "long") and not (self._strict and column.get("levels"))
            for column in self.inputs
        )
        self._packed = struct.Struct(f"{self._width}d").pack
        self._one_row = (1, self._width)
        self._number_rows: set[tuple[type, ...]] = set()  # types of rows of nothing but numbers; bounded, as below
        self._low, self._high = (_limits(self.inputs, key) if self._strict else None for key in ("min", "max"))
        # types of a row -> getter of its numbers (None: it has none). Bounded: an attacker may send many combinations.
        self._signatures: dict[tuple[type, ...], Callable[[Any], tuple[Any, ...]] | None] = {}

    def rows(self, parsed: Any) -> Any:
        """`parsed`: a list of dicts, a list of lists in schema order, or one dict; for a tensor nested lists or an array.

        The values of a model's only column are rows too: ["a text", "another"].
        """
        if self.kind != "table":
            return self._of_no_table(parsed)
        if isinstance(parsed, np.ndarray):
            parsed = self._listed(parsed)
        rows = [parsed] if type(parsed) is dict else parsed
        self._countable(rows)
        if self._width == 1 and type(rows[0]) not in _ROWS:
            rows = [row if type(row) in _ROWS else [row] for row in rows]
        fast = self._fast(rows)
        return fast if fast is not None else self._slow(rows)

    def _of_no_table(self, parsed: Any) -> Any:
        if self.kind == "tensor":
            return tensor_rows.tensor(parsed, self.schema["tensor"], self.max_rows)
        if self.schema.get("tensors"):
            return tensor_rows.tensors(parsed, self.schema["tensors"], self.max_rows)
        rows = [parsed] if type(parsed) is dict else parsed
        self._countable(rows)
        return rows

    def table(self, parsed: Any) -> np.ndarray | None:
        """Rows of nothing but numbers as one float64 array, columns in schema order, where ``rows`` would have no complaint.

        None for all others: what is wrong with them, if anything, ``rows`` says.
        """
        if not self._numbers or type(parsed) is not list or not 0 < len(parsed) <= self.max_rows:
            return None
        if len(parsed) == 1:
            return self._one(parsed[0])
        kind = type(parsed[0])
        if kind not in (list, dict) or set(map(type, parsed)) != {kind} or set(map(len, parsed)) != {self._width}:
            return None
        try:
            rows = parsed if kind is list else self._values_of(parsed)
            # A third of the time of np.array, and texts and gaps are errors.
            packed = struct.pack(f"{len(rows) * self._width}d", *chain.from_iterable(rows))
        except (KeyError, OverflowError, struct.error):
            return None
        table = np.frombuffer(packed).reshape(len(rows), self._width)
        return table if self._within(table) and not _may_hold_booleans(table, rows) else None

    def _one(self, row: Any) -> np.ndarray | None:
        """``table`` of one row: what it costs is mostly numpy's calls, so there are few of them."""
        kind = type(row)
        if (kind is not dict and kind is not list) or len(row) != self._width:
            return None
        try:
            values = row if kind is list else self._get(row)
            if self._uniform is not None:
                if not self._uniform.issuperset(map(type, values)):
                    return None
            elif (types := tuple(map(type, values))) not in self._number_rows and not self._learn_numbers(types):
                return None
            if not math.hypot(*values) < _EXACT:  # at least as much as the largest of them; NaN is not less
                return None
            table = np.frombuffer(self._packed(*values)).reshape(self._one_row)
        except (KeyError, OverflowError):  # a whole number that no float holds
            return None
        return table if (self._low is None and self._high is None) or self._within(table) else None

    def _learn_numbers(self, types: tuple[type, ...]) -> bool:
        """Whether a row of these types has a number of the right kind in every column."""
        if not all(kind in allowed and kind is not _NONE for kind, allowed in zip(types, self._allowed, strict=True)):
            return False
        if len(self._number_rows) >= _MAX_SIGNATURES:
            self._number_rows.clear()
        self._number_rows.add(types)
        return True

    def _values_of(self, rows: list[dict[str, Any]]) -> list[Any]:
        """The values of rows of the right width, in schema order. Raises KeyError where a name is missing."""
        first = tuple(rows[0])
        if first == self.names and list(map(tuple, rows)).count(first) == len(rows):
            return list(map(dict.values, rows))  # all are in that order: half the time of looking up each name
        return list(map(self._get, rows))

    def _within(self, table: np.ndarray) -> bool:
        if not np.abs(table).max() < _EXACT:  # as NaN is not
            return False
        if self._whole and not np.array_equal(whole := table[:, self._whole], np.rint(whole)):
            return False
        return not (
            (self._low is not None and (table < self._low).any())
            or (self._high is not None and (table > self._high).any())
        )

    def columns(self, columns: dict[str, Any]) -> Any:
        """The same check for data that comes as named columns."""
        if self.schema.get("tensors"):
            return tensor_rows.batched(columns, self.schema["tensors"], self.max_rows)
        if self.kind == "json":
            return self.rows([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])
        unknown = [name for name in columns if name not in set(self.names)]
        missing = [name for name in self.names if name not in columns]
        if unknown or missing:
            raise refusal(name_errors(missing, unknown, None), self.names)
        lengths = {len(columns[name]) for name in self.names}
        if len(lengths) > 1:
            raise SchemaError(
                "The columns have different numbers of rows.", hint="Send one value per row in every column."
            )
        checked: dict[str, list[Any]] = self.rows(
            [list(row) for row in zip(*(columns[name] for name in self.names), strict=True)]
        )
        return checked

    # -- tables -------------------------------------------------------------------------------------------------

    def _countable(self, rows: Any) -> None:
        if type(rows) is not list:
            raise SchemaError(f'"inputs" is {_say(rows)}, not rows.', hint=self._example_hint())
        if not rows:
            raise SchemaError('"inputs" is empty.', hint="Send at least one row. " + self._example_hint())
        if len(rows) > self.max_rows:
            raise too_many(len(rows), self.max_rows)

    def _example_hint(self) -> str:
        if self.kind == "json":
            return 'Send {"inputs": [row, ...]}: a list, one entry per row.'
        names = ", ".join(f'"{name}": ...' for name in self.names[:3]) + (", ..." if self._width > 3 else "")
        return f"Rows are [{{{names}}}] or [[...]] with {self._width} values each."

    def _fast(self, rows: list[Any]) -> dict[str, list[Any]] | None:
        width = self._width
        kind = type(rows[0])
        try:
            if kind is dict:
                get = self._get
                tuples = [get(row) for row in rows if len(row) == width]
            elif kind is list:
                tuples = [tuple(row) for row in rows if len(row) == width and type(row) is list]
            else:
                return None
            if len(tuples) != len(rows) or not self._plain(tuples):
                return None
        except (KeyError, TypeError, OverflowError):
            return None
        if len(tuples) == 1:
            columns = {name: [value] for name, value in zip(self.names, tuples[0], strict=True)}
        else:
            columns = {name: list(values) for name, values in zip(self.names, zip(*tuples, strict=True), strict=True)}
        return columns if not self._extra or self._extra_fine(columns) else None

    def _plain(self, tuples: list[tuple[Any, ...]]) -> bool:
        if self._uniform is not None and len(tuples) > 1:
            # All columns are numbers of one type: look at all values at once, half the time of row by row.
            kinds = set(map(type, chain.from_iterable(tuples)))
            if kinds <= self._uniform:
                return -_INT64_LIMIT < sum(chain.from_iterable(tuples)) < _INT64_LIMIT
        known = self._signatures
        for values in tuples:
            signature = tuple(map(type, values))
            if signature not in known and not self._learn(signature):
                return False
            numbers = known[signature]
            if numbers is not None:
                total = sum(numbers(values))
                # NaN and infinity survive a sum, so one test covers the row.
                if not -_INT64_LIMIT < total < _INT64_LIMIT:
                    return False
        return True

    def _learn(self, signature: tuple[type, ...]) -> bool:
        if not all(kind in allowed for kind, allowed in zip(signature, self._allowed, strict=True)):
            return False
        if len(self._signatures) >= _MAX_SIGNATURES:
            self._signatures.clear()
        numeric = [index for index, kind in enumerate(signature) if kind is float or kind is int]
        self._signatures[signature] = _getter(tuple(numeric)) if numeric else None
        return True

    def _extra_fine(self, columns: dict[str, list[Any]]) -> bool:
        for index, column in self._extra:
            for value in columns[self.names[index]]:
                if value is not None and _complaint(column, value, self._strict) is not None:
                    return False
        return True

    def _slow(self, rows: list[Any]) -> dict[str, list[Any]]:
        errors: list[dict[str, Any]] = []
        found: list[list[Any]] = [[] for _ in self.names]
        for number, row in enumerate(rows):
            values = self._values(row, number, errors)
            if values is not None:
                for index, (column, value) in enumerate(zip(self.inputs, values, strict=True)):
                    if value is _ABSENT:
                        continue
                    checked, complaint = _checked(column, value, self._strict)
                    if complaint is not None:
                        errors.append(
                            {
                                "column": column["name"],
                                "row": number,
                                "message": f"Row {number}, column {column['name']!r}: {complaint}",
                            }
                        )
                    found[index].append(checked)
            if len(errors) >= MAX_ERRORS:
                break
        if errors:
            raise refusal(errors, self.names)
        return dict(zip(self.names, found, strict=True))

    def _values(self, row: Any, number: int, errors: list[dict[str, Any]]) -> list[Any] | None:
        if isinstance(row, dict):
            if len(row) != self._width or any(name not in row for name in self.names):
                unknown = [name for name in row if name not in set(self.names)]
                missing = [name for name in self.names if name not in row]
                errors.extend(name_errors(missing, unknown, number))
            return [row.get(name, _ABSENT) for name in self.names]
        if isinstance(row, (list, tuple)):
            if len(row) == self._width:
                return list(row)
            errors.append(
                {"row": number, "message": f"Row {number} has {len(row)} values, the schema has {self._width} columns."}
            )
            return None
        errors.append({"row": number, "message": f"Row {number} is {_say(row)}, not a row. {self._example_hint()}"})
        return None

    def _listed(self, array: np.ndarray) -> list[Any]:
        if array.ndim != 2:
            raise SchemaError(
                f"An array of shape {list(array.shape)} is not rows of a table.",
                hint=f"Send shape [rows, {self._width}].",
            )
        listed: list[Any] = array.tolist()
        return listed


_ABSENT: Any = object()


def _getter(keys: tuple[Any, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """itemgetter that answers a tuple for one key as well."""
    if len(keys) == 1:
        only = keys[0]
        return lambda row: (row[only],)
    if not keys:
        return lambda row: ()
    many: Callable[[Any], tuple[Any, ...]] = itemgetter(*keys)
    return many


def _limits(inputs: list[dict[str, Any]], key: str) -> np.ndarray | None:
    """One limit for each column; None where there are none at all."""
    given = [column.get(key) for column in inputs]
    beyond = -math.inf if key == "min" else math.inf
    return (
        None
        if all(limit is None for limit in given)
        else np.array([beyond if each is None else each for each in given])
    )


def _may_hold_booleans(table: np.ndarray, rows: list[Any]) -> bool:
    """true and false became 1 and 0: only where such numbers stand are the types looked at."""
    if not ((table == 0.0) | (table == 1.0)).any():
        return False
    return bool in set(map(type, chain.from_iterable(rows)))


def _bounds(column: dict[str, Any]) -> bool:
    return any(column.get(key) is not None for key in ("min", "max", "levels"))


def _checked(column: dict[str, Any], value: Any, strict: bool) -> tuple[Any, str | None]:
    """The value as the model gets it, and what is wrong with it."""
    kind = column["type"]
    if isinstance(value, float) and math.isnan(value):
        value = None
    if value is None:
        return None, None if column.get("nullable") else f"a value is missing; {_WANTED[kind]} is needed."
    if kind == "long" and type(value) is float and value.is_integer():
        value = int(value)  # JSON has one kind of number: 3.0 is the whole number 3
    if type(value) not in _PLAIN[kind]:
        return value, f"needs {_WANTED[kind]}, got {_say(value)}."
    return value, _complaint(column, value, strict)


def _complaint(column: dict[str, Any], value: Any, strict: bool) -> str | None:
    """What is wrong with a value of the right Python type, or None."""
    kind = column["type"]
    if kind == "datetime":
        try:
            datetime.fromisoformat(value)
        except ValueError:
            return f"needs {_WANTED[kind]}, got {_say(value)}."
    if kind == "double" and (abs(value) == math.inf):
        return "infinity is not a value a model can use."
    if kind == "long" and not -_INT64_LIMIT <= value < _INT64_LIMIT:
        return "the whole number does not fit 64 bits."
    if kind == "double" and type(value) is int and abs(value) > 1 << 1000:
        return "the number is too large."
    return _out_of_bounds(column, value) if strict else None


def _out_of_bounds(column: dict[str, Any], value: Any) -> str | None:
    low, high, levels = column.get("min"), column.get("max"), column.get("levels")
    if levels and value not in levels:
        return f"{_say(value)} is not one of {', '.join(repr(level) for level in levels[:10])}{' ...' if len(levels) > 10 else ''}."
    if low is not None and value < low:
        return f"{value} is below the minimum {low}."
    if high is not None and value > high:
        return f"{value} is above the maximum {high}."
    return None
