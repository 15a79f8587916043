"""Rows of models that take arrays: one tensor (of numbers or pictures), or several by name.

Pictures are opened here, so this runs where the model is. Standard library and numpy only, until a picture comes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.runtime.schema_error import MAX_ERRORS, SchemaError, say, too_many

_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "U": "U"}


def tensor(parsed: Any, wanted: dict[str, Any], max_rows: int) -> np.ndarray:
    """One array of the schema's dtype and shape. Raises SchemaError."""
    hint = f"Send nested lists of shape {shown(wanted['shape'])}, rows first."
    if wanted.get("encoding") == "image":
        from mlops.runtime import pictures

        hint = f"{hint[:-1]}, or pictures: PNG or JPEG as base64 text."
        parsed = pictures.as_rows(parsed)
        if type(parsed) is list and any(map(pictures.is_picture, parsed)):
            return _with_pictures(parsed, wanted, max_rows, hint)
    if not isinstance(parsed, (list, np.ndarray)):
        raise SchemaError(f'"inputs" is {say(parsed)}, not a list of rows.', hint=hint)
    try:
        array = np.asarray(parsed)
    except (ValueError, OverflowError) as error:
        raise SchemaError('"inputs" is ragged: not all rows have the same shape.', _ragged(parsed), hint) from error
    return _cast(array, wanted, max_rows, hint)


def _with_pictures(rows: list[Any], wanted: dict[str, Any], max_rows: int, hint: str) -> np.ndarray:
    """Rows of which some are pictures, the others nested lists."""
    from mlops.runtime import pictures

    if len(rows) > max_rows:
        raise too_many(len(rows), max_rows, hint)
    found: np.ndarray | None = None
    for place, row in enumerate(pictures.opened(rows, wanted)):
        array = row if isinstance(row, np.ndarray) else tensor([row], {**wanted, "encoding": None}, 1)[0]
        if found is None:
            if len(rows) * array.size > pictures.MAX_NUMBERS:
                raise SchemaError(
                    f"{len(rows):,} pictures of shape {list(array.shape)} are more than one request may hold.",
                    hint="Send fewer at a time.",
                    code="too_many_rows",
                )
            # One array, filled as pictures are opened: a list of them first would take the memory twice.
            found = np.empty((len(rows), *array.shape), dtype=np.dtype(wanted["dtype"]))
        if array.shape != found.shape[1:]:
            message = f"Row {place} has shape {list(array.shape)}, row 0 has {list(found.shape[1:])}."
            raise SchemaError(
                message,
                [{"row": place, "message": message}],
                "Pictures of one request are of one size; send them apart.",
            )
        found[place] = array
    assert found is not None
    return found


def tensors(parsed: Any, wanted: list[dict[str, Any]], max_rows: int) -> dict[str, np.ndarray]:
    """An array per name, from rows that are objects of nested lists. Raises SchemaError."""
    names = [each["name"] for each in wanted]
    hint = "A row is {" + ", ".join(f'"{each["name"]}": {shown(each["shape"][1:])}' for each in wanted[:8]) + "}."
    rows = [parsed] if type(parsed) is dict else parsed
    if type(rows) is not list or not rows:
        raise SchemaError(f'"inputs" is {"empty" if rows == [] else say(rows) + ", not rows"}.', hint=hint)
    if len(rows) > max_rows:
        raise too_many(len(rows), max_rows, hint)
    errors: list[dict[str, Any]] = []
    for place, row in enumerate(rows):
        errors += _names_of(row, names, place)
        if len(errors) >= MAX_ERRORS:
            break
    if errors:
        raise SchemaError(errors[0]["message"], errors[:MAX_ERRORS], hint)
    return batched({name: [row[name] for row in rows] for name in names}, wanted, max_rows)


