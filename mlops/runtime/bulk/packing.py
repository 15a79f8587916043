"""Result lines as one Parquet file. In a runner: the web and the worker import no pyarrow, and a row group is all that is held."""

from __future__ import annotations

import io
import weakref
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

_ROW_GROUP_ROWS = 50_000


class _Sink(io.RawIOBase):
    """What the writer wrote since it was last taken."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        found, self._pieces = b"".join(self._pieces), []
        return found


class Packer:
    def __init__(self, columns: list[str], kinds: list[str]) -> None:
        import pyarrow
        import pyarrow.parquet

        self.kind = _one_kind(kinds)
        types = {
            "boolean": pyarrow.bool_(),
            "long": pyarrow.int64(),
            "double": pyarrow.float64(),
            "list": pyarrow.list_(pyarrow.float64()),
        }
        own = {"row": pyarrow.int64(), "prediction": types.get(self.kind, pyarrow.string()), "error": pyarrow.string()}
        own["probabilities"] = pyarrow.list_(pyarrow.float64())
        self.columns = columns
        self.schema = pyarrow.schema([(name, own.get(name, pyarrow.float64())) for name in columns])
        self.sink = _Sink()
        self.writer = pyarrow.parquet.ParquetWriter(
            pyarrow.PythonFile(self.sink, mode="w"), self.schema, compression="zstd"
        )
        self.rows: list[dict[str, Any]] = []

    def add(self, lines: bytes) -> bytes:
        self.rows += [orjson.loads(line) for line in lines.splitlines()]
        if len(self.rows) >= _ROW_GROUP_ROWS:
            self._flush()
        return self.sink.take()

    def end(self) -> bytes:
        self._flush()
        self.writer.close()
        return self.sink.take()

    def _flush(self) -> None:
        import pyarrow

        if not self.rows:
            return
        chances = [name for name in self.columns if name.startswith("probability_")]
        places = {name: place for place, name in enumerate(chances)}
        values = {name: [self._value(row, name, places) for row in self.rows] for name in self.columns}
        self.rows = []
        arrays = [pyarrow.array(values[field.name], type=field.type) for field in self.schema]
        self.writer.write_table(pyarrow.Table.from_arrays(arrays, schema=self.schema))

    def _value(self, row: dict[str, Any], name: str, places: dict[str, int]) -> Any:
        if name == "error":
            error = row.get("error")
            return f"{error['code']}: {error['message']}" if error else None
        if name in places:
            values = row.get("probabilities")
            return values[places[name]] if values and len(values) == len(places) else None
        value = row.get(name)
        if name != "prediction" or value is None or self.kind not in ("string", "other"):
            return float(value) if name == "prediction" and self.kind == "double" and value is not None else value
        return value if isinstance(value, str) else orjson.dumps(value).decode()


def _one_kind(kinds: list[str]) -> str:
    found = set(kinds)
    if found and found <= {"long", "double"}:
        return "double" if "double" in found else "long"
    return found.pop() if len(found) == 1 else "other"


def parquet(lines: bytes, columns: list[str], kinds: list[str]) -> bytes:
    """A whole file."""
    packer = Packer(columns, kinds)
    return packer.add(lines) + packer.end()


_packers: weakref.WeakKeyDictionary[Any, Packer] = weakref.WeakKeyDictionary()


def pack_rows(session: Session, header: dict[str, Any], body: bytes) -> tuple[int, dict[str, Any], bytes]:
    """Whole result lines in, pieces of a Parquet file out. ``args``: columns, kinds, first, end. A runner that is new to it refuses: begin again."""
    from mlops.runtime.refusals import Refusal

    args = header.get("args") or {}
    if args.get("first"):
        _packers[session] = Packer([str(name) for name in args["columns"]], [str(kind) for kind in args["kinds"]])
    packer = _packers.get(session)
    if packer is None:
        raise Refusal(409, "not_begun", "This runner has not begun the file.", "Begin again.")
    written = packer.add(body)
    if args.get("end"):
        del _packers[session]
        written += packer.end()
    return 200, {}, written
