"""One list of rows in a JSON file, element by element: the whole text is never held."""

from __future__ import annotations

import io
import json
import re
from typing import Any

from mlops.runtime.bulk.source import BLOCK_BYTES, MAX_LINE_BYTES, SHOWN_CHARACTERS, Bad, opened
from mlops.runtime.bulk.wanted import Wanted
from mlops.runtime.tables import TableError

_SPACE = re.compile(r"[ \t\r\n]*")


class JsonList:
    """One list of rows, or {"inputs": rows}: element by element, never the whole text at once."""

    total = None
    hint = 'Send [{"column": value}, ...] or {"inputs": [...]}, or one row per line as application/x-ndjson.'

    def __init__(self, content: str | bytes, size: int, wanted: Wanted, cursor: dict[str, int]) -> None:
        self.wanted, self.size, self.rows = wanted, size, 0
        file = opened(content)
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
            block = self.text.read(max(BLOCK_BYTES, len(self.buffer) - self.place))
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
