"""Files of lines: CSV and JSON lines. A chunk begins where the last one ended, whoever reads it."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from mlops.runtime import bodies, tables
from mlops.runtime.bulk.source import MAX_LINE_BYTES, SHOWN_CHARACTERS, Bad, opened
from mlops.runtime.bulk.wanted import Wanted
from mlops.runtime.tables import TableError

_UTF8_BOM = b"\xef\xbb\xbf"


class _Lines:
    """A text file's lines as bytes, with the place and number of each."""

    def __init__(self, content: str | bytes) -> None:
        self.file = opened(content)
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


class _LineSource(ABC):
    total = None

    def __init__(self, content: str | bytes, size: int, wanted: Wanted, cursor: dict[str, int]) -> None:
        self.size, self.wanted = size, wanted
        self.lines = _Lines(content)
        self.begin()
        if cursor:
            self.lines.go(int(cursor["offset"]), int(cursor["line"]))

    def begin(self) -> None:  # noqa: B027  JSON lines have nothing there
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

    @abstractmethod
    def row(self) -> Any:
        """The next row, Bad, or None at the end."""

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
