"""Parquet, a row group at a time; the library is imported when the first file comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlops.runtime import tables
from mlops.runtime.bulk.source import Bad
from mlops.runtime.bulk.wanted import Wanted
from mlops.runtime.tables import TableError

_PARQUET_VALUES = 250_000


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
