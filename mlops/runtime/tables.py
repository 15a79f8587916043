"""Read a data file (CSV, Parquet, JSON, JSON lines) into canonical columns. Runs in the sandboxed runner.

Values are plain JSON: numbers, text, true/false, ISO times; None is missing. pandas and pyarrow are imported when used.
"""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from mlops.runtime.errors import Explained

FORMATS = ("csv", "parquet", "json", "jsonl")
MAX_COLUMNS = 10_000
MAX_CELLS = 50_000_000
MAX_FILE_BYTES = 1 << 30
MAX_NAME = 200
# What a spreadsheet or a data frame writes for "no value".
MISSING = frozenset(("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "<NA>", "#N/A"))
_BOOLEANS = {"true": True, "false": False}


class TableError(Explained):
    """A data file we cannot read. `code`, `message` (names line and column where known) and `hint`."""


def read(path: str, fmt: str, max_rows: int = 100_000) -> dict[str, Any]:
    """{"columns": {name: values}, "rows_total": n, "types": {name: double|long|boolean|string|datetime}}.

    `rows_total` counts the whole file; `columns` hold at most the first `max_rows` rows.
    """
    if fmt not in FORMATS:
        raise TableError("unknown_table_format", f"There is no table format {fmt!r}.", f"Known: {', '.join(FORMATS)}.")
    size = Path(path).stat().st_size
    if size == 0:
        raise TableError("empty_file", "The file is empty.", "Push a file with a header and at least one row.")
    if size > MAX_FILE_BYTES:
        raise TableError(
            "file_too_large", f"The file is larger than {MAX_FILE_BYTES >> 20:,} MB.", "Push a sample of the data."
        )
    found = _READERS[fmt](path, max_rows)
    if not found["columns"]:
        raise TableError("no_columns", "The file has no columns.", "Push a file with a header and at least one row.")
    if found["rows_total"] == 0:
        raise TableError("no_rows", "The file has a header and no rows.", "Push at least one row.")
    return found


def from_rows(rows: Any, max_rows: int = 100_000) -> dict[str, Any]:
    """The same answer for rows already parsed from JSON: dicts, or lists (columns f0, f1, ...), or one dict."""
    parsed = [rows] if isinstance(rows, dict) else rows
    if not isinstance(parsed, list) or not parsed:
        raise TableError("no_rows", "The JSON holds no rows.", 'Push [{"column": value, ...}, ...].')
    if all(isinstance(row, dict) for row in parsed):
        columns = _from_records(parsed[:max_rows])
    elif all(isinstance(row, list) for row in parsed):
        columns = _from_lists(parsed[:max_rows], None)
    else:
        raise TableError(
            "not_rows",
            "The JSON list mixes objects, lists and other values.",
            "All rows must be objects, or all lists.",
        )
    return _answer(columns, len(parsed))


# -- CSV ------------------------------------------------------------------------------------------------------------


def _read_csv(path: str, max_rows: int) -> dict[str, Any]:
    text = _decode(Path(path).read_bytes())
    lines = csv.reader(io.StringIO(text, newline=""), csv_dialect(text), strict=True)
    try:
        header = csv_header(next(lines, []))
        rows, total = _csv_rows(lines, len(header), max_rows)
    except csv.Error as error:
        raise TableError(
            "broken_csv",
            f"Line {lines.line_num} cannot be read as CSV: {error}.",
            "Check the quotes; is the file cut short?",
        ) from error
    if len(rows) * len(header) > MAX_CELLS:
        raise TableError("file_too_large", f"More than {MAX_CELLS:,} values.", "Push a sample of the data.")
    columns = {name: _typed([row[place] for row in rows]) for place, name in enumerate(header)}
    return _answer(columns, total)


def _decode(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16")
    if b"\x00" in raw[:4096]:
        raise TableError("not_text", "The file is binary, not CSV text.", "Push CSV text, or choose Parquet.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TableError(
            "wrong_encoding",
            f"Line {line} is not UTF-8 text.",
            "Save the file as UTF-8 (a spreadsheet calls it 'CSV UTF-8').",
        ) from error


def csv_dialect(text: str) -> Any:
    """Comma unless the header clearly uses another separator."""
    header = text.partition("\n")[0]
    best = max((",", ";", "\t", "|"), key=lambda mark: (header.count(mark), mark == ","))
    chosen: Any = type("Chosen", (csv.excel,), {"delimiter": best if header.count(best) else ","})
    return chosen


def csv_header(names: list[str]) -> list[str]:
    cleaned = [name.strip() for name in names]
    # A data frame's index is written as a first column without a name.
    if len(cleaned) > 1 and cleaned[0] == "":
        cleaned[0] = "Unnamed: 0"
    return column_names(cleaned)


def column_names(names: list[str]) -> list[str]:
    if not names or all(name == "" for name in names):
        raise TableError("no_header", "The file has no header line.", "The first line must name the columns.")
    if len(names) > MAX_COLUMNS:
        raise TableError(
            "too_many_columns", f"{len(names):,} columns are more than {MAX_COLUMNS:,}.", "Push fewer columns."
        )
    for place, name in enumerate(names):
        if name == "" or len(name) > MAX_NAME:
            raise TableError(
                "bad_column_name",
                f"Column {place + 1} has no name, or one longer than {MAX_NAME} characters.",
                "Name every column.",
            )
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise TableError(
            "duplicate_columns",
            f"The header names a column twice: {', '.join(twice[:5])}.",
            "Give every column its own name.",
        )
    return names


def _csv_rows(lines: Any, width: int, max_rows: int) -> tuple[list[list[str]], int]:
    rows: list[list[str]] = []
    total = 0
    for row in lines:
        if not row and width > 1:
            continue  # a blank line
        if len(row) != width:
            if not row:
                continue
            raise TableError(
                "ragged_rows",
                f"Line {lines.line_num} has {len(row)} values, the header has {width}.",
                "Every line needs one value per column.",
            )
        total += 1
        if total <= max_rows:
            rows.append(row)
    return rows, total


def _typed(cells: list[str]) -> list[Any]:
    """A column of text as whole numbers, numbers or true/false when every cell is one; else text."""
    values = [None if cell.strip() in MISSING else cell for cell in cells]
    present = [value for value in values if value is not None]
    if not present:
        return [None] * len(values)
    for parse in (_as_long, _as_double, _as_boolean):
        try:
            return [None if value is None else parse(value) for value in values]
        except ValueError:
            continue
    return values


def _as_long(cell: str) -> int:
    text = cell.strip()
    digits = text.lstrip("+-")
    # 007 is a code, not the number seven; and int() would take 1_000.
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18 or (digits[0] == "0" and len(digits) > 1):
        raise ValueError(cell)
    return int(text)


def _as_double(cell: str) -> float:
    text = cell.strip()
    whole = text.lstrip("+-").partition(".")[0]
    if "_" in text or (len(whole) > 1 and whole[0] == "0" and whole.isdigit()):
        raise ValueError(cell)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(cell)
    return value


def _as_boolean(cell: str) -> bool:
    try:
        return _BOOLEANS[cell.strip().lower()]
    except KeyError:
        raise ValueError(cell) from None


# -- JSON -----------------------------------------------------------------------------------------------------------


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TableError("broken_json", f"{where} is not valid JSON: {error}.", "Is the file cut short?") from error


def _read_json(path: str, max_rows: int) -> dict[str, Any]:
    parsed = _loads(_decode(Path(path).read_bytes()), "The file")
    if isinstance(parsed, dict):
        if "inputs" in parsed:
            return from_rows(parsed["inputs"], max_rows)
        if isinstance(parsed.get("columns"), list) and isinstance(parsed.get("data"), list):
            return _answer(
                _from_lists(parsed["data"][:max_rows], [str(name) for name in parsed["columns"]]), len(parsed["data"])
            )
        if parsed and all(isinstance(values, list) for values in parsed.values()):
            return _from_columns(parsed, max_rows)
    return from_rows(parsed, max_rows)


def _read_jsonl(path: str, max_rows: int) -> dict[str, Any]:
    rows: list[Any] = []
    total = 0
    for number, line in enumerate(_decode(Path(path).read_bytes()).splitlines(), 1):
        if line.strip():
            total += 1
            if total <= max_rows:
                rows.append(_loads(line, f"Line {number}"))
    return {**from_rows(rows, max_rows), "rows_total": total}


def _from_columns(columns: dict[str, list[Any]], max_rows: int) -> dict[str, Any]:
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise TableError(
            "ragged_rows", "The columns have different numbers of rows.", "Every column needs one value per row."
        )
    names = column_names(list(columns))
    return _answer({name: _json_column(name, columns[name][:max_rows]) for name in names}, lengths.pop())


def _from_records(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = column_names(list(dict.fromkeys(str(name) for row in rows for name in row)))
    return {name: _json_column(name, [row.get(name) for row in rows]) for name in names}


def _from_lists(rows: list[Any], names: list[str] | None) -> dict[str, list[Any]]:
    if not rows or not isinstance(rows[0], list):
        raise TableError("no_rows", "The JSON holds no rows.", "Push at least one row.")
    named = column_names(names if names is not None else [f"f{index}" for index in range(len(rows[0]))])
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(named):
            got = f"{len(row)} values" if isinstance(row, list) else "no list"
            raise TableError(
                "ragged_rows",
                f"Row {number} has {got}, {len(named)} are expected.",
                "Every row needs one value per column.",
            )
    return {name: _json_column(name, [row[place] for row in rows]) for place, name in enumerate(named)}


def _json_column(name: str, values: list[Any]) -> list[Any]:
    checked = []
    for number, value in enumerate(values):
        if isinstance(value, (dict, list)):
            raise TableError(
                "nested_value",
                f"Row {number}, column {name!r} holds a nested value.",
                "A column holds numbers, text or true/false.",
            )
        checked.append(None if isinstance(value, float) and not math.isfinite(value) else value)
    return checked


# -- Parquet --------------------------------------------------------------------------------------------------------


def _read_parquet(path: str, max_rows: int) -> dict[str, Any]:
    import pyarrow

    try:
        return _parquet_columns(path, max_rows)
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise TableError(
            "broken_parquet",
            f"The Parquet file cannot be read: {str(error)[:200]}.",
            "Is the file cut short, or another format?",
        ) from error


def _parquet_columns(path: str, max_rows: int) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet

    file = pyarrow.parquet.ParquetFile(path, memory_map=True)
    names = column_names([str(name) for name in file.schema_arrow.names])
    total = file.metadata.num_rows
    if min(total, max_rows) * len(names) > MAX_CELLS:
        raise TableError("file_too_large", f"More than {MAX_CELLS:,} values.", "Push a sample of the data.")
    table = _first_rows(file, max_rows)
    types: dict[str, str] = {}
    columns: dict[str, list[Any]] = {}
    for place, name in enumerate(names):
        if name == "__index_level_0__":  # pandas' index, not a column of the data
            continue
        types[name], columns[name] = arrow_column(pyarrow, name, table.column(place))
    return {"columns": columns, "rows_total": total, "types": types}


def _first_rows(file: Any, max_rows: int) -> Any:
    import pyarrow

    batches, rows = [], 0
    for batch in file.iter_batches(batch_size=min(65_536, max(1, max_rows)), use_threads=False):
        batches.append(batch)
        rows += batch.num_rows
        if rows >= max_rows:
            break
    return pyarrow.Table.from_batches(batches, schema=file.schema_arrow).slice(0, max_rows)


def arrow_column(pyarrow: Any, name: str, column: Any) -> tuple[str, list[Any]]:
    kinds, kind = pyarrow.types, column.type
    if kinds.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if kinds.is_boolean(kind):
        return "boolean", column.to_pylist()
    if kinds.is_integer(kind):
        return "long", column.to_pylist()
    if kinds.is_floating(kind) or kinds.is_decimal(kind):
        return "double", [
            None if value is None or not math.isfinite(value) else float(value) for value in column.to_pylist()
        ]
    if kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind):
        return "string", column.to_pylist()
    if kinds.is_temporal(kind) and not kinds.is_duration(kind) and not kinds.is_time(kind):
        return "datetime", [None if value is None else value.isoformat() for value in column.to_pylist()]
    if kinds.is_null(kind):
        return "double", [None] * len(column)
    raise TableError(
        "unsupported_column",
        f"Column {name!r} has the type {kind}.",
        "A column holds numbers, text, true/false or times.",
    )


# -- all ------------------------------------------------------------------------------------------------------------


def _answer(columns: dict[str, list[Any]], total: int) -> dict[str, Any]:
    return {
        "columns": columns,
        "rows_total": total,
        "types": {name: _type_of(name, values) for name, values in columns.items()},
    }


def _type_of(name: str, values: list[Any]) -> str:
    found = {type(value) for value in values} - {type(None)}
    if found == {bool}:
        return "boolean"
    if found == {int}:
        return "long"
    if found <= {int, float}:
        return "double"
    if found == {str}:
        return "string"
    listed = ", ".join(sorted(kind.__name__ for kind in found))
    raise TableError(
        "mixed_column",
        f"Column {name!r} mixes kinds of values ({listed}).",
        "Keep one type per column; leave a missing value empty.",
    )


_READERS = {"csv": _read_csv, "parquet": _read_parquet, "json": _read_json, "jsonl": _read_jsonl}
