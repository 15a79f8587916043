"""Feedback as it is sent: JSON (one, a list, {"feedback": [...]}), JSON lines, or CSV with a header. Row by row, bounded."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import orjson

from mlops.core import errors

MAX_ROWS = 100_000
LIMIT_BYTES = 16 << 20
COLUMNS = ("prediction_id", "actual")
_HINT = 'Send {"prediction_id": "...", "actual": ...}, a list of them, or a CSV with the header prediction_id,actual.'


@dataclass(frozen=True)
class Entry:
    """row: 1-based place in what was sent. problem: why it cannot be used, else empty."""

    row: int
    prediction_id: uuid.UUID | None
    actual: Any = None
    problem: str = ""


def entries(source: IO[bytes], kind: str) -> Iterator[Entry]:
    """kind: json, jsonl or csv. Raises BadRequest or Invalid when it is not that at all, TooLarge above MAX_ROWS."""
    if kind == "csv":
        rows = _csv(source)
    elif kind == "jsonl":
        rows = _lines(source)
    elif kind == "json":
        rows = enumerate(_listed(_parsed(source.read())), 1)
    else:
        raise errors.UnsupportedMediaType(f"Feedback is no {kind}.", hint=_HINT)
    for row, found in rows:
        if row > MAX_ROWS:
            raise errors.TooLarge(
                f"More than {MAX_ROWS:,} rows in one call.",
                code="too_many_rows",
                hint="Send them in several calls: what was sent is kept.",
            )
        yield _entry(row, found)


def _entry(row: int, found: Any) -> Entry:
    if not isinstance(found, dict) or "prediction_id" not in found:
        return Entry(row, None, problem="prediction_id is missing.")
    given = found["prediction_id"]
    try:
        prediction_id = uuid.UUID(str(given).strip())
    except ValueError:
        return Entry(
            row, None, problem=f"{str(given)[:60]!r} is no prediction id; they stand in prediction_ids of an answer."
        )
    if "actual" not in found:
        return Entry(row, prediction_id, problem="actual is missing.")
    return Entry(row, prediction_id, found["actual"])


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.BadRequest(f"The body is not JSON: {error}.", code="invalid_json", hint=_HINT) from error


def _listed(found: Any) -> list[Any]:
    if isinstance(found, dict):
        listed = found.get("feedback")
        found = listed if isinstance(listed, list) else [found]
    if not isinstance(found, list):
        raise errors.Invalid("Feedback is an object or a list of them.", code="bad_feedback", hint=_HINT)
    return found


def _lines(source: IO[bytes]) -> Iterator[tuple[int, Any]]:
    for row, line in enumerate((line for line in source if line.strip()), 1):
        try:
            yield row, orjson.loads(line)
        except orjson.JSONDecodeError:
            yield row, None


def _csv(source: IO[bytes]) -> Iterator[tuple[int, Any]]:
    text = io.TextIOWrapper(source, encoding="utf-8-sig", errors="replace", newline="")
    try:
        reader = csv.reader(_without_nul(text))
        header = [name.strip().lower() for name in next(reader, [])]
        if not set(COLUMNS) <= set(header):
            raise errors.Invalid(
                f"The CSV lacks the column {next(name for name in COLUMNS if name not in header)!r}.",
                code="columns_missing",
                hint="Its first line is prediction_id,actual; other columns are passed over.",
            )
        places = [header.index(name) for name in COLUMNS]
        for row, values in enumerate((values for values in reader if values), 1):
            yield row, {name: values[place] for name, place in zip(COLUMNS, places, strict=True) if place < len(values)}
    except csv.Error as error:
        raise errors.Invalid(f"The CSV cannot be read: {error}.", code="bad_csv", hint=_HINT) from error
    finally:
        text.detach()


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield line.replace("\x00", "\ufffd")
