"""Predict a chunk of rows: each row gets a prediction or a reason of its own, in the order of the file.

Rows that the check refuses are found by halving; so are rows on which the model itself raises. An answer says how far it got in its time:
the caller asks again for the rest.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from mlops.runtime.bulk.wanted import Wanted
from mlops.runtime.dialects.native import dumps
from mlops.runtime.formats.base import ModelError, said
from mlops.runtime.refusals import Refusal
from mlops.runtime.schema import SchemaError
from mlops.runtime.tables import TableError

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

Answer = tuple[int, dict[str, Any], bytes]
NOW_BYTES = 64 << 20
_CLASSES_TOLD = 1_000
_INT64 = 2**63
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@dataclass
class Chunk:
    """Rows as they were read, and what came of them: ``done[place]`` is (value, probabilities or None) or a problem dict."""

    rows: list[Any]
    bad: dict[str, dict[str, Any]]
    done: list[Any] = field(default_factory=list)


def predict_rows(session: Session, header: dict[str, Any], body: bytes) -> Answer:
    """A chunk as ``read_rows`` gave it. ``args``: start (row number of its first row), skip, take, format (jsonl or csv), head (write the
    CSV header), seconds, condemn (a problem: those rows get it instead of being asked).

    The body is the result lines, then the failed rows; ``sizes`` tells them apart.
    """
    args = header.get("args") or {}
    given = orjson.loads(body)
    rows, bad = given["rows"], given["bad"]
    skip = int(args.get("skip", 0))
    take = int(args.get("take") or len(rows) - skip)
    bad = {str(int(place) - skip): problem for place, problem in bad.items() if skip <= int(place) < skip + take}
    chunk = Chunk(rows[skip : skip + take], bad)
    if args.get("condemn"):
        chunk.done = [chunk.bad.get(str(place)) or dict(args["condemn"]) for place in range(len(chunk.rows))]
    else:
        answer(session, chunk, float(args.get("seconds", 5.0)))
    start = int(args.get("start", 0)) + skip
    writer = Lines(session, str(args.get("format", "jsonl")), head=bool(args.get("head")))
    results, failed = writer.write(chunk, start)
    classes = session.classes if session.classes is None or len(session.classes) <= _CLASSES_TOLD else None
    reply = {
        "answered": len(chunk.done),
        "failed": sum(isinstance(each, dict) for each in chunk.done),
        "sizes": [len(results), len(failed)],
        "kinds": sorted(writer.kinds),
        "columns": writer.columns,
        "classes": classes,
    }
    return 200, reply, results + failed


def predict_file(session: Session, header: dict[str, Any], body: bytes) -> Answer:
    """A small file at once. ``args``: format, output (json, jsonl, csv, parquet), rows (more: 413 ``too_many_for_now``), seconds."""
    from mlops.runtime.bulk import packing, reading

    args = header.get("args") or {}
    if session.schema is None:
        raise Refusal(409, "no_schema", "This version has no schema.", "Validate it again.")
    most, output = int(args.get("rows", 1_000)), str(args.get("output", "json"))
    try:
        source = reading.open_source(body, str(args.get("format")), Wanted.of(session.schema))
        rows: list[Any] = []
        while len(rows) <= most and (more := source.take(most + 1 - len(rows), NOW_BYTES)):
            rows += more
    except TableError as error:
        raise Refusal(422, error.code, error.message, error.hint) from error
    if len(rows) > most:
        raise Refusal(413, "too_many_for_now", f"More than {most:,} rows.", "They are predicted by a job.")
    if not rows:
        raise Refusal(422, "no_rows", "The file holds no rows.", "Send at least one row.")
    given = orjson.loads(reading.chunk_of(rows))
    chunk = Chunk(given["rows"], given["bad"])
    answer(session, chunk, float(args.get("seconds", 5.0)))
    if len(chunk.done) < len(chunk.rows):
        raise Refusal(413, "too_slow_for_now", "The model needs longer for these rows.", "They are predicted by a job.")
    writer = Lines(session, "csv" if output == "csv" else "jsonl", head=True)
    results, _ = writer.write(chunk, 0)
    failed = [{"row": place, **_public(each)} for place, each in enumerate(chunk.done) if isinstance(each, dict)]
    if output == "parquet":
        results = packing.parquet(results, writer.columns, sorted(writer.kinds))
    elif output == "json":
        told = {
            "results": [orjson.Fragment(line) for line in results.splitlines()],
            "rows": len(chunk.done),
            "failed": failed,
            "model": session.model_name,
        }
        results = dumps(told | ({"classes": session.classes} if session.classes is not None else {}))
    passed_over = list(source.wanted.passed_over)[:20]  # type: ignore[attr-defined]
    return 200, {"rows": len(chunk.done), "failed": len(failed), "passed_over": passed_over}, results


# -- answering ----------------------------------------------------------------------------------------------------------


def answer(session: Session, chunk: Chunk, seconds: float) -> None:
    """Fill ``chunk.done``, a row after the other, as far as the time goes; at least one row is always decided."""
    ends = time.perf_counter() + seconds
    decided: list[Any] = [chunk.bad.get(str(place)) for place in range(len(chunk.rows))]
    readable = [place for place, problem in enumerate(decided) if problem is None]
    good: list[int] = []
    for low, high in _checked(session, chunk.rows, readable, decided):
        good += readable[low:high]
    reached = len(chunk.rows)
    stack = [good] if good else []
    while stack:
        places = stack.pop()
        if time.perf_counter() > ends and places[0] > 0:
            reached = places[0]
            break
        try:
            question = session.question([chunk.rows[place] for place in places])
            outcome = session.predict_outcome(question.inputs, question.count)
        except Exception as error:  # noqa: BLE001  a model may raise anything at all
            if len(places) == 1:
                decided[places[0]] = problem_of(error)
                continue
            middle = len(places) // 2
            stack += [places[middle:], places[:middle]]
            continue
        chances = outcome.probabilities
        for at, place in enumerate(places):
            decided[place] = (outcome.values[at], chances[at] if chances is not None else None)
    chunk.done = decided[:reached]


def _checked(session: Session, rows: list[Any], places: list[int], decided: list[Any]) -> Iterator[tuple[int, int]]:
    """Ranges of ``places`` whose rows fit the schema; the others are decided."""
    stack = [(0, len(places))] if places else []
    while stack:
        low, high = stack.pop()
        try:
            session.question([rows[place] for place in places[low:high]])
        except Exception as error:  # noqa: BLE001  the check, over values that may be anything
            if high - low == 1:
                decided[places[low]] = problem_of(error)
                continue
            middle = (low + high) // 2
            stack += [(middle, high), (low, middle)]
            continue
        yield low, high


def problem_of(error: Exception) -> dict[str, Any]:
    """Why one row has no prediction: {"code", "message", "column"?}."""
    match error:
        case SchemaError():
            first = error.errors[0] if error.errors else {}
            message = str(first.get("message") or error.message).removeprefix("Row 0, ").removeprefix("Row 0: ")
            found = {"code": error.code, "message": message[:1].upper() + message[1:]}
            return found | ({"column": str(first["column"])} if "column" in first else {})
        case Refusal():
            return {"code": error.code, "message": str(error).replace(" for row 0", "")}
        case ModelError():
            return {"code": error.code, "message": error.message}
        case MemoryError():
            return {"code": "out_of_memory", "message": "The model ran out of its memory quota."}
    return {"code": "model_error", "message": f"The model raised {said(error)}"}


def _public(problem: dict[str, Any]) -> dict[str, Any]:
    """A problem without the row it is about."""
    return {name: problem[name] for name in ("code", "message", "column", "line") if problem.get(name) is not None}


# -- writing ------------------------------------------------------------------------------------------------------------


class Lines:
    """Results as CSV or JSON lines, one line for each row of the file; failed rows as JSON lines with reason and content."""

    def __init__(self, session: Session, fmt: str, *, head: bool) -> None:
        self.session, self.fmt, self.head = session, fmt, head
        model = session.model
        chances = model is not None and model.probabilities
        names = [f"probability_{each}" for each in session.classes or []] if chances else []
        self.chances = names if len(set(names)) == len(names) else []
        self.columns = [
            "row",
            "prediction",
            *self.chances,
            *(["probabilities"] if chances and not self.chances else []),
            "error",
        ]
        self.kinds: set[str] = set()

    def write(self, chunk: Chunk, start: int) -> tuple[bytes, bytes]:
        for each in chunk.done:
            if not isinstance(each, dict):
                self.kinds.add(kind_of(each[0]))
        failed = b"".join(
            dumps(self._failed(start + place, chunk.rows[place], each)) + b"\n"
            for place, each in enumerate(chunk.done)
            if isinstance(each, dict)
        )
        return (self._csv if self.fmt == "csv" else self._jsonl)(chunk, start), failed

    def _jsonl(self, chunk: Chunk, start: int) -> bytes:
        lines = []
        for row, each in enumerate(chunk.done, start):
            if isinstance(each, dict):
                line: dict[str, Any] = {"row": row, "error": _public(each)}
            else:
                line = {"row": row, "prediction": each[0]}
                if each[1] is not None:
                    line["probabilities"] = each[1]
            lines.append(dumps(line))
        return b"\n".join(lines) + b"\n" if lines else b""

    def _csv(self, chunk: Chunk, start: int) -> bytes:
        text = io.StringIO()
        plain = csv.writer(text, lineterminator="\n")
        quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)  # plain leaves a carriage return bare
        if self.head:
            plain.writerow(self.columns)
        blank = [""] * (len(self.columns) - 3)
        for row, each in enumerate(chunk.done, start):
            if isinstance(each, dict):
                told = _cell(f"{each['code']}: {each['message']}")
                cells = [row, "", *blank, told]
            else:
                told = _cell(each[0])
                cells = [row, told, *self._chances(each[1], blank), ""]
            (quoted if isinstance(told, str) and "\r" in told else plain).writerow(cells)
        return text.getvalue().encode("utf-8", "replace")

    def _chances(self, values: Any, blank: list[str]) -> list[Any]:
        if values is None or not blank:
            return blank
        return values if self.chances and len(values) == len(blank) else [_cell(values), *blank[1:]]

    def _failed(self, row: int, content: Any, problem: dict[str, Any]) -> dict[str, Any]:
        told = {"row": row, **_public(problem)}
        if content is None:
            return told | ({"text": problem["text"]} if problem.get("text") else {})
        names = [column["name"] for column in (self.session.schema or {}).get("inputs") or []]
        named = isinstance(content, list) and len(content) == len(names)
        return told | {"input": dict(zip(names, content, strict=True)) if named else content}


def _cell(value: Any) -> Any:
    """As a CSV has it. Text that a spreadsheet would take for a formula gets an apostrophe before it (OWASP, CSV injection); numbers never."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) and not _reads_as_number(value) else value
    return value if isinstance(value, (int, float)) else dumps(value).decode()


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def kind_of(value: Any) -> str:
    """Of a prediction, for a file whose columns have types: boolean, long, double, string, list (of numbers) or other."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "long" if -_INT64 <= value < _INT64 else "other"
    if isinstance(value, float):
        return "double"
    if isinstance(value, str):
        return "string"
    numbers = isinstance(value, list) and all(
        isinstance(each, (int, float)) and not isinstance(each, bool) for each in value
    )
    return "list" if numbers else "other"
