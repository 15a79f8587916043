"""Tensors of the Open Inference Protocol: datatypes, JSON and binary data, read without trusting a length that was not checked.

Nothing is allocated by what a request claims: sizes are multiplied as Python numbers and compared with the bytes that are there.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson

from mlops.runtime.refusals import Refusal

NUMPY = {
    "BOOL": "|b1", "UINT8": "|u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "|i1", "INT16": "<i2", "INT32": "<i4",
    "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
DATATYPES = (*NUMPY, "BYTES")
CONTENT_TYPES = ("np", "pd", "pd_json", "str", "base64", "datetime")
MAX_RANK = 8
_LENGTH = struct.Struct("<I")
_INT64 = 2**63
_JSON_TYPES: dict[str, frozenset[type]] = {
    "BOOL": frozenset((bool,)),
    "BYTES": frozenset((str, type(None))),
    **dict.fromkeys(("FP16", "FP32", "FP64"), frozenset((float, int, type(None)))),
}
_WHOLE: frozenset[type] = frozenset((int, type(None)))  # null is a missing value: the schema says whether one may be


def bad(detail: str, hint: str = "") -> Refusal:
    return Refusal(400, "bad_tensor", detail, hint)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input. ``flat``: its values row by row, as a list from JSON or BYTES, as a numpy array from binary numbers."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    flat: Any

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def width(self) -> int | None:
        """How many columns of a table it can be; None for a tensor of rank 3 and more."""
        return 1 if len(self.shape) == 1 else self.shape[1] if len(self.shape) == 2 else None

    def values(self) -> list[Any]:
        """Plain values, row by row."""
        return self.flat if isinstance(self.flat, list) else self.flat.tolist()

    def as_rows(self) -> list[list[Any]]:
        """[rows][columns] of a tensor of rank 1 or 2."""
        if isinstance(self.flat, list):
            width = self.width or 1
            return [self.flat[start : start + width] for start in range(0, len(self.flat), width)]
        return self.flat.reshape(self.rows, -1).tolist()

    def array(self) -> np.ndarray:
        """In its shape and datatype. Raises Refusal for BYTES and for numbers that do not fit the datatype."""
        if self.datatype == "BYTES":
            raise bad(f"Tensor {self.name!r} is text; the model takes numbers.", "See the model's metadata.")
        if not isinstance(self.flat, list):
            return self.flat.reshape(self.shape)
        try:
            with np.errstate(over="ignore"):
                return np.array(self.flat, dtype=NUMPY[self.datatype]).reshape(self.shape)
        except (TypeError, ValueError, OverflowError) as error:
            raise bad(f"Tensor {self.name!r} does not fit {self.datatype}: {error}.") from error


def read(given: Any, raw: bytes, at: int, max_rows: int, *, pictures: bool = False) -> tuple[Tensor, int]:
    """The tensor of one entry of "inputs", and where the next one's bytes begin in ``raw``. Raises Refusal.

    ``pictures``: BYTES are no text, they stay as they came.
    """
    if not isinstance(given, dict):
        raise bad('Every entry of "inputs" is an object with name, shape, datatype and data.')
    name = given.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise bad("A tensor needs a name of 1 to 200 characters.")
    datatype = given.get("datatype")
    if datatype not in DATATYPES:
        raise bad(f"Tensor {name!r}: the datatype is one of {', '.join(DATATYPES)}, not {str(datatype)[:40]!r}.")
    shape, count = _shape(name, given.get("shape"), max_rows)
    parameters = given.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise bad(f"Tensor {name!r}: parameters is an object.")
    if "shared_memory_region" in parameters:
        raise bad(f"Tensor {name!r}: shared memory is not offered here.", "Send the data in the request.")
    size = parameters.get("binary_data_size")
    if size is None:
        flat: Any = _from_json(name, datatype, given.get("data"), len(shape), count)
    else:
        if "data" in given:
            raise bad(f"Tensor {name!r} has data and binary_data_size; one of them.")
        if type(size) is not int or not 0 <= size <= len(raw) - at:
            raise bad(
                f"Tensor {name!r}: binary_data_size is {str(size)[:40]}, but {len(raw) - at} bytes are left.",
                "Send Inference-Header-Content-Length, then the tensors' bytes in the order of the inputs.",
            )
        flat = _from_binary(name, datatype, memoryview(raw)[at : at + size], count)
        at += size
    if pictures and datatype == "BYTES":
        return Tensor(name, shape, datatype, flat), at
    return Tensor(name, shape, datatype, _decoded(name, datatype, flat, parameters.get("content_type"))), at


def _shape(name: str, given: Any, max_rows: int) -> tuple[tuple[int, ...], int]:
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_RANK or any(type(size) is not int for size in given):
        raise bad(f"Tensor {name!r}: the shape is a list of 1 to {MAX_RANK} sizes, rows first.")
    if any(not 0 < size < _INT64 for size in given):
        raise bad(f"Tensor {name!r}: every size of the shape {str(given)[:80]} must be 1 or more.")
    if given[0] > max_rows:
        raise Refusal(
            413, "too_many_rows", f"{given[0]:,} rows are more than the {max_rows:,} one request may hold.", "Split it."
        )
    return tuple(given), math.prod(given)


def _from_json(name: str, datatype: str, data: Any, rank: int, count: int) -> list[Any]:
    if not isinstance(data, list):
        raise bad(f"Tensor {name!r} has no data: a list, nested or flat, or binary_data_size.")
    for _ in range(rank):
        nested = sum(type(item) is list for item in data)
        if nested == 0:
            break
        if nested < len(data):
            raise bad(f"Tensor {name!r}: the data mixes lists and values.")
        data = list(chain.from_iterable(data))
    if len(data) != count:
        raise bad(f"Tensor {name!r}: the shape asks for {count} values, the data has {len(data)}.")
    kinds = set(map(type, data))
    if datatype == "BOOL" and kinds <= {bool, int} and all(value in (0, 1) for value in data):
        return list(map(bool, data))
    if not kinds <= _JSON_TYPES.get(datatype, _WHOLE):
        odd = next(value for value in data if type(value) not in _JSON_TYPES.get(datatype, _WHOLE))
        raise bad(f"Tensor {name!r}: {str(odd)[:40]!r} is not a value of {datatype}.")
    if datatype in NUMPY and datatype[0] in "UI":
        _in_range(name, datatype, data)
    return data


def _in_range(name: str, datatype: str, data: list[Any]) -> None:
    bounds = np.iinfo(NUMPY[datatype])
    present = [value for value in data if value is not None]
    if present and not (bounds.min <= min(present) and max(present) <= bounds.max):
        raise bad(f"Tensor {name!r}: a number does not fit {datatype}.")


def _from_binary(name: str, datatype: str, view: memoryview, count: int) -> Any:
    if datatype == "BYTES":
        return _texts(name, view, count)
    wanted = count * np.dtype(NUMPY[datatype]).itemsize
    if wanted != len(view):
        raise bad(f"Tensor {name!r}: the shape asks for {wanted} bytes, binary_data_size is {len(view)}.")
    if datatype == "BOOL":
        return np.frombuffer(view, np.uint8) != 0  # a byte other than 0 and 1 must not become a bool made of it
    return np.frombuffer(view, NUMPY[datatype])


def _texts(name: str, view: memoryview, count: int) -> list[bytes]:
    """Each element: four bytes of length, little-endian, and the bytes."""
    if count * _LENGTH.size > len(view):
        raise bad(f"Tensor {name!r}: the shape asks for {count} elements, its {len(view)} bytes cannot hold them.")
    found: list[bytes] = []
    at = 0
    for _ in range(count):
        if at + _LENGTH.size > len(view):
            raise bad(f"Tensor {name!r}: its bytes end after {len(found)} of {count} elements.")
        (length,) = _LENGTH.unpack_from(view, at)
        at += _LENGTH.size
        if length > len(view) - at:
            raise bad(f"Tensor {name!r}: element {len(found)} claims {length} bytes, {len(view) - at} are left.")
        found.append(bytes(view[at : at + length]))
        at += length
    if at != len(view):
        raise bad(f"Tensor {name!r}: {len(view) - at} bytes are left over after {count} elements.")
    return found


def _decoded(name: str, datatype: str, flat: Any, content_type: Any) -> Any:
    """BYTES as text, by the content type that MLServer's clients write; numbers as they are."""
    if content_type is not None and content_type not in CONTENT_TYPES:
        raise bad(f"Tensor {name!r}: the content type is one of {', '.join(CONTENT_TYPES)}.")
    if datatype != "BYTES":
        return flat
    try:
        if content_type == "base64":
            flat = [None if value is None else base64.b64decode(value, validate=True) for value in flat]
        texts = [value.decode() if isinstance(value, bytes) else value for value in flat]
        return [orjson.loads(value or "null") for value in texts] if content_type == "pd_json" else texts
    except (binascii.Error, ValueError) as error:
        kind = {"base64": "base64 of UTF-8 text", "pd_json": "JSON"}.get(str(content_type), "UTF-8 text")
        raise bad(f"Tensor {name!r} is not {kind}: {str(error)[:100]}.") from error


