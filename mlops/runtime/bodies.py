"""A request's JSON as people's tools write it: strict first, and Python's own NaN understood as a missing value.

`json.dumps`, pandas and numpy users send NaN for a missing value. JSON has no such word, but a refusal that names no
column helps nobody: the row check says whether that column may be missing. Infinity stays an error.

Depth and number of rows are bounded before the parser makes objects of the bytes: 5 MB of "[" are 40 times as much in memory.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from mlops.runtime.refusals import Refusal

MAX_DEPTH = 64
_HINT = "JSON has no Infinity: send a number."
_STRINGS = re.compile(rb'"[^"]*"')
# Both kinds of brackets as one kind: which closes which is the parser's to judge.
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_OTHERS = bytes(each for each in range(256) if each not in b'[]{}"')
_TOO_DEEP = b"[" * (MAX_DEPTH + 1)
_ELSEWHERE = 100  # lists and objects beside the rows
_SMALL = 256 * 1024  # bytes: however deep, what becomes of them is no danger


class Unfit(Refusal, ValueError):
    """JSON that is too deep, or has too many rows."""


def parse(body: bytes, max_rows: int = 0) -> Any:
    """Raises ValueError with the place of the mistake (RecursionError is turned into one too), Unfit before there is anything to parse.

    ``max_rows`` bounds the rows of {"...": [row, row ...]} roughly, for the parser's sake; who checks the rows counts them. 0: no bound.
    """
    bound(body, max_rows)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in body:
            raise
        try:
            return json.loads(body.decode(), parse_constant=_constant)
        except (ValueError, RecursionError) as second:
            raise ValueError(str(second) if "Infinity" in str(second) else str(error)) from second


def small(body: bytes) -> Any:
    """A small body parsed before its depth is known; None for a large one, and for what is not JSON.

    For who sees from the parsed rows that they are flat; who cannot must call ``bound`` before he goes on.
    """
    if len(body) > _SMALL:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _constant(name: str) -> None:
    if name != "NaN":
        raise ValueError(f"{name} is not a value. {_HINT}")


def bound(body: bytes, max_rows: int) -> None:
    """Raises Unfit. Exact for JSON: what is none, the parser refuses.

    Mostly there are too few brackets to be nested so deep. Of the bytes outside strings only the brackets are kept; each round takes the innermost pairs away, one level.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    left = _skeleton(body)
    if len(left) <= MAX_DEPTH:
        return
    for _ in range(MAX_DEPTH):
        if _TOO_DEEP in left:
            break
        outer = left.replace(b"[]", b"")
        pairs = (len(left) - len(outer)) // 2
        if outer == b"[[]]" and 0 < max_rows < pairs - _ELSEWHERE:
            raise Unfit(
                413,
                "too_many_rows",
                f"There are more than the {max_rows:,} rows one request may hold.",
                "Split the request, or use the batch endpoint.",
            )
        if not outer or not pairs:
            return
        left = outer
    if b"[]" in left or _TOO_DEEP in left:
        raise Unfit(
            400, "json_too_deep", f"The JSON is nested more than {MAX_DEPTH} levels deep.", "Send rows of plain values."
        )


def _skeleton(body: bytes) -> bytes:
    if b"\\" in body:  # an escaped quote ends no string
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = body.translate(_BRACKETS, _OTHERS).replace(b'""', b"")
    return _STRINGS.sub(b"", brackets) if b'"' in brackets else brackets
