"""Rows of a data file, a chunk at a time and from where the last chunk ended: CSV, JSON lines, JSON, Parquet.

Memory stays flat however long the file is. A line that cannot be read is a bad row, not the end: only a file that is broken as a whole is refused.
"""

from __future__ import annotations

import csv
import io
import json
import re
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import orjson

from mlops.runtime import bodies, tables
from mlops.runtime.bulk.wanted import Wanted
from mlops.runtime.refusals import Refusal
from mlops.runtime.tables import TableError

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

MAX_LINE_BYTES = 4 << 20
SHOWN_CHARACTERS = 2_000  # of a line that cannot be read
_BLOCK = 1 << 18
_PARQUET_VALUES = 250_000
_UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Bad:
    """A row that could not be read."""

    code: str
    message: str
    text: str = ""
    line: int | None = None


class Source(Protocol):
    """An open file. ``take`` gives the next rows (a ``Bad`` in place of one that cannot be read), an empty list at the end."""

    total: int | None

    def take(self, most: int, most_bytes: int) -> list[Any]: ...

    def cursor(self) -> dict[str, int]: ...

    def share(self) -> float: ...


def open_source(content: str | bytes, fmt: str, wanted: Wanted, cursor: dict[str, int] | None = None) -> Source:
    """Open a path or bytes where ``cursor`` says. Raises TableError when it is no such file or lacks columns."""
    if fmt not in _SOURCES:
        raise TableError("unknown_table_format", f"There is no table format {fmt!r}.", f"Known: {', '.join(_SOURCES)}.")
    size = len(content) if isinstance(content, bytes) else Path(content).stat().st_size
    if size == 0:
        raise TableError("empty_file", "The file is empty.", "Send at least one row.")
    return _SOURCES[fmt](content, size, wanted, cursor or {})


def _opened(content: str | bytes) -> IO[bytes]:
    return io.BytesIO(content) if isinstance(content, bytes) else open(content, "rb", buffering=_BLOCK)  # noqa: SIM115  lives as long as its source


# -- lines --------------------------------------------------------------------------------------------------------------


class _Lines:
    """A text file's lines as bytes, with the place and number of each."""

    def __init__(self, content: str | bytes) -> None:
        self.file = _opened(content)
        start = self.file.read(4096)
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise TableError(
                "wrong_encoding", "The file is UTF-16 text.", "Save it as UTF-8 (a spreadsheet calls it 'CSV UTF-8')."
            )
        if b"\x00" in start:
            raise TableError(
                "not_text", "The file is binary, not text.", "Is it Parquet? Then send it with that content type."
            )
        self.first = len(_UTF8_BOM) if start.startswith(_UTF8_BOM) else 0
        self.number = 0
        self.go(self.first, 0)

    def go(self, offset: int, number: int) -> None:
        self.offset, self.number = offset, number
        self.file.seek(offset)

    def next(self) -> bytes:
        """The next line; empty at the end. Of one that is too long only the start."""
        line = self.file.readline(MAX_LINE_BYTES)
        self.offset += len(line)
        self.number += 1
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            while rest := self.file.readline(MAX_LINE_BYTES):
                self.offset += len(rest)
                if rest.endswith(b"\n"):
                    break
        return line


def _shown(raw: bytes) -> str:
    return raw[: 4 * SHOWN_CHARACTERS].decode("utf-8", "replace")[:SHOWN_CHARACTERS].rstrip("\r\n")


class _LineSource:
    total = None

    def __init__(self, content: str | bytes, size: int, wanted: Wanted, cursor: dict[str, int]) -> None:
        self.size, self.wanted = size, wanted
        self.lines = _Lines(content)
        self.begin()
        if cursor:
            self.lines.go(int(cursor["offset"]), int(cursor["line"]))

    def begin(self) -> None:
        """What stands before the rows."""

    def take(self, most: int, most_bytes: int) -> list[Any]:
        rows: list[Any] = []
        start = self.lines.offset
        while len(rows) < most and self.lines.offset - start < most_bytes:
            row = self.row()
            if row is None:
                break
            rows.append(row)
        return rows

    def row(self) -> Any:
        """The next row, Bad, or None at the end."""
        raise NotImplementedError

    def cursor(self) -> dict[str, int]:
        return {"offset": self.lines.offset, "line": self.lines.number}

    def share(self) -> float:
        return self.lines.offset / self.size