# -- answers --------------------------------------------------------------------------------------------------------


def of_values(name: str, values: list[Any]) -> Tensor:
    """What a model answered: numbers and true/false as such, text as BYTES, anything else as JSON text in BYTES."""
    kinds = set(map(type, values))
    if kinds == {bool}:
        return Tensor(name, (len(values),), "BOOL", values)
    if kinds == {str}:
        return Tensor(name, (len(values),), "BYTES", values)
    if kinds == {int} and min(values) >= -_INT64 and max(values) < _INT64:
        return Tensor(name, (len(values),), "INT64", values)
    if kinds <= {int, float}:
        return Tensor(name, (len(values),), "FP64", list(map(float, values)))
    if kinds == {list}:
        nested = _numbers(values)
        if nested is not None:
            return Tensor(name, nested.shape, _OF_KIND[nested.dtype.kind], nested.reshape(-1).tolist())
    return Tensor(name, (len(values),), "BYTES", [orjson.dumps(value).decode() for value in values])


_OF_KIND = {"b": "BOOL", "i": "INT64", "f": "FP64"}


def _numbers(values: list[Any]) -> np.ndarray | None:
    """Nested lists of one shape and kind, or None."""
    try:
        array = np.array(values)
    except (ValueError, OverflowError):
        return None
    if array.dtype.kind not in _OF_KIND:
        return None
    return array if array.dtype.kind == "b" else array.astype("<i8" if array.dtype.kind == "i" else "<f8")


def to_binary(tensor: Tensor) -> bytes:
    """Little-endian, row by row; BYTES with their lengths before them."""
    if tensor.datatype == "BYTES":
        parts = [text.encode() for text in tensor.flat]
        return b"".join(chain.from_iterable((_LENGTH.pack(len(part)), part) for part in parts))
    return np.array(tensor.flat, dtype=NUMPY[tensor.datatype]).tobytes()
