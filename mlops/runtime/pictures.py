"""Pictures in a request: PNG or JPEG as base64 text, opened with Pillow and turned into the array that the model takes.

A picture says its size in its first bytes: too many pixels, or a size that the model does not take, are refused before one of them is
unpacked. Runs where the model is; Pillow is imported when the first picture comes.
"""

from __future__ import annotations

import base64
import binascii
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from mlops.runtime.schema_error import SchemaError

MAX_PIXELS = 16_000_000  # of one picture
MAX_PIXELS_TOGETHER = 32_000_000  # of one request: 100 MB in colour
MAX_NUMBERS = 4 * MAX_PIXELS_TOGETHER  # of the array that they make
FORMATS = ("PNG", "JPEG")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_HINT = 'Send PNG or JPEG as base64 text, {"b64": "..."} or a data: URL.'
_SIGNS = (b"\x89PNG", b"\xff\xd8\xff")


def as_rows(parsed: Any) -> Any:
    """A single picture is one row; {"image": picture} and [picture] are that picture, as other servers' clients write it."""
    if isinstance(parsed, (str, bytes, dict)):
        parsed = [parsed]
    return list(map(_bare, parsed)) if type(parsed) is list else parsed


def _bare(row: Any) -> Any:
    """{"b64": text}, {"image": text}, {"image": {"b64": text}} and [text] are the text."""
    for _ in range(3):
        if type(row) is dict and len(row) == 1:
            row = next(iter(row.values()))
        elif type(row) is list and len(row) == 1 and isinstance(row[0], (str, bytes, dict)):
            row = row[0]
        else:
            break
    return row


def is_picture(row: Any) -> bool:
    return isinstance(row, (str, bytes, dict))


def opened(rows: list[Any], wanted: dict[str, Any]) -> Iterator[Any]:
    """The rows with every picture as its array; the others as they are. Raises SchemaError naming the row."""
    left = MAX_PIXELS_TOGETHER
    for place, row in enumerate(rows):
        if not is_picture(row):
            yield row
            continue
        try:
            array, pixels = _opened(_raw(row), wanted, left)
        except _Unfit as error:
            message = f"Row {place}: {error.args[0]}"
            raise SchemaError(
                message, [{"row": place, "message": message}], error.args[1], code="picture_unfit"
            ) from error
        left -= pixels
        yield array


class _Unfit(Exception):  # noqa: N818  (what is wrong, what to do)
    pass


def _raw(row: Any) -> bytes:
    if isinstance(row, dict):
        raise _Unfit(f"an object with {len(row)} keys is no picture.", _HINT)
    if isinstance(row, bytes):
        if row.startswith(_SIGNS):
            return row
        row = row.decode("ascii", "replace")
    if row.startswith("data:"):
        head, found, row = row.partition(",")
        if not found or not head.endswith(";base64"):
            raise _Unfit("the data: URL is not base64.", _HINT)
    try:
        return base64.b64decode("".join(row.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Unfit(f"the text is not base64 ({error}).", _HINT) from error


def _opened(raw: bytes, wanted: dict[str, Any], left: int) -> tuple[np.ndarray, int]:
    try:
        from PIL import Image
    except ImportError as error:  # a dependency set of the model's own brings its libraries, and this may not be one
        message = "pictures cannot be opened: Pillow is not among this version's own libraries."
        raise _Unfit(message, "Add pillow to its requirements.txt, or send nested lists.") from error

    height, width, channels = _size_of(wanted)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image: Any = _looked_at(raw, Image)
            pixels = image.width * image.height
            _fits(image, (width, height), resize=bool(wanted.get("resize")))
            if pixels > min(MAX_PIXELS, left):
                raise _Unfit(
                    f"{image.width} x {image.height} pixels are more than one request may hold.",
                    "Send smaller pictures.",
                )
            image.load()
            image = _in_mode(image, _MODES[channels], Image)
            if wanted.get("resize") and width > 0 and height > 0 and image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
    except (_Unfit, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  a broken picture makes Pillow raise OSError, SyntaxError, ValueError, struct.error, ...
        what = "is no PNG or JPEG picture" if type(error).__name__ == "UnidentifiedImageError" else "is broken"
        raise _Unfit(f"the picture {what}{_why(error)}.", _HINT) from error
    return _array(np.asarray(image), wanted), pixels


def _looked_at(raw: bytes, library: Any) -> Any:
    """The picture's head. Pillow's own limit would not say the size that it refuses; ours comes right after."""
    kept, library.MAX_IMAGE_PIXELS = library.MAX_IMAGE_PIXELS, None
    try:
        return library.open(io.BytesIO(raw), formats=FORMATS)
    finally:
        library.MAX_IMAGE_PIXELS = kept


def _why(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f" ({text[:120]})" if text and "BytesIO" not in text else ""


def _size_of(wanted: dict[str, Any]) -> tuple[int, int, int]:
    """(height, width, channels), -1 where any will do."""
    _, first, second, third = wanted["shape"]
    return (second, third, first) if wanted["layout"] == "NCHW" else (first, second, third)


def _fits(image: Any, size: tuple[int, int], *, resize: bool) -> None:
    if resize or all(want in (-1, got) for want, got in zip(size, image.size, strict=True)):
        return
    wide, high = ("any" if want == -1 else str(want) for want in size)
    raise _Unfit(
        f"the picture is {image.width} x {image.height} pixels (width x height), the model takes {wide} x {high}.",
        'Resize it, or push the model with "resize": true in its schema.',
    )


def _in_mode(image: Any, mode: str, library: Any) -> Any:
    if image.mode.startswith("I"):  # 16 bits of grey: Pillow would cut them off, not scale them
        image = library.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
    return image if image.mode == mode else image.convert(mode)


def _array(pixels: np.ndarray, wanted: dict[str, Any]) -> np.ndarray:
    """[height, width(, channels)] of 8 bits as one row of the tensor."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if wanted["layout"] == "NCHW":
        pixels = pixels.transpose(2, 0, 1)
    dtype = np.dtype(wanted["dtype"])
    if wanted["scale"] == "0..1":
        return np.ascontiguousarray(pixels.astype(np.float32) / np.float32(255.0), dtype=dtype)
    return np.ascontiguousarray(pixels, dtype=dtype)