class JsonLines(_LineSource):
    def row(self) -> Any:
        while line := self.lines.next():
            if not line.isspace():
                return self._parsed(line)
        return None

    def _parsed(self, line: bytes) -> Any:
        if len(line) == MAX_LINE_BYTES:
            return Bad(
                "line_too_long", f"The line is longer than {MAX_LINE_BYTES >> 20} MB.", _shown(line), self.lines.number
            )
        try:
            return self.wanted.from_json(bodies.parse(line))
        except TableError as error:
            return Bad(error.code, error.message, _shown(line), self.lines.number)
        except (ValueError, RecursionError) as error:
            return Bad("broken_json", f"The line is not JSON: {error}.", _shown(line), self.lines.number)


class Csv(_LineSource):
    def begin(self) -> None:
        line = self.lines.next()
        while line and line.isspace():
            line = self.lines.next()
        text = line.decode("utf-8", "replace")
        self.dialect = tables.csv_dialect(text)
        self._reader = csv.reader(self._texts(), self.dialect, strict=True)
        self._held: list[bytes] = [line]
        self._give_first = text
        try:
            names = next(self._reader, [])
        except csv.Error as error:
            raise TableError(
                "broken_csv", f"The header cannot be read as CSV: {error}.", "The first line must name the columns."
            ) from error
        header = tables.csv_header(names)
        self.width = len(header)
        self.places = self.wanted.places(header)
        self.straight = self.places == list(range(self.width))

    def _texts(self) -> Iterator[str]:
        yield self._give_first
        while line := self.lines.next():
            self._held.append(line)
            yield line.decode("utf-8", "surrogateescape")

    def row(self) -> Any:
        while True:
            self._held.clear()
            start, number = self.lines.offset, self.lines.number
            try:
                cells = next(self._reader)
            except StopIteration:
                return None
            except csv.Error as error:
                return self._bad("broken_csv", f"The line cannot be read as CSV: {error}.", start, number)
            if not cells:
                continue  # a blank line
            if len(cells) != self.width:
                if self.width > 1 and len(cells) == 1 and not cells[0].strip():
                    continue
                message = f"The line has {len(cells)} values, the header has {self.width}."
                return self._bad("ragged_row", message, start, number)
            if not self.straight:
                cells = [cells[place] for place in self.places]
            try:
                for cell in cells:
                    cell.isascii() or cell.encode()
            except UnicodeEncodeError:
                return self._bad("wrong_encoding", "The line is not UTF-8 text.", start, number)
            return self.wanted.from_cells(cells)

    def _bad(self, code: str, message: str, start: int, number: int) -> Bad:
        """The first line of what was read is bad. A lone quote runs on over good lines: those are read again."""
        first = self._held[0] if self._held else b""
        if len(self._held) > 1:
            self.lines.go(start + len(first), number + 1)
        self._reader = csv.reader(self._more(), self.dialect, strict=True)
        return Bad(code, message, _shown(first), number + 1)

    def _more(self) -> Iterator[str]:
        while line := self.lines.next():
            self._held.append(line)
            yield line.decode("utf-8", "surrogateescape")


# -- JSON ---------------------------------------------------------------------------------------------------------------

_SPACE = re.compile(r"[ \t\r\n]*")


