"""A file of rows from a client: its format by content type or file name, streamed to disk, counted and hashed. It is not opened here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from django.conf import settings
from django.http import HttpRequest

from mlops.core import errors
from mlops.core.storage import CHUNK_BYTES, Spool
from registry import uploads

FORMATS = ("json", "jsonl", "csv", "parquet")
_TYPES = {
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/ndjson": "jsonl",
    "application/jsonl": "jsonl",
    "application/jsonlines": "jsonl",
    "application/x-jsonlines": "jsonl",
    "text/csv": "csv",
    "application/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
    "application/parquet": "parquet",
    "application/x-parquet": "parquet",
}
CONTENT_TYPES = {
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}
_ENDINGS = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_HINT = "Send JSON, JSON lines, CSV or Parquet with its Content-Type, or a form file: curl -F file=@rows.csv URL"
PARTS = {
    "file": uploads.Part(
        "The file", tuple(_ENDINGS), f"Send a file that ends in {' '.join(_ENDINGS)}.", "BATCH_LIMIT_BYTES"
    )
}


@dataclass(frozen=True)
class Sent:
    """A whole file on this machine's disk; gone when its block ends unless it was kept."""

    filename: str
    format: str
    spool: Spool

    def read(self) -> bytes:
        return self.spool.path.read_bytes()


@contextmanager
def received(request: HttpRequest, limit_bytes: int = 0) -> Iterator[Sent]:
    """The body of an API call, of at most ``limit_bytes`` (0: a batch's). Raises UnsupportedMediaType, TooLarge, BadRequest, Invalid, StorageFull."""
    kind = (request.content_type or "").lower()
    if kind == "multipart/form-data":
        with uploads.received(request, PARTS):
            yield of_form(request)
        return
    if kind not in _TYPES:
        raise errors.UnsupportedMediaType(f"A batch is no {kind or 'body without a Content-Type'}.", hint=_HINT)
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise errors.UnsupportedMediaType(
            f"A batch is a plain body, not one with Content-Encoding: {encoding[:40]}.",
            hint="Send it uncompressed; Parquet is compressed inside.",
        )
    spool = Spool(limit_bytes=limit_bytes or settings.BATCH_LIMIT_BYTES, what="The file")
    try:
        _copy(request, spool)
        yield Sent(f"batch.{_TYPES[kind]}", _TYPES[kind], spool)
    finally:
        spool.discard()


def of_form(request: HttpRequest) -> Sent:
    """The file of a form that was read in ``uploads.received(request, PARTS)``."""
    file = uploads.file_of(request, "file", PARTS)
    if file is None:
        raise errors.Invalid(
            "There is no file.", code="file_missing", hint=_HINT, fields={"file": ["Choose a file of rows."]}
        )
    return Sent(file.name, _ENDINGS[PurePosixPath(file.name.lower()).suffix], file.spool)


def _copy(request: HttpRequest, spool: Spool) -> None:
    length = request.META.get("CONTENT_LENGTH") or ""
    if length.isdigit() and int(length) > spool.limit_bytes:
        spool.size_bytes = int(length)
        spool.write(b"")  # says how large it may be, before a byte is read
    chunked = "chunked" in request.headers.get("Transfer-Encoding", "").lower()
    source: IO[bytes] | Any = request.META.get("wsgi.input") if chunked and "wsgi.input" in request.META else request
    try:
        while chunk := source.read(CHUNK_BYTES):
            spool.write(chunk)
    except OSError as error:  # the client went away; trouble of our own disk has its own name by here
        raise _broke_off() from error
    if spool.size_bytes == 0:
        raise errors.BadRequest("The body is empty.", code="empty_file", hint=_HINT)
    if length.isdigit() and not chunked and spool.size_bytes != int(length):
        raise _broke_off()  # a server may hand on the part of a body that came as if it were the whole
    spool.finish()


def _broke_off() -> errors.BadRequest:
    return errors.BadRequest(
        "The upload broke off before its end.", code="upload_incomplete", hint="Nothing was kept. Send it again."
    )


def output_format(request: HttpRequest, sent: str) -> str:
    """``?format=``, else the first format of ``Accept`` that we write, else the one that was sent. Raises BadRequest."""
    asked = request.GET.get("format", "")
    if asked:
        if asked not in FORMATS:
            raise errors.BadRequest(
                f"There is no output format {asked[:40]!r}.",
                code="unknown_format",
                hint=f"Choose {', '.join(FORMATS)}.",
            )
        return asked
    for entry in request.headers.get("Accept", "").lower().split(","):
        kind = entry.partition(";")[0].strip()
        if kind in _TYPES:
            return _TYPES[kind]
    return sent
