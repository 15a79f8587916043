"""Which columns a model wants from a file, and a row of the file in the form that its check takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from mlops.runtime.tables import MISSING, TableError

_TABLE_OF_NUMBERS = 2  # dimensions of a tensor that is rows and columns


@dataclass
class Wanted:
    """``names`` and ``types`` of a table model's columns in order, or the ``shape`` of a tensor model's input."""

    names: list[str]
    types: list[str]
    levels: list[frozenset[str]]
    shape: list[int] | None = None
    passed_over: dict[str, None] = field(default_factory=dict)  # columns of the file that the model does not take
    any_json: bool = False  # rows are whatever they are
    pictures: bool = False  # a row of the tensor may be a picture, as text

    @classmethod
    def of(cls, schema: dict[str, Any]) -> Wanted:
        if schema.get("kind") == "tensor":
            pictures = schema["tensor"].get("encoding") == "image"
            return cls([], [], [], [int(size) for size in schema["tensor"]["shape"]], pictures=pictures)
        if schema.get("kind") == "json":
            return cls([], [], [], any_json=True)
        inputs = schema.get("inputs") or []
        levels = [frozenset(str(level) for level in column.get("levels") or ()) for column in inputs]
        return cls([column["name"] for column in inputs], [column["type"] for column in inputs], levels)

    def places(self, header: list[str]) -> list[int]:
        """Where the model's columns stand in the file. Raises TableError naming those it lacks."""
        if self.any_json:
            raise TableError(
                "columns_missing", "The model takes JSON, this file has columns.", "Send JSON lines: one row a line."
            )
        if self.pictures and len(header) == 1:
            return [0]
        if self.shape is not None:
            return self._tensor_places(header)
        missing = [name for name in self.names if name not in header]
        if missing:
            others = [name for name in header if name not in self.names]
            instead = f" It has {_listed(others)} instead." if others else ""
            raise TableError(
                "columns_missing",
                f"The file lacks the column{'s' if len(missing) > 1 else ''} {_listed(missing)}.{instead}",
                f"The model takes {_listed(self.names)}. The first line of a CSV file names its columns.",
            )
        self.pass_over([name for name in header if name not in self.names])
        return [header.index(name) for name in self.names]

    def _tensor_places(self, header: list[str]) -> list[int]:
        shape = self.shape or []
        if len(shape) != _TABLE_OF_NUMBERS or (shape[1] >= 0 and shape[1] != len(header)):
            raise TableError(
                "columns_missing",
                f"The file has {len(header)} columns, the model takes a tensor of shape {shape}.",
                "Send one column per value of a row, or JSON lines with one nested list per row.",
            )
        return list(range(len(header)))

    def pass_over(self, names: list[str]) -> None:
        for name in names:
            if len(self.passed_over) < 100:
                self.passed_over[name[:200]] = None

    def from_json(self, row: Any) -> Any:
        """A parsed JSON row: a list in the schema's order where it has every column, else as it came. Raises TableError for no row at all."""
        if self.any_json or (self.pictures and isinstance(row, (str, dict))):
            return row
        if self.shape is not None:
            return row if isinstance(row, list) else _refuse_row(row)
        if len(self.names) == 1 and isinstance(row, str):  # the text of a model of one column
            return [row]
        if isinstance(row, dict):
            known = [row[name] for name in self.names if name in row]
            if len(row) > len(known):
                self.pass_over([name for name in row if name not in self.names])
            return known if len(known) == len(self.names) else {name: row[name] for name in self.names if name in row}
        return row if isinstance(row, list) else _refuse_row(row)

    def from_cells(self, cells: list[str]) -> list[Any]:
        """The cells of the model's columns as its types; what cannot be converted stays text: the row check names it."""
        if self.pictures and len(cells) == 1:
            return list(cells)
        if self.shape is not None:
            return [None if cell in MISSING else _double(cell) for cell in cells]
        return [
            (None if cell not in known else cell) if cell in MISSING else _CELLS[kind](cell)
            for cell, kind, known in zip(cells, self.types, self.levels, strict=True)
        ]


def _refuse_row(row: Any) -> Any:
    kind = {
        str: "text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        type(None): "null",
        dict: "an object",
    }
    raise TableError(
        "not_a_row", f"This is {kind.get(type(row), 'something else')}, not a row.", "A row is an object or a list."
    )


def _double(cell: str) -> Any:
    try:
        value = float(cell)
    except ValueError:
        return cell
    return cell if "_" in cell or math.isnan(value) else value


def _long(cell: str) -> Any:
    if "_" in cell or len(cell) > 40:
        return cell
    try:
        return int(cell)
    except ValueError:
        return _double(cell)  # 3.0 is a whole number, which the row check knows; 3.5 is what it complains about


_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def _boolean(cell: str) -> Any:
    return _TRUTH.get(cell.strip().lower(), cell)


def _text(cell: str) -> Any:
    return cell


_CELLS = {"double": _double, "long": _long, "boolean": _boolean, "string": _text, "datetime": _text}


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