class JsonList:
    """One list of rows, or {"inputs": rows}: element by element, never the whole text at once."""

    total = None
    hint = 'Send [{"column": value}, ...] or {"inputs": [...]}, or one row per line as application/x-ndjson.'

    def __init__(self, content: str | bytes, size: int, wanted: Wanted, cursor: dict[str, int]) -> None:
        self.wanted, self.size, self.rows = wanted, size, 0
        file = _opened(content)
        self.file = file
        self.text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        self.buffer, self.place, self.ended = "", 0, False
        self.decoder = json.JSONDecoder(parse_constant=_constant)
        self.single = False
        self._begin()
        for _ in range(int(cursor.get("rows", 0))):
            self._element()

    def _begin(self) -> None:
        mark = self._peek()
        if mark == "{":
            self._to_inputs()
            mark = self._peek()
        if mark == "[":
            self.place += 1
        elif mark == "{":
            self.single = True
        else:
            raise TableError("not_rows", "The JSON holds no list of rows.", self.hint)

    def _to_inputs(self) -> None:
        """Behind ``{"inputs":``; other members before it are passed over."""
        self.place += 1
        while self._peek() == '"':
            name = self._value()
            if self._peek() != ":":
                break
            self.place += 1
            if name == "inputs":
                return
            self._peek()
            self._value()
            if self._peek() == ",":
                self.place += 1
        raise TableError("not_rows", 'The JSON object has no "inputs".', self.hint)

    def _more(self) -> bool:
        if self.ended:
            return False
        if len(self.buffer) - self.place > MAX_LINE_BYTES:
            raise TableError("line_too_long", f"Row {self.rows} is longer than {MAX_LINE_BYTES >> 20} MB.", self.hint)
        try:
            block = self.text.read(max(_BLOCK, len(self.buffer) - self.place))
        except UnicodeDecodeError as error:
            raise TableError(
                "wrong_encoding", f"The JSON is not UTF-8 text after row {self.rows}.", self.hint
            ) from error
        self.buffer, self.place = self.buffer[self.place :] + block, 0
        self.ended = not block
        return bool(block)

    def _peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            found = _SPACE.match(self.buffer, self.place)
            self.place = found.end() if found else self.place
            if self.place < len(self.buffer):
                return self.buffer[self.place]
            if not self._more():
                return ""

    def _value(self) -> Any:
        while True:
            try:
                value, end = self.decoder.raw_decode(self.buffer, self.place)
                # A number at the edge of the buffer may go on behind it.
                if end < len(self.buffer) or self.ended:
                    self.place = end
                    return value
            except (json.JSONDecodeError, RecursionError) as error:
                if self.ended or isinstance(error, RecursionError):
                    raise self._broken(str(error)) from error
            self._more()

    def _broken(self, why: str) -> TableError:
        return TableError(
            "broken_json",
            f"The JSON cannot be read after row {self.rows}: {why}.",
            "Is the file cut short? " + self.hint,
        )

    def _element(self) -> Any:
        """The next row, or None at the end of the list."""
        if self.single:
            if self.rows:
                return None
            self.rows += 1
            return self._row(self._value())
        mark = self._peek()
        if mark == "," and self.rows:
            self.place += 1
            mark = self._peek()
        elif mark not in ("]", "") and self.rows:
            raise self._broken("a comma is missing")
        if mark == "]":
            return None
        if mark == "":
            raise self._broken("the list does not end")
        value = self._value()
        self.rows += 1
        return self._row(value)

    def _row(self, value: Any) -> Any:
        try:
            return self.wanted.from_json(value)
        except TableError as error:
            return Bad(error.code, error.message, json.dumps(value)[:SHOWN_CHARACTERS])

    def take(self, most: int, most_bytes: int) -> list[Any]:
        rows: list[Any] = []
        left = most_bytes
        while len(rows) < most and left > 0:
            before = self.place
            row = self._element()
            if row is None:
                break
            rows.append(row)
            left -= max(1, self.place - before)
        return rows

    def cursor(self) -> dict[str, int]:
        return {"rows": self.rows}

    def share(self) -> float:
        return min(1.0, max(0.0, (self.file.tell() - (len(self.buffer) - self.place)) / self.size))


def _constant(name: str) -> None:
    if name != "NaN":
        raise json.JSONDecodeError(f"{name} is not a value", "", 0)


# -- Parquet ------------------------------------------------------------------------------------------------------------


