"""Stored files as streamed answers, with their hash, under a name that cannot break out of its header."""

from __future__ import annotations

import base64

import orjson
from django.http import HttpResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header

from mlops.core import errors, storage
from registry.models import Dataset, ModelVersion


def stream(item: ModelVersion | Dataset) -> StreamingHttpResponse:
    """The item's file, never held in memory. ``X-Content-SHA256`` (hex) and ``Repr-Digest`` carry its hash. Raises NotFound."""
    response = StreamingHttpResponse(storage.open_stream(item.file_key), content_type="application/octet-stream")
    response["Content-Length"] = str(item.size_bytes)
    response["Content-Disposition"] = content_disposition_header(True, item.filename)
    response["X-Content-SHA256"] = item.sha256
    response["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(item.sha256)).decode()}:"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-transform"
    return response


def attestation(version: ModelVersion) -> HttpResponse:
    """The version's signature as a file: the DSSE envelope as it stands in the row. Raises NotFound when it has none."""
    if not isinstance(version.signature, dict):
        raise errors.NotFound(f"{version} is not signed.", hint="A version is signed when its validation has passed.")
    response = HttpResponse(orjson.dumps(version.signature), content_type="application/json")
    name = f"{version.model.slug}-v{version.number}.dsse.json"
    response["Content-Disposition"] = content_disposition_header(True, name)
    response["Cache-Control"] = "private, no-transform"
    return response
