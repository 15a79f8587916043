"""A sample that names the model's inputs: {"inputs": {"x": [[5.1, 3.5], ...]}}, one list of rows for each of them."""

from __future__ import annotations

from typing import Any

from registry.checking import refuse

_ANY = "input"  # what the tensor protocols call the only one


def names_inputs(inputs: Any, describe: dict[str, Any]) -> bool:
    """Whether the sample is of this kind, and the model says what its inputs are; one row of plain values is not."""
    told = bool(describe.get("inputs") or describe.get("tensor") or describe.get("tensors"))
    return (
        told and isinstance(inputs, dict) and bool(inputs) and all(isinstance(each, list) for each in inputs.values())
    )


def rows_of_named(inputs: dict[str, list[Any]], describe: dict[str, Any]) -> list[Any]:
    """The rows as a caller would send them: {column: value}, or nested lists for a model of one tensor that is no table.

    Raises Invalid naming an input that the model does not have, one that is missing, and rows that do not fit.
    """
    slots = _slots(describe)
    if len(slots) == 1 and list(inputs) == [_ANY]:
        inputs = {next(iter(slots)): inputs[_ANY]}
    _same_names(inputs, slots)
    counts = {name: len(values) for name, values in inputs.items()}
    if len(set(counts.values())) > 1 or not all(counts.values()):
        told = ", ".join(f"{name!r} {count}" for name, count in counts.items())
        refuse(
            "ragged_rows",
            f"The sample's inputs have different numbers of rows: {told}.",
            "Give each the same, 1 or more.",
        )
    if describe.get("tensors"):
        return [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    if not describe.get("inputs"):
        return next(iter(inputs.values()))
    rows: list[dict[str, Any]] = [{} for _ in range(next(iter(counts.values())))]
    for slot, columns in slots.items():
        for number, (row, given) in enumerate(zip(rows, inputs[slot], strict=True)):
            values = given if isinstance(given, list) else [given]
            if len(values) != len(columns) or any(isinstance(value, (list, dict)) for value in values):
                width = f"{len(columns)} value{'' if len(columns) == 1 else 's'}"
                refuse(
                    "wrong_width",
                    f"Row {number} of the sample's {slot!r} does not have {width}.",
                    "Give one list per row.",
                )
            row.update(zip(columns, values, strict=True))
    return [{column["name"]: row[column["name"]] for column in describe["inputs"]} for row in rows]


def _slots(describe: dict[str, Any]) -> dict[str, list[str]]:
    """What can be named, and the columns it stands for. A model without tensors is asked by its columns."""
    slots: dict[str, list[str]] = {}
    for column in describe.get("inputs") or []:
        slots.setdefault(column.get("slot") or column["name"], []).append(column["name"])
    if describe.get("tensors"):
        return {each["name"]: [] for each in describe["tensors"]}
    return slots or {(describe.get("tensor") or {}).get("name") or _ANY: []}


def _same_names(inputs: dict[str, Any], slots: dict[str, list[str]]) -> None:
    shown = ", ".join(repr(name) for name in list(slots)[:8])
    unknown = [name for name in inputs if name not in slots]
    if unknown:
        hint = f"Call it {shown}, or send the rows alone." if len(slots) == 1 else f"Its inputs are {shown}."
        refuse("unknown_input", f"The sample has {unknown[0][:60]!r}, which is no input of the model.", hint)
    missing = [name for name in slots if name not in inputs]
    if missing:
        refuse("columns_differ", f"The sample lacks the input {missing[0]!r}.", f"Its inputs are {shown}.")
