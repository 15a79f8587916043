"""tus 1.0 (https://tus.io/protocols/resumable-upload): headers in, headers out. What happens is ``services.uploads``.

Extensions: creation, creation-with-upload, checksum, expiration, termination. Both doors, the API and the pages, answer with these.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from contextlib import suppress
from http.client import IncompleteRead
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.utils.http import http_date

from accounts import access
from accounts.caller import Caller
from mlops.core import errors
from mlops.core.storage import CHUNK_BYTES
from registry.models import Upload
from registry.services import uploads
from registry.services.uploads import Checksum

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
ALGORITHMS = {"sha256": 32, "sha1": 20}  # the protocol asks for sha1 at least
CONTENT_TYPE = "application/offset+octet-stream"
SWALLOWED_BYTES = 32 << 20
_METADATA_CHARS = 4096
_LARGEST = 1 << 62


def options() -> HttpResponse:
    """What this server can do; asked by clients before they begin."""
    return answer(
        204,
        {
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(settings.UPLOAD_LIMIT_BYTES),
            "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
        },
    )


def answer(status: int, headers: dict[str, str]) -> HttpResponse:
    response = HttpResponse(status=status, headers={"Cache-Control": "no-store", **headers})
    if status == 204:
        del response["Content-Type"]
    return response


def mark(response: Any) -> Any:
    """Every answer names the protocol, refusals too."""
    response["Tus-Resumable"] = VERSION
    return response


def find(caller: Caller, org: str, upload_id: Any) -> Upload:
    """Raises NotFound, Forbidden."""
    rows = Upload.objects.select_related("organization")
    return access.get(caller, rows, "model.write", organization__slug=org, pk=upload_id)


def create(request: HttpRequest, caller: Caller, org: str, address: Callable[[Upload], str]) -> HttpResponse:
    """POST: begin an upload; with a body, its first bytes come along. ``address``: where it is."""
    organization = access.organization(caller, org, "model.write")
    _require_version(request)
    length = _number(request, "Upload-Length")
    metadata = _metadata(request.headers.get("Upload-Metadata", ""))
    purpose = metadata.get("purpose", "file")
    upload = uploads.begin(
        organization,
        caller,
        purpose="file" if purpose == "model" else purpose,
        filename=metadata.get("filename", ""),
        length=length,
    )
    if request.content_type == CONTENT_TYPE:
        try:
            _append(request, upload, 0)
        except errors.SlipwayError:
            with suppress(errors.SlipwayError):
                uploads.discard(upload)  # nobody was told where it is: it would only take room until it expires
            raise
    return answer(201, {"Location": address(upload), **_headers(upload)})


def head(upload: Upload, request: HttpRequest) -> HttpResponse:
    """HEAD: how far it got."""
    _require_version(request)
    uploads.require_open(upload)
    return answer(200, {**_headers(upload), "Upload-Length": str(upload.length)})


def patch(upload: Upload, request: HttpRequest) -> HttpResponse:
    """PATCH: the next bytes."""
    _require_version(request)
    if request.content_type != CONTENT_TYPE:
        raise errors.UnsupportedMediaType(
            f"Bytes of an upload are {CONTENT_TYPE}, not {request.content_type or 'without Content-Type'}.",
            hint=f"Send Content-Type: {CONTENT_TYPE}",
        )
    _append(request, upload, _number(request, "Upload-Offset"))
    return answer(204, _headers(upload))


def delete(upload: Upload, request: HttpRequest) -> HttpResponse:
    """DELETE: nothing of it stays."""
    _require_version(request)
    uploads.discard(upload)
    return answer(204, {})


def method_of(request: HttpRequest) -> str:
    """For clients behind something that lets only GET and POST through."""
    return request.headers.get("X-HTTP-Method-Override", request.method or "").upper()


def as_json(upload: Upload) -> JsonResponse:
    """GET, which is ours: for people and scripts that look."""
    uploads.require_open(upload)
    return JsonResponse(shown(upload), headers={"Cache-Control": "no-store"})


def shown(upload: Upload) -> dict[str, Any]:
    return {
        "id": str(upload.pk),
        "filename": upload.filename,
        "purpose": upload.purpose,
        "length": upload.length,
        "offset": upload.offset,
        "whole": upload.whole,
        "sha256": upload.sha256,
        "created_at": upload.created_at.isoformat(),
        "expires_at": upload.expires_at.isoformat(),
    }


def _headers(upload: Upload) -> dict[str, str]:
    return {"Upload-Offset": str(upload.offset), "Upload-Expires": http_date(upload.expires_at.timestamp())}


def _append(request: HttpRequest, upload: Upload, offset: int) -> None:
    checksum = _checksum(request.headers.get("Upload-Checksum", ""))
    length = request.headers.get("Content-Length", "")
    chunked = request.headers.get("Transfer-Encoding", "").lower() == "chunked"
    size = None if chunked else int(length or 0)
    source = _source(request, chunked)
    try:
        whole = uploads.append(upload, source, offset=offset, size=size, checksum=checksum)
    except errors.SlipwayError:
        _swallow(source)
        raise
    if not whole:
        kept = f"{upload.offset:,} of {upload.length:,} bytes are here."
        raise errors.BadRequest(
            f"The connection broke. {kept}",
            code="upload_incomplete",
            hint="Ask with HEAD how far it got, and go on from there.",
        )


def _swallow(source: uploads.Source) -> None:
    """The rest of a refused piece, unless it is huge: who is still sending when the connection closes does not get to read why."""
    left = SWALLOWED_BYTES
    while left > 0 and (chunk := source(CHUNK_BYTES)):
        left -= len(chunk)


def _source(request: HttpRequest, chunked: bool) -> uploads.Source:
    """The body as it comes: neither parsed nor held. A broken connection reads as its end."""
    # Django reads as far as Content-Length says; a chunked body has none, and our server ends it (wsgi.input_terminated).
    body = request.environ["wsgi.input"] if chunked else request

    def read(count: int) -> bytes:
        try:
            return body.read(count)
        except (UnreadablePostError, OSError, IncompleteRead):
            return b""

    return read


def _require_version(request: HttpRequest) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise errors.SlipwayError(
            f"This address speaks tus {VERSION}.",
            code="tus_version",
            status=412,
            hint=f"Send Tus-Resumable: {VERSION}",
            headers={"Tus-Version": VERSION},
        )


def _number(request: HttpRequest, name: str) -> int:
    given = request.headers.get(name, "")
    if not (given.isascii() and given.isdigit()) or int(given[:20]) > _LARGEST:
        raise errors.BadRequest(
            f"{name} is {given[:40]!r}." if given else f"{name} is missing.",
            code="bad_header",
            hint=f"Send {name} as a number of bytes. A length that comes later (Upload-Defer-Length) is not supported.",
        )
    return int(given)


def _metadata(header: str) -> dict[str, str]:
    """``filename bW9kZWwucGts,purpose ZmlsZQ==`` -> a dictionary. Raises BadRequest."""
    found: dict[str, str] = {}
    try:
        if len(header) > _METADATA_CHARS:
            raise ValueError
        for pair in filter(None, header.split(",")):
            name, _, value = pair.strip().partition(" ")
            found[name] = base64.b64decode(value, validate=True).decode()
    except ValueError as error:  # not base64, not UTF-8, or too long
        raise errors.BadRequest(
            "Upload-Metadata cannot be read.",
            code="bad_header",
            hint="Send pairs of a name and its value in base64: filename bW9kZWwucGts,purpose ZmlsZQ==",
        ) from error
    return found


def _checksum(header: str) -> Checksum | None:
    if not header:
        return None
    algorithm, _, value = header.partition(" ")
    try:
        digest = base64.b64decode(value, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != ALGORITHMS.get(algorithm):
        raise errors.BadRequest(
            "Upload-Checksum cannot be used.",
            code="bad_checksum",
            hint=f"Send one of {', '.join(ALGORITHMS)} and the base64 of its digest.",
        )
    return Checksum(algorithm, digest)
