"""The rows that came with a version: read in the sandbox, matched to the schema, and the reference predicted by the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from mlops.core import errors, storage
from registry.checking import Validation, answer, refuse
from registry.models import Dataset
from registry.named_samples import names_inputs, rows_of_named
from registry.services import blobs, datasets

MAX_ROWS = 50_000
SAMPLE_ROWS = 2_000
SMALL_JSON_BYTES = 5 << 20  # plain JSON of this size may be parsed here; anything else only in the sandbox
_TABLE_REPLY_BYTES = 64 << 20
_CHUNK_ROWS = 5_000
_CHUNK_VALUES = 250_000  # rows x classes of one answer: well below a reply's 10 MB
_LAST_STEPS_S = 10.0  # kept for what comes after the profile
_RANK_OF_PICTURES = 4
_RANKED = 2  # a tensor of rows and columns
_TARGETS = frozenset(("target", "label", "labels", "y", "y_true", "actual", "class", "outcome", "ground_truth"))


@dataclass(frozen=True)
class Table:
    """Columns of equal length, None = missing. ``rows`` instead, for a tensor model's sample of nested lists."""

    columns: dict[str, list[Any]]
    types: dict[str, str]
    rows_total: int
    nested: list[Any] | None = None
    expected: list[Any] | None = None
    unnamed: bool = False

    def has(self, schema: dict[str, Any]) -> bool:
        return all(column["name"] in self.columns for column in schema["inputs"]) and schema["kind"] == "table"

    def named(self, names: list[str]) -> Table:
        """The same values under the model's own names, when this table has none and the widths agree."""
        if not self.unnamed or len(names) != len(self.columns):
            return self
        columns = dict(zip(names, self.columns.values(), strict=True))
        return Table(
            columns, dict(zip(names, self.types.values(), strict=True)), self.rows_total, self.nested, self.expected
        )

    def rows_for(self, schema: dict[str, Any], limit: int) -> list[Any]:
        """Rows as a caller would send them. Raises Invalid naming the columns the table lacks."""
        if schema["kind"] != "table" and self.nested is not None:
            return self.nested[:limit]
        names = wanted(self, schema, "sample")
        return [
            dict(zip(names, values, strict=True))
            for values in zip(*(self.columns[name][:limit] for name in names), strict=True)
        ]


def wanted(table: Table, schema: dict[str, Any], what: str) -> list[str]:
    """The schema's columns in its order. Raises Invalid (``columns_differ``) naming what is missing and what is there instead."""
    names = [column["name"] for column in schema["inputs"]]
    if schema["kind"] == "tensor":
        return _tensor_columns(table, schema, what)
    missing = [name for name in names if name not in table.columns]
    if missing:
        others = [name for name in table.columns if name not in names]
        instead = f" It has {_listed(others)} instead." if others else ""
        refuse(
            "columns_differ",
            f"The {what} lacks the column{'s' if len(missing) > 1 else ''} {_listed(missing)}.{instead}",
            f"The model takes {_listed(names)}. Push a {what} with exactly these columns.",
            [{"column": name, "message": f"column {name!r} is missing from the {what}"} for name in missing[:20]],
        )
    return names


def _tensor_columns(table: Table, schema: dict[str, Any], what: str) -> list[str]:
    shape = schema["tensor"]["shape"]
    names = list(table.columns)
    if len(shape) != _RANKED or shape[1] != len(names):
        refuse(
            "columns_differ",
            f"The {what} has {len(names)} columns, the model takes a tensor of shape {shape}.",
            f"Push a {what} with one column per value of a row, or leave it out.",
        )
    return names


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


# -- reading ------------------------------------------------------------------------------------------------------------
def sample_of(validation: Validation) -> Table | None:
    return _table(validation, Dataset.Kind.SAMPLE)


def reference_of(validation: Validation) -> Table | None:
    return _table(validation, Dataset.Kind.REFERENCE)


def _table(validation: Validation, kind: str) -> Table | None:
    """Read once; a file that cannot be read fails the same way each time it is asked for."""
    if kind not in validation.tables:
        try:
            dataset = validation.version.datasets.filter(kind=kind).first()
            validation.tables[kind] = _read(validation, dataset) if dataset is not None else None
        except errors.SlipwayError as error:
            validation.tables[kind] = error
    found = validation.tables[kind]
    if isinstance(found, errors.SlipwayError):
        raise found
    return found


