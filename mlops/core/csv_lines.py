"""CSV as a stream, with cells that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Any

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  the wide ones count, too, in some countries


class _Line:
    """A file for csv.writer that gives each line back instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def lines(rows: Iterable[list[Any]]) -> Iterator[str]:
    """One text a row. Numbers stay as they are; a text that begins like a formula gets an apostrophe, which makes it text."""
    writer = csv.writer(_Line())
    for row in rows:
        yield writer.writerow([_safe(cell) for cell in row])


def _safe(value: Any) -> Any:
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    return f"'{value}" if value.startswith(_FORMULA_STARTS) or value.lstrip(" ").startswith(_FORMULA_STARTS) else value
