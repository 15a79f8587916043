"""Receiving files: each part of a multipart request goes straight to disk, counted, hashed and limited on the way.

Nothing is ever held in memory, and nothing is left behind: leaving ``received`` removes every file that was not kept.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, SkipFile
from django.http import HttpRequest, UnreadablePostError
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.utils.datastructures import ImmutableList

from mlops.core import errors
from mlops.core.storage import CHUNK_BYTES, Spool, too_large
from mlops.runtime.formats import FORMATS

MODEL_ENDINGS = (
    *(ending for known in FORMATS.values() if known.name != "table" for ending in known.extensions),
    ".safetensors",  # refused alone, with words about what is missing
)
SAMPLE_ENDINGS = (".json", ".jsonl", ".ndjson", ".csv", ".parquet")
REFERENCE_ENDINGS = (".csv", ".parquet", ".json", ".jsonl", ".ndjson")
_FIELDS_BYTES = 6 << 20  # form fields and multipart headers beside the files
_NAME_CHARS = 100
_ODD = re.compile(r"[^A-Za-z0-9._+-]+")


@dataclass(frozen=True)
class Part:
    """A file field: what people call it, which endings it may have."""

    title: str
    endings: tuple[str, ...]
    hint: str
    limit: str = "DATASET_LIMIT_BYTES"  # the setting that says how large it may be

    @property
    def limit_bytes(self) -> int:
        return getattr(settings, self.limit)


PARTS: dict[str, Part] = {
    "file": Part("The model file", MODEL_ENDINGS, f"Send one of {' '.join(MODEL_ENDINGS)}.", "UPLOAD_LIMIT_BYTES"),
    "sample": Part("The sample", SAMPLE_ENDINGS, "Send rows as JSON or CSV."),
    "reference": Part("The reference", REFERENCE_ENDINGS, "Send rows as CSV or Parquet."),
}
# Of a push that is a folder: any file of any name, at its relative path; see registry.packing.
FOLDER = "files"
PUSH_PARTS = {
    **PARTS,
    FOLDER: Part("A file of the folder", ("",), "Send it with its relative name.", "UPLOAD_LIMIT_BYTES"),
}


def safe_name(given: str) -> str:
    """A plain file name of at most 100 characters that keeps its ending; paths, dots in front and odd letters are reduced."""
    name = PurePosixPath(given.replace("\\", "/")).name
    ending = _ODD.sub("", PurePosixPath(name).suffix)[:20]
    stem = _ODD.sub("_", name[: -len(ending)] if ending else name).strip("._-") or "file"
    return stem[: _NAME_CHARS - len(ending)] + ending


class SpooledFile(UploadedFile):
    """A part that lies on disk, hashed. ``name`` is safe; the content is not opened here."""

    def __init__(self, name: str, spool: Spool, content_type: str | None, given_name: str = "") -> None:
        super().__init__(file=None, name=name, content_type=content_type, size=spool.size_bytes)
        self.spool = spool
        self.given_name = given_name  # as it was sent, with its folders: for ``registry.packing`` to judge

    def close(self) -> None:
        self.spool.discard()

    # as a file of a push (registry.services.push)
    reserved_bytes = 0
    home = ""

    @property
    def size_bytes(self) -> int:
        return self.spool.size_bytes

    @property
    def sha256(self) -> str:
        return self.spool.sha256

    def head(self, count: int) -> bytes:
        with self.spool.path.open("rb") as content:
            return content.read(count)

    def put(self, key: str) -> None:
        self.spool.put(key)

    def take(self) -> None:
        """It is nobody else's anyway."""


class SpoolingHandler(FileUploadHandler):
    """Django's upload handler. ``eager``: a wrong name ends the upload at once; else it is noted and that file skipped."""

    chunk_size = CHUNK_BYTES

    def __init__(self, request: HttpRequest, parts: dict[str, Part], *, eager: bool) -> None:
        super().__init__(request)
        self.parts, self.eager = parts, eager
        self.spools: list[Spool] = []
        self.refused: dict[str, errors.SlipwayError] = {}
        self.unfinished = False  # a file began and its end was never seen

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        super().new_file(field_name, file_name, *args, **kwargs)
        try:
            part = part_of(self.parts, field_name, file_name)
        except errors.SlipwayError as error:
            if self.eager:
                raise
            self.refused[field_name] = error
            raise SkipFile from error
        self.spool = Spool(limit_bytes=part.limit_bytes, what=part.title)
        self.spools.append(self.spool)
        self.unfinished = True

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.spool.write(raw_data)

    def file_complete(self, file_size: int) -> SpooledFile:
        self.spool.finish()
        self.unfinished = False
        return SpooledFile(safe_name(self.file_name), self.spool, self.content_type, self.file_name)

    def discard(self) -> None:
        for spool in self.spools:
            spool.discard()


