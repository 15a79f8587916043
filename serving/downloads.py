"""Several stored files as one streamed answer: never held in memory, whichever interface the web process serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django.utils.http import content_disposition_header

from mlops.core import storage


def stream(
    request: HttpRequest, keys: list[str], *, size_bytes: int, filename: str, content_type: str
) -> StreamingHttpResponse:
    """The files one after the other. Raises NotFound when the first is gone."""
    chunks = _chunks(keys)
    first = next(chunks, b"")  # what is missing is said before the answer begins
    whole = _with_first(first, chunks)
    # Django would read a plain iterator to its end before the first byte leaves an asynchronous server.
    response = StreamingHttpResponse(
        _asynchronous(whole) if isinstance(request, ASGIRequest) else whole, content_type=content_type
    )
    response["Content-Length"] = str(size_bytes)
    response["Content-Disposition"] = content_disposition_header(True, filename)
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-transform"
    return response


def _chunks(keys: list[str]) -> Iterator[bytes]:
    for key in keys:
        yield from storage.open_stream(key)


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


async def _asynchronous(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(next, thread_sensitive=False)
    while chunk := await following(chunks, b""):
        yield chunk