class Parquet:
    def __init__(self, content: str | bytes, size: int, wanted: Wanted, cursor: dict[str, int]) -> None:
        import pyarrow
        import pyarrow.parquet

        self.wanted, self.done = wanted, int(cursor.get("rows", 0))
        try:
            source = pyarrow.BufferReader(content) if isinstance(content, bytes) else content
            self.file = pyarrow.parquet.ParquetFile(source, memory_map=not isinstance(content, bytes))
            names = [str(name) for name in self.file.schema_arrow.names if name != "__index_level_0__"]
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise _broken_parquet(error) from error
        self.total: int | None = self.file.metadata.num_rows
        self.lists = (
            wanted.shape is not None
            and len(names) == 1
            and pyarrow.types.is_list(self.file.schema_arrow.field(names[0]).type)
        )
        self.names = names if self.lists else [names[place] for place in wanted.places(tables.column_names(names))]
        self.batches: Iterator[Any] | None = None
        self.left: list[Any] = []

    def take(self, most: int, most_bytes: int) -> list[Any]:
        import pyarrow

        most = max(1, min(most, _PARQUET_VALUES // max(1, len(self.names))))
        try:
            while not self.left:
                if self.batches is None:
                    self.batches = self._from(self.done, most)
                batch = next(self.batches, None)
                if batch is None:
                    return []
                self.left = self._rows(batch)
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise _broken_parquet(error) from error
        rows, self.left = self.left[:most], self.left[most:]
        self.done += len(rows)
        return rows

    def _from(self, row: int, size: int) -> Iterator[Any]:
        """Batches from ``row`` on: whole row groups before it are not even read."""
        group, before, metadata = 0, 0, self.file.metadata
        while group < metadata.num_row_groups and before + metadata.row_group(group).num_rows <= row:
            before += metadata.row_group(group).num_rows
            group += 1
        groups = list(range(group, metadata.num_row_groups))
        skip = row - before
        for batch in self.file.iter_batches(size, row_groups=groups, columns=self.names, use_threads=False):
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            yield batch.slice(skip)
            skip = 0

    def _rows(self, batch: Any) -> list[Any]:
        import pyarrow

        columns = {name: batch.column(name) for name in self.names}
        if self.lists:
            return [
                row if row is not None else Bad("not_a_row", "The value is missing.")
                for row in columns[self.names[0]].to_pylist()
            ]
        values = [tables.arrow_column(pyarrow, name, column)[1] for name, column in columns.items()]
        return [list(row) for row in zip(*values, strict=True)]

    def cursor(self) -> dict[str, int]:
        return {"rows": self.done}

    def share(self) -> float:
        return self.done / self.total if self.total else 1.0


def _broken_parquet(error: Exception) -> TableError:
    return TableError(
        "broken_parquet", f"The Parquet file cannot be read: {str(error)[:200]}.", "Is it cut short, or another format?"
    )


_SOURCES: dict[str, Any] = {"csv": Csv, "jsonl": JsonLines, "json": JsonList, "parquet": Parquet}


# -- the operation ------------------------------------------------------------------------------------------------------

_open: weakref.WeakKeyDictionary[Any, tuple[dict[str, int], Source]] = weakref.WeakKeyDictionary()


def read_rows(session: Session, header: dict[str, Any], body: bytes) -> tuple[int, dict[str, Any], bytes]:
    """The next rows of the runner's file; the body is the model's schema. ``args``: format, cursor (None: the start), rows, bytes.

    The file stays open between calls; a cursor of another place, also one that another runner gave, opens it there.
    """
    args = header.get("args") or {}
    cursor = args.get("cursor") or {}
    try:
        at, source = _open.pop(session, ({}, None))
        if source is None or at != cursor or not cursor:
            source = open_source(session.spec.path, str(args.get("format")), Wanted.of(orjson.loads(body)), cursor)
        rows = source.take(int(args.get("rows", 5_000)), int(args.get("bytes", 2 << 20)))
    except TableError as error:
        raise Refusal(422, error.code, error.message, error.hint) from error
    found = source.cursor()
    _open[session] = (found, source)
    said = {
        "rows": len(rows),
        "end": not rows,
        "cursor": found,
        "share": round(min(1.0, source.share()), 6),
        "total": source.total,
        "passed_over": list(source.wanted.passed_over)[:20],  # type: ignore[attr-defined]
    }
    return 200, said, chunk_of(rows)


def chunk_of(rows: list[Any]) -> bytes:
    bad = {
        str(place): {"code": row.code, "message": row.message, "text": row.text, "line": row.line}
        for place, row in enumerate(rows)
        if isinstance(row, Bad)
    }
    return orjson.dumps({"rows": [None if isinstance(row, Bad) else row for row in rows], "bad": bad}, default=str)