def part_of(parts: dict[str, Part], field_name: str, file_name: str) -> Part:
    part = parts.get(field_name)
    if part is None:
        raise errors.BadRequest(
            f"There is no file field {field_name[:60]!r}.",
            code="unknown_field",
            hint=f"The file fields are {', '.join(parts)}.",
        )
    ending = PurePosixPath(file_name.lower()).suffix
    if not file_name.lower().endswith(part.endings):
        shown = f"ends in {ending[:20]!r}" if ending else "has no ending"
        raise errors.Invalid(
            f"{part.title} {shown}, which is not a format Slipway reads.",
            code="unknown_format",
            hint=part.hint,
            fields={field_name: [f"The name {shown}. {part.hint}"]},
        )
    return part


@contextmanager
def received(
    request: HttpRequest,
    parts: dict[str, Part] = PUSH_PARTS,
    *,
    eager: bool = True,
    admit: Callable[[int], None] = lambda size_bytes: None,
) -> Iterator[SpoolingHandler]:
    """Read a multipart request: ``request.POST`` and ``request.FILES`` are filled inside the block.

    ``admit`` is asked before a byte is read whether files of that size may come; it raises what speaks against it.
    Raises UnsupportedMediaType, TooLarge (by Content-Length before a byte is read, else while reading), BadRequest, StorageFull.
    """
    _check_headers(request, parts, admit)
    handler = SpoolingHandler(request, parts, eager=eager)
    request.upload_handlers = [handler]
    try:
        _parse(request)
        if handler.unfinished:  # a server may hand on the part of a body that came as if it were the whole
            raise _broke_off()
        yield handler
    finally:
        handler.discard()


def _check_headers(request: HttpRequest, parts: dict[str, Part], admit: Callable[[int], None]) -> None:
    if request.content_type != "multipart/form-data":
        raise errors.UnsupportedMediaType(
            f"A push is multipart/form-data, not {request.content_type or 'a body without Content-Type'}.",
            hint="Send the model as a form file: curl -F file=@model.joblib URL",
        )
    if request.headers.get("Transfer-Encoding", "").lower() == "chunked":
        raise errors.SlipwayError(
            "The request does not say how long it is.",
            code="length_required",
            status=411,
            hint="Send Content-Length: most clients do when given a file.",
        )
    limits = [part.limit_bytes for part in parts.values()]
    length = request.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > sum(limits) + _FIELDS_BYTES:
        raise too_large("The upload", max(limits))
    if length.isdigit():
        admit(max(0, int(length) - _FIELDS_BYTES))


class _NamesWithFolders(MultiPartParser):
    """Django's parser, which takes the folders off a file's name; ``safe_name`` does so for all that are no part of a folder."""

    def sanitize_file_name(self, file_name: str) -> str | None:
        return html.unescape(file_name).strip() if super().sanitize_file_name(file_name) else None


def _parse(request: HttpRequest) -> None:
    def parse(meta: Any, data: Any) -> Any:
        request.upload_handlers = ImmutableList(request.upload_handlers)
        return _NamesWithFolders(meta, data, request.upload_handlers, request.encoding).parse()

    request.parse_file_upload = parse  # type: ignore[method-assign]
    try:
        request.POST  # noqa: B018  reading it parses the body
    except Exception as error:
        # Else a later look at request.POST (a template, a log) would go on reading the broken body.
        request._mark_post_parse_error()
        named = _named(error)
        if named is None:
            raise
        raise named from error


def _named(error: Exception) -> errors.SlipwayError | None:
    match error:
        case MultiPartParserError():
            return errors.BadRequest(
                "The multipart body is broken.",
                code="malformed_multipart",
                hint="Let your HTTP library build the form.",
            )
        case UnreadablePostError():
            return _broke_off()
        case RequestDataTooBig():
            return errors.TooLarge(
                "The form's text fields are larger than 5 MB.", hint="Send data as files: sample and reference."
            )
        case SuspiciousOperation():
            return errors.BadRequest(
                "The form has too many fields or files.",
                code="too_many_fields",
                hint=f"The file fields are {', '.join(PARTS)}.",
            )
    return None


def _broke_off() -> errors.SlipwayError:
    return errors.BadRequest(
        "The upload broke off before its end.", code="upload_incomplete", hint="Nothing was kept. Send it again."
    )


def file_of(request: HttpRequest, field: str, parts: dict[str, Part] = PARTS) -> SpooledFile | None:
    """The file of a field, or None. Raises Invalid when it is empty or the field came twice."""
    found = request.FILES.getlist(field)
    if not found:
        return None
    if len(found) > 1:
        raise errors.Invalid(
            f"{parts[field].title} came {len(found)} times.", code="duplicate_field", fields={field: ["Send one file."]}
        )
    if found[0].size == 0:
        raise errors.Invalid(
            f"{parts[field].title} is empty (0 bytes).",
            code="empty_file",
            hint="Save it again and push the whole file.",
            fields={field: ["The file is empty (0 bytes). Save it again and push the whole file."]},
        )
    return found[0]


def folder_of(request: HttpRequest) -> list[tuple[str, int, Iterator[bytes]]]:
    """The files of a folder that was sent as one, by name, as ``push_tree`` takes them; none when there was no folder."""
    files = sorted(request.FILES.getlist(FOLDER), key=lambda file: file.given_name)
    return [(file.given_name.removeprefix("./"), file.size, _content(file.spool)) for file in files]


def _content(spool: Spool) -> Iterator[bytes]:
    with spool.path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
