"""Stored files, and lines as they are made, as one streamed answer: never held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice

from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header

from mlops.core import storage


def stream(keys: list[str], *, size_bytes: int, filename: str, content_type: str) -> StreamingHttpResponse:
    """The files one after the other. Raises NotFound when the first is gone."""
    chunks = _chunks(keys)
    first = next(chunks, b"")  # what is missing is said before the answer begins
    response = _download(chain((first,), chunks), filename, content_type)
    response["Content-Length"] = str(size_bytes)
    return response


class Echo:
    """What a ``csv.writer`` writes to, so that ``writerow`` answers the line itself."""

    def write(self, text: str) -> str:
        return text


def text(lines: Iterator[str], *, filename: str, content_type: str) -> StreamingHttpResponse:
    """Lines as they are made, some at a time: a line alone is too small to be sent."""
    return _download(_gathered(lines), filename, f"{content_type}; charset=utf-8")


def _gathered(lines: Iterator[str]) -> Iterator[bytes]:
    while some := "".join(islice(lines, 500)):
        yield some.encode("utf-8", "replace")


def _download(content: Iterator[bytes], filename: str, content_type: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(content, content_type=content_type)
    response["Content-Disposition"] = content_disposition_header(True, filename)
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-transform"
    return response


def _chunks(keys: list[str]) -> Iterator[bytes]:
    for key in keys:
        yield from storage.open_stream(key)
