"""Models that take named tensors (ONNX, torch): how a request's columns or array fill them.

A `Slot` is one input of the graph. A single slot of any rank takes a tensor schema's array as it is; slots of rank 1 or 2
take columns, each as many as it is wide, in schema order or by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlops.runtime.formats.base import Columns, ModelError
from mlops.runtime.formats.values import check_width, matrix, ordered

_SEVERAL = 2
_KINDS = {"f": "double", "i": "long", "u": "long", "b": "boolean", "O": "string"}


@dataclass(frozen=True)
class Slot:
    """One graph input: numpy dtype name ("object" for text) and shape, -1 where a size is free.

    ``guessed``: the file does not say the dtype, so an array that comes in another keeps its own.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    guessed: bool = False

    @property
    def width(self) -> int | None:
        """How many columns it takes; None when that is free or it is not a table."""
        if len(self.shape) == 1:
            return 1
        return self.shape[1] if len(self.shape) == 2 and self.shape[1] > 0 else None

    @property
    def per_row(self) -> bool:
        """A [rows] slot rather than a [rows, width] one."""
        return len(self.shape) == 1


def inputs_of(slots: list[Slot]) -> list[dict[str, Any]] | None:
    """The columns the slots take, or None when they are not a table."""
    if any(slot.width is None for slot in slots):
        return None
    columns = []
    for slot in slots:
        width = slot.width or 1
        stem = "f" if len(slots) == 1 else f"{slot.name}_"
        names = [slot.name] if width == 1 and len(slots) > 1 else [f"{stem}{index}" for index in range(width)]
        kind = np.dtype(slot.dtype).kind
        # A converted graph answers NaN where the original raised: missing values are allowed only if somebody says so.
        columns += [
            {"name": name, "type": _KINDS.get(kind, "double"), "nullable": False, "slot": slot.name} for name in names
        ]
    return columns


def tensor_of(slots: list[Slot]) -> dict[str, Any] | None:
    """The tensor a model with one input takes, or None."""
    if len(slots) != 1 or slots[0].dtype == "object":
        return None
    return {"name": slots[0].name, "dtype": slots[0].dtype, "shape": [-1, *slots[0].shape[1:]]}


def tensors_of(slots: list[Slot]) -> list[dict[str, Any]] | None:
    """The tensors of a model that takes several which are no columns, such as ids and a mask; None for any other."""
    if len(slots) < _SEVERAL or inputs_of(slots) is not None or any(slot.dtype == "object" for slot in slots):
        return None
    return [{"name": slot.name, "dtype": slot.dtype, "shape": [-1, *slot.shape[1:]]} for slot in slots]


def fill(slots: list[Slot], data: Any, names: list[str] | None) -> list[np.ndarray]:
    """One array per slot. `names`: the model's own column names, used when the request has the same ones."""
    if isinstance(data, np.ndarray):
        if len(slots) != 1:
            raise ModelError(
                "wrong_input",
                f"The model takes {len(slots)} inputs, the request has one tensor.",
                "Send named columns.",
            )
        return [_array(data, slots[0])]
    columns: Columns = data
    if isinstance(columns.get(slots[0].name), np.ndarray):
        return [_array(columns[slot.name], slot) for slot in slots]
    if len(slots) == 1:
        check_width(len(columns), slots[0].width)
        return [_column_block(columns, names, slots[0])]
    return _several(slots, columns, names)


def _array(given: Any, slot: Slot) -> np.ndarray:
    return np.ascontiguousarray(given, dtype=None if slot.guessed else slot.dtype)


def _several(slots: list[Slot], columns: Columns, names: list[str] | None) -> list[np.ndarray]:
    if any(slot.width is None for slot in slots):
        raise ModelError(
            "wrong_input",
            "The model takes several tensors that are not columns.",
            "Send each by its name, or export it with one input per column.",
        )
    widths = [slot.width or 1 for slot in slots]
    check_width(len(columns), sum(widths))
    keys = names if names and all(name in columns for name in names) else list(columns)
    filled, start = [], 0
    for slot, width in zip(slots, widths, strict=True):
        part = {key: columns[key] for key in keys[start : start + width]}
        filled.append(_column_block(part, None, slot))
        start += width
    return filled


def _column_block(columns: Columns, names: list[str] | None, slot: Slot) -> np.ndarray:
    if slot.dtype == "object":
        block = _text_block(ordered(columns, names))
    else:
        block = matrix(columns, names, np.dtype(slot.dtype))
    return block[:, 0] if slot.per_row else block


def _text_block(chosen: list[list[Any]]) -> np.ndarray:
    """[rows, columns] of str; a missing text is the empty one, numbers are spelled out."""
    block = np.empty((len(chosen[0]), len(chosen)), dtype=object)
    for place, values in enumerate(chosen):
        block[:, place] = ["" if value is None else str(value) for value in values]
    return block


def in_batches(run: Callable[[list[np.ndarray]], list[Any]], feeds: list[np.ndarray], batch: int) -> list[Any]:
    """Run a model whose graph has a fixed number of rows: cut, pad the last cut by repeating its last row, join."""
    rows = len(feeds[0])
    parts: list[list[Any]] = []
    for start in range(0, rows, batch):
        cut = [feed[start : start + batch] for feed in feeds]
        short = batch - len(cut[0])
        if short:
            cut = [np.concatenate([piece, np.repeat(piece[-1:], short, axis=0)]) for piece in cut]
        parts.append([_rows_of(output, batch)[: batch - short] for output in run(cut)])
    return [_joined([part[place] for part in parts]) for place in range(len(parts[0]))]


def _rows_of(output: Any, batch: int) -> Any:
    if isinstance(output, list):
        return output
    array = np.asarray(output)
    return array.reshape(1) if array.ndim == 0 and batch == 1 else array


def _joined(pieces: list[Any]) -> Any:
    if isinstance(pieces[0], list):
        return [item for piece in pieces for item in piece]
    return np.concatenate(pieces)
