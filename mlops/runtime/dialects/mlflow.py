"""MLflow's scoring server: JSON frames and tensors, CSV and Parquet in, {"predictions": ...} out, with the messages its clients know.

As there, columns that the model does not take are passed over; a missing one is refused by name.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

from mlops.runtime import bodies
from mlops.runtime.bulk.reading import Bad, open_source
from mlops.runtime.bulk.wanted import Wanted
from mlops.runtime.dialects import Question
from mlops.runtime.dialects.kserve import encode, singles_as_rows
from mlops.runtime.refusals import Refusal
from mlops.runtime.tables import TableError

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

__all__ = ["decode", "encode"]

JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"
_FORMATS = {CSV: "csv", PARQUET: "parquet"}
_FIELDS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_REQUIRED = (
    f"The input must be a JSON dictionary with exactly one of the input fields {{{', '.join(map(repr, _FIELDS))}}}"
)
_FILE_BYTES = 1 << 30  # the body's own limit is far below; the reader wants a number
_HINT = 'Send {"dataframe_split": {"columns": [...], "data": [[...]]}}.'


def decode(session: Session, header: dict[str, Any], body: bytes) -> Question:
    media, _, parameters = str(header.get("content_type") or JSON).partition(";")
    media = media.strip().lower()
    _only_utf8(parameters)
    if media in _FORMATS:
        return session.question(_rows_of_file(session, _FORMATS[media], body))
    if media != JSON:
        raise _unsupported(
            f"This predictor only supports the following content types: Types: {[CSV, JSON, PARQUET]}. Got '{media[:80]}'."
        )
    request = _parsed(body, session.spec.limits.rows)
    fields = [name for name in _FIELDS if name in request]
    if len(fields) != 1:
        raise _refuse(
            f"{_REQUIRED}. Received dictionary with input fields: {[str(name)[:80] for name in request][:20]}."
        )
    if not isinstance(request.get("params") or {}, dict):
        raise _refuse("Params must be a dictionary.")
    given = request[fields[0]]
    if fields[0] == "dataframe_split":
        return _split(session, given)
    if fields[0] == "dataframe_records":
        return _records(session, given)
    if isinstance(given, dict):
        return _tensors_by_name(session, given)
    if not isinstance(given, list):
        raise _refuse(f"{fields[0]} must be a list of rows.")
    return session.question(_without_others(session, singles_as_rows(session, given)))


# -- content types ------------------------------------------------------------------------------------------------------


def _only_utf8(parameters: str) -> None:
    given = [pair.partition("=") for pair in parameters.split(";") if pair.strip()]
    pairs = {name.strip().lower(): value.strip(' "').lower() for name, _, value in given}
    if pairs.pop("charset", "utf-8") not in ("utf-8", "utf8"):
        raise _unsupported("The scoring server only supports UTF-8")
    if pairs:
        raise _unsupported(f"Unrecognized content type parameters: {', '.join(pairs)[:200]}.")


def _unsupported(text: str) -> Refusal:
    return Refusal(415, "unsupported_media_type", text)


def _refuse(text: str, hint: str = _HINT) -> Refusal:
    return Refusal(400, "bad_request", text, hint)


# -- files --------------------------------------------------------------------------------------------------------------


def _rows_of_file(session: Session, fmt: str, body: bytes) -> list[Any]:
    if session.schema is None:
        raise _refuse("This model has no schema; send JSON.")
    limit = session.spec.limits.rows
    rows: list[Any] = []
    try:
        source = open_source(body, fmt, Wanted.of(session.schema))
        if source.total is not None and source.total > limit:
            raise _too_many(limit)
        while more := source.take(limit + 1 - len(rows), _FILE_BYTES):
            rows += more
            if len(rows) > limit:
                raise _too_many(limit)
    except TableError as error:
        raise _refuse(f"Failed to parse input as a Pandas DataFrame. {error.message}", error.hint) from error
    except (csv.Error, ValueError) as error:  # a header that ends inside its quotes
        raise _refuse(f"Failed to parse input as a Pandas DataFrame. {error}.", "") from error
    except MemoryError as error:
        raise Refusal(413, "too_large", "The file's values do not fit the memory of a request.") from error
    bad = next((place for place, row in enumerate(rows) if isinstance(row, Bad)), None)
    if bad is not None:
        raise _refuse(f"Failed to parse input as a Pandas DataFrame. Row {bad}: {rows[bad].message}", "")
    return rows


def _too_many(limit: int) -> Refusal:
    return Refusal(413, "too_many_rows", f"The file has more than {limit:,} rows.", "Use the batch endpoint.")


# -- JSON ---------------------------------------------------------------------------------------------------------------


def _parsed(body: bytes, max_rows: int) -> dict[str, Any]:
    try:
        found = bodies.parse(body, max_rows)
    except bodies.Unfit:
        raise
    except ValueError as error:
        raise _refuse(f"Ensure that input is a valid JSON formatted string. Error: {error}.") from error
    if isinstance(found, list):
        raise _refuse(f"{_REQUIRED}. Received a list.")
    if not isinstance(found, dict):
        raise _refuse(f"{_REQUIRED}. Received unexpected input type {type(found).__name__!r}.")
    return found


def _split(session: Session, given: Any) -> Question:
    if not isinstance(given, dict):
        raise _refuse(f"Dataframe split format must be a dictionary. Got {_named(given)}.")
    if "data" not in given or set(given) - {"columns", "index", "data"}:
        raise _refuse(
            "Dataframe split format must have 'data' field and optionally 'columns' and 'index' fields. "
            f"Got {[str(name)[:80] for name in given][:20]}."
        )
    columns, rows = given.get("columns"), given["data"]
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise _refuse(
            "Provided dataframe_split field is not a valid dataframe representation: data is a list of lists."
        )
    if columns is None or (session.schema is not None and session.schema["kind"] == "tensor"):
        return session.question(rows)
    if not isinstance(columns, list) or not all(isinstance(name, (str, int)) for name in columns):
        raise _refuse(
            "Provided dataframe_split field is not a valid dataframe representation: columns is a list of names."
        )
    if columns == list(range(len(columns))):  # a frame made from an array: no names, the schema's order
        return session.question(rows)
    if len(set(columns)) < len(columns) or any(len(row) != len(columns) for row in rows):
        raise _refuse(
            "Provided dataframe_split field is not a valid dataframe representation: one value per column and row."
        )
    names = [str(name) for name in columns]
    if session.schema is not None and names == [column["name"] for column in session.schema["inputs"]]:
        return session.question(rows)
    return session.question(_without_others(session, [dict(zip(names, row, strict=True)) for row in rows]))


def _records(session: Session, given: Any) -> Question:
    if not isinstance(given, list):
        raise _refuse(f"Dataframe records format must be a list of records. Got {_named(given)}.")
    return session.question(_without_others(session, given))


def _tensors_by_name(session: Session, given: dict[str, Any]) -> Question:
    """{"column": [values]}, or one row {"column": value}; {"any name": tensor} for a model of one tensor."""
    if session.schema is not None and session.schema["kind"] == "tensor":
        if len(given) != 1:
            raise _refuse(f"The model takes one tensor, not {len(given)}.")
        return session.question(next(iter(given.values())))
    if session.schema is not None and session.schema["kind"] == "json":
        return session.columns_question(given) if session.schema.get("tensors") else session.question([given])
    if not given or not all(isinstance(values, list) for values in given.values()):
        return session.question(_without_others(session, [given]))
    if session.schema is not None:
        names = [column["name"] for column in session.schema["inputs"]]
        if names and all(name in given for name in names):
            given = {name: given[name] for name in names}
    return session.columns_question({name: [_single(value) for value in values] for name, values in given.items()})


def _single(value: Any) -> Any:
    """The value of a [rows, 1] tensor's row."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _without_others(session: Session, rows: list[Any]) -> list[Any]:
    """Rows without columns that the model does not take; one that lacks a column stays as it is, for the check to name it."""
    if session.schema is None or session.schema["kind"] != "table":
        return rows
    names = [column["name"] for column in session.schema["inputs"]]
    return [
        {name: row[name] for name in names if name in row} if isinstance(row, dict) and len(row) != len(names) else row
        for row in rows
    ]


def _named(value: Any) -> str:
    if isinstance(value, dict):
        return "dictionary"
    return "list" if isinstance(value, list) else f"type {type(value).__name__}"