def _read(validation: Validation, dataset: Dataset) -> Table:
    raw = _small_json(dataset) if dataset.kind == Dataset.Kind.SAMPLE else None
    rows, expected = _rows_and_expected(raw)
    inputs, describe = raw.get("inputs") if isinstance(raw, dict) else None, validation.describe
    named = names_inputs(inputs, describe)
    if named:
        rows = rows_of_named(inputs, describe)
    lists = bool(rows) and all(isinstance(row, list) for row in rows)
    of_code = dataset.version.format == "python" and bool(rows) and not _is_tabular(rows)
    if of_code or _is_for_tensors(rows, describe, lists=lists):
        table = Table({}, {}, len(rows), nested=rows, expected=expected)
    elif _are_values(rows, describe):
        columns = {describe["inputs"][0]["name"]: rows}
        table = Table(columns, {}, len(rows), expected=expected)
    elif named:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        table = Table(columns, {}, len(rows), expected=expected)
    else:
        found = _read_table(validation, dataset)
        table = Table(found["columns"], found["types"], found["rows_total"], expected=expected, unnamed=lists)
    dataset.rows = table.rows_total
    dataset.save(update_fields=["rows"])
    return table


def _is_for_tensors(rows: list[Any], describe: dict[str, Any], *, lists: bool) -> bool:
    """Nested lists or pictures for a model of one tensor, objects of lists for one of several."""
    if describe.get("inputs") or not rows:
        return False
    if describe.get("tensors"):
        return all(isinstance(row, dict) for row in rows)
    pictures = len((describe.get("tensor") or {}).get("shape") or ()) == _RANK_OF_PICTURES
    return bool(describe.get("tensor")) and (
        lists or (pictures and all(isinstance(row, (str, dict, list)) for row in rows))
    )


def _are_values(rows: list[Any], describe: dict[str, Any]) -> bool:
    """["a text", "another"]: the values of a model's only column."""
    return (
        bool(rows) and len(describe.get("inputs") or ()) == 1 and not any(isinstance(row, (dict, list)) for row in rows)
    )


def _is_tabular(rows: list[Any]) -> bool:
    return all(
        isinstance(row, dict) and row and not any(isinstance(value, (list, dict)) for value in row.values())
        for row in rows
    )


def _small_json(dataset: Dataset) -> Any:
    if dataset.format != "json" or dataset.size_bytes > SMALL_JSON_BYTES:
        return None
    try:
        return orjson.loads(b"".join(storage.open_stream(dataset.file_key)))
    except orjson.JSONDecodeError:
        return None  # the reader in the sandbox says what is wrong with it


def _rows_and_expected(raw: Any) -> tuple[list[Any], list[Any] | None]:
    """Rows and expected predictions of a ``test_data.json`` (or any JSON rows)."""
    if isinstance(raw, dict) and "inputs" in raw:
        expected = raw.get("expected")
        return _rows_and_expected(raw["inputs"])[0], expected if isinstance(expected, list) else None
    if isinstance(raw, dict):
        return [raw], None
    return (raw, None) if isinstance(raw, list) else ([], None)


