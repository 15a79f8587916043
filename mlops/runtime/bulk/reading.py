"""Rows of a data file, a chunk at a time and from where the last chunk ended: CSV, JSON lines, JSON, Parquet.

Memory stays flat however long the file is. A line that cannot be read is a bad row, not the end: only a file that is broken as a whole is refused.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mlops.runtime.bulk.json_list import JsonList
from mlops.runtime.bulk.lines import Csv, JsonLines
from mlops.runtime.bulk.parquet import Parquet
from mlops.runtime.bulk.source import Bad, Source
from mlops.runtime.bulk.wanted import Wanted
from mlops.runtime.refusals import Refusal
from mlops.runtime.tables import TableError

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

__all__ = ["Bad", "chunk_of", "open_source", "read_rows"]

_SOURCES: dict[str, Any] = {"csv": Csv, "jsonl": JsonLines, "json": JsonList, "parquet": Parquet}


def open_source(content: str | bytes, fmt: str, wanted: Wanted, cursor: dict[str, int] | None = None) -> Source:
    """Open a path or bytes where ``cursor`` says. Raises TableError when it is no such file or lacks columns."""
    if fmt not in _SOURCES:
        raise TableError("unknown_table_format", f"There is no table format {fmt!r}.", f"Known: {', '.join(_SOURCES)}.")
    size = len(content) if isinstance(content, bytes) else Path(content).stat().st_size
    if size == 0:
        raise TableError("empty_file", "The file is empty.", "Send at least one row.")
    return _SOURCES[fmt](content, size, wanted, cursor or {})


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
