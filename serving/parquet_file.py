"""Rows of the log as Parquet, in a process of its own: neither the web nor the worker imports pyarrow, and a row group is all it holds.

    python -m serving.parquet_file write OUT        lists of JSON lines on standard input, in the order of COLUMNS
    python -m serving.parquet_file filter IN [OUT]  a serving.matching.Wanted with "since" and "until" (microseconds, or null) on standard
                                                    input; OUT gets the rows that are not meant, none without it

The last line on standard output is JSON: ``{"rows": 7}``, and of a filter ``{"matched": 2, "hidden": 0, "ids": [...]}`` besides.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import orjson

from serving.matching import Wanted, read_features

GROUP_ROWS = 5_000
GROUP_BYTES = 16 << 20
# Name and Arrow type. JSON stands as text: versions differ in their columns, and a value in its type.
COLUMNS = (
    ("id", "string"), ("at", "time"), ("version", "int32"), ("row", "int32"), ("request_id", "string"), ("key_prefix", "string"),
    ("via", "string"), ("status", "int16"), ("error_code", "string"), ("error_detail", "string"), ("request_excerpt", "string"),
    ("latency_ms", "double"), ("timings_ms", "string"), ("features", "string"), ("prediction", "string"), ("probabilities", "string"),
)  # fmt: skip
ID, AT, FEATURES = 0, 1, 13
_HIDDEN = '"(removed)"'


def _schema() -> Any:
    import pyarrow

    types = {
        "string": pyarrow.string(),
        "time": pyarrow.timestamp("us", tz="UTC"),
        "int16": pyarrow.int16(),
        "int32": pyarrow.int32(),
        "double": pyarrow.float64(),
    }
    return pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS])


def _writer(path: str, schema: Any) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetWriter(path, schema, compression="zstd")


def _groups(lines: Iterator[bytes]) -> Iterator[list[list[Any]]]:
    group, size = [], 0
    for line in lines:
        group.append(orjson.loads(line))
        size += len(line)
        if len(group) >= GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def write(out: str) -> dict[str, Any]:
    import pyarrow

    schema, rows = _schema(), 0
    with _writer(out, schema) as writer:
        for group in _groups(iter(sys.stdin.buffer)):
            columns = [
                pyarrow.array(values, type=field.type)
                for values, field in zip(zip(*group, strict=True), schema, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(columns, schema=schema))
            rows += len(group)
    return {"rows": rows}


def keep_rest(source: str, out: str | None) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet

    asked = orjson.loads(sys.stdin.buffer.read())
    wanted, rows, hidden, ids = Wanted.from_json(asked), 0, 0, []
    since, until = asked["since"], asked["until"]
    writer = _writer(out, _schema()) if out else None
    with pyarrow.parquet.ParquetFile(source) as file:
        for batch in file.iter_batches(batch_size=GROUP_ROWS):
            keys = batch.column(ID).to_pylist()
            times = batch.column(AT).cast(pyarrow.int64()).to_pylist()
            stays = []
            for key, at, text in zip(keys, times, batch.column(FEATURES).to_pylist(), strict=True):
                inside = (since is None or at >= since) and (until is None or at < until)
                features = read_features(text) if wanted.column and inside else None
                out_of_it = inside and wanted(key, features)
                hidden += bool(
                    inside and features and wanted.column and json.dumps(features.get(wanted.column)) == _HIDDEN
                )
                if out_of_it:
                    ids.append(key)
                stays.append(not out_of_it)
            rows += sum(stays)
            if writer is not None:
                writer.write_batch(batch.filter(pyarrow.array(stays)))
    if writer is not None:
        writer.close()
    return {"rows": rows, "matched": len(ids), "hidden": hidden, "ids": ids}


def main(verb: str, *paths: str) -> None:
    import pyarrow

    pyarrow.set_cpu_count(1)
    pyarrow.set_io_thread_count(1)
    found = write(paths[0]) if verb == "write" else keep_rest(paths[0], paths[1] if len(paths) > 1 else None)
    sys.stdout.buffer.write(orjson.dumps(found) + b"\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