def _read_table(validation: Validation, dataset: Dataset) -> dict[str, Any]:
    """Canonical columns, at most 50,000 rows; fewer when they are so wide that the answer would be too large."""
    most = MAX_ROWS if dataset.kind == Dataset.Kind.REFERENCE else SAMPLE_ROWS
    spec = validation.table_spec(dataset, _TABLE_REPLY_BYTES)
    try:
        for rows in (most, most // 5, most // 25):
            args = {"format": dataset.format, "max_rows": rows}
            reply = validation.host.call(spec, "read_table", args, timeout_s=validation.remaining_s())
            if reply.header.get("code") != "reply_too_large":
                break
        return answer(reply, f"{dataset.filename}: ")
    finally:
        validation.host.unload(spec.key)


# -- when the model fails ------------------------------------------------------------------------------------------------
def explain(validation: Validation, error: errors.SlipwayError) -> None:
    """A library says "could not convert string to float"; name the column and the value that made its column text."""
    if error.code not in ("model_error", "not_a_number"):
        return
    numbers = {
        column["name"]
        for column in validation.describe.get("inputs") or []
        if column["type"] in ("double", "long") and not column.get("guessed")
    }
    for column in validation.schema.get("inputs") or []:
        if column["type"] == "string" and column["name"] in numbers:
            found = _first_text(validation, column["name"])
            if found:
                error.detail = (
                    f"Column {column['name']!r} holds text ({found}), the model takes numbers. {error.detail}"
                )
                error.hint = "Mend the values: a decimal comma, a unit or a word makes a whole column text."
                return


def _first_text(validation: Validation, name: str) -> str:
    for kind, table in validation.tables.items():
        values = table.columns.get(name) if isinstance(table, Table) else None
        for row, value in enumerate(values or []):
            if isinstance(value, str) and not _is_number(value):
                return f"{value[:60]!r} in row {row} of the {kind}"
    return ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


# -- profiling ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Profiled:
    rows: int
    rows_total: int
    extra: list[str]
    cut_short: bool
    target: str = ""


def profile(validation: Validation) -> Profiled | None:
    """Predict the reference and store columns and predictions together; None without a reference.

    Raises Invalid when it lacks columns, when values break the schema, or when the model fails on a row (named by its number).
    """
    reference = reference_of(validation)
    if reference is None or validation.schema["kind"] == "json":  # which has no columns to profile
        return None
    reference = reference.named([column["name"] for column in validation.schema["inputs"]])
    names = wanted(reference, validation.schema, "reference")
    columns = {name: reference.columns[name] for name in names}
    count = len(next(iter(columns.values())))
    content: dict[str, Any] = {"predictions": [], "probabilities": [], "classes": None}
    for start in _starts(validation, count):
        end = min(start + _chunk_rows(validation), count)
        _predict_chunk(validation, {name: values[start:end] for name, values in columns.items()}, start, content)
        validation.run.beat()
    done = len(content["predictions"])
    dataset = validation.version.datasets.get(kind=Dataset.Kind.REFERENCE)
    extra = [name for name in reference.columns if name not in columns]
    target = target_among(extra, str(validation.version.claims.get("target") or ""))
    if target:
        content["target"] = {"name": target, "values": reference.columns[target][:done]}
    _store(dataset, {name: values[:done] for name, values in columns.items()}, reference.types, content)
    return Profiled(done, reference.rows_total, extra, cut_short=done < count, target=target)


def target_among(extra: list[str], named: str) -> str:
    """Which column beside the inputs holds what really happened: the one its author named, else one that is called so, else the
    only one; empty when there is none."""
    if named in extra:
        return named
    called = [name for name in extra if name.strip().lower() in _TARGETS]
    if len(called) == 1:
        return called[0]
    return extra[0] if len(extra) == 1 and not called else ""


def _chunk_rows(validation: Validation) -> int:
    classes = len(validation.schema["output"].get("classes") or []) or 1
    return max(1, min(_CHUNK_ROWS, _CHUNK_VALUES // classes))


def _starts(validation: Validation, count: int) -> Iterator[int]:
    """Where the chunks begin, until the time for the profile is used up (the first is always done)."""
    for start in range(0, count, _chunk_rows(validation)):
        if start and validation.remaining_s() < _LAST_STEPS_S:
            return
        yield start


def _predict_chunk(validation: Validation, columns: dict[str, list[Any]], start: int, content: dict[str, Any]) -> None:
    seconds = min(validation.remaining_s(), 60.0)
    reply = validation.host.call(
        validation.ready_spec, "predict_columns", {}, orjson.dumps({"columns": columns}), timeout_s=seconds
    )
    where = f"Rows {start:,} and following of the reference: " if start else "The reference: "
    found = answer(reply, where)
    content["predictions"] += found["predictions"]
    content["probabilities"] += found.get("probabilities") or []
    content["classes"] = found.get("classes")


def _store(dataset: Dataset, columns: dict[str, list[Any]], types: dict[str, str], content: dict[str, Any]) -> None:
    old = dataset.columns_key
    whole = {
        "columns": columns,
        "types": {name: types.get(name, "double") for name in columns},
        "predictions": content["predictions"],
        "probabilities": content["probabilities"] or None,
        "classes": content["classes"],
        "target": content.get("target"),
    }
    dataset.columns_key = datasets.write_columns(dataset, whole)
    dataset.save(update_fields=["columns_key"])
    blobs.release(dataset.organization_id, [old])