def batched(columns: dict[str, Any], wanted: list[dict[str, Any]], max_rows: int) -> dict[str, np.ndarray]:
    """The same of rows that come stacked by name: {"ids": [[1, 2], [3, 4]], "mask": ...}."""
    missing = _names_of(columns, [each["name"] for each in wanted], None)
    if missing:
        raise SchemaError(missing[0]["message"], missing[:MAX_ERRORS])
    found = {}
    for each in wanted:
        try:
            found[each["name"]] = tensor(columns[each["name"]], each, max_rows)
        except SchemaError as error:
            errors = [{**told, "column": each["name"]} for told in error.errors]
            raise SchemaError(f"{each['name']}: {error.message}", errors, error.hint, error.code) from error
    if len({len(array) for array in found.values()}) > 1:
        told = ", ".join(f"{name} {len(array)}" for name, array in found.items())
        raise SchemaError(f"The inputs have different numbers of rows: {told}.", hint="Send one value per row in each.")
    return found


def _names_of(row: Any, names: list[str], place: int | None) -> list[dict[str, Any]]:
    where, at = ("", {}) if place is None else (f"Row {place}: ", {"row": place})
    if type(row) is not dict:
        return [{**at, "message": f"{where}this is {say(row)}, not an object."}]
    missing = [
        {"column": name, **at, "message": f"{where}input {name!r} is missing."} for name in names if name not in row
    ]
    unknown = [str(name)[:200] for name in row if name not in names]
    return missing + [{"column": name, **at, "message": f"{where}input {name!r} is unknown."} for name in unknown]


def _cast(array: np.ndarray, wanted: dict[str, Any], max_rows: int, hint: str) -> np.ndarray:
    dtype = np.dtype(wanted["dtype"])
    _fits(array, wanted["shape"], dtype, max_rows, hint)
    if dtype.kind == "f" and not np.isfinite(array).all():
        bad = [int(place) for place in np.argwhere(~np.isfinite(array))[0]]
        raise SchemaError(
            "The tensor holds NaN or infinity.",
            [{"row": bad[0], "message": f"Row {bad[0]} is not finite at index {bad[1:]}."}],
            hint,
        )
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array, dtype=dtype)
    if dtype.kind == "f" and not np.isfinite(cast).all():
        raise SchemaError(f"A number is too large for {dtype.name}.", hint=hint)
    return cast


def shown(shape: list[int]) -> str:
    """A shape in words: [rows, 3, any]."""
    return (
        "["
        + ", ".join(
            "rows" if index == 0 and size == -1 else "any" if size == -1 else str(size)
            for index, size in enumerate(shape)
        )
        + "]"
    )


def _fits(array: np.ndarray, shape: list[int], dtype: Any, max_rows: int, hint: str) -> None:
    if array.dtype.kind not in _KINDS[dtype.kind]:
        got = {"b": "true/false", "U": "text", "O": "values that are not numbers", "f": "fractions"}.get(
            array.dtype.kind, array.dtype.name
        )
        raise SchemaError(f"The tensor needs {dtype.name}, got {got}.", hint=hint)
    if array.ndim != len(shape) or any(
        want not in (-1, got) for want, got in zip(shape[1:], array.shape[1:], strict=False)
    ):
        raise SchemaError(f"The tensor has shape {list(array.shape)}, the model takes {shown(shape)}.", hint=hint)
    if array.shape[0] == 0:
        raise SchemaError('"inputs" is empty.', hint=hint)
    if array.shape[0] > max_rows:
        raise too_many(array.shape[0], max_rows, hint)


def _ragged(parsed: Any) -> list[dict[str, Any]]:
    """The first row whose length differs from row 0."""
    if not isinstance(parsed, list) or not parsed:
        return []
    first = len(parsed[0]) if isinstance(parsed[0], list) else None
    for number, row in enumerate(parsed):
        length = len(row) if isinstance(row, list) else None
        if length != first:
            return [
                {
                    "row": number,
                    "message": f"Row {number} has {length if length is not None else 'no'} values, row 0 has {first}.",
                }
            ]
    return [{"message": "Rows differ in their inner dimensions."}]
