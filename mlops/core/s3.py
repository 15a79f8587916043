"""The calls to an S3 server that django-storages has no words for: multipart uploads in our own hands, copies made there, ages."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.files.storage import default_storage

MISSING = frozenset(("404", "NoSuchKey", "NoSuchUpload", "NotFound"))


def _client() -> Any:
    return default_storage.connection.meta.client


def _here(key: str) -> dict[str, str]:
    return {"Bucket": default_storage.bucket_name, "Key": key}


def _is_missing(error: Exception) -> bool:
    response = getattr(error, "response", None)
    return isinstance(response, dict) and response.get("Error", {}).get("Code") in MISSING


def upload(path: Path, key: str) -> None:
    """A file of this machine under exactly this key; large ones in parts of 16 MiB, two at a time."""
    from boto3.s3.transfer import TransferConfig

    config = TransferConfig(multipart_threshold=16 << 20, multipart_chunksize=16 << 20, max_concurrency=2)
    _client().upload_file(str(path), *_here(key).values(), Config=config)


def copy(source: str, target: str) -> None:
    """Made by the server: nothing passes through here. Above 5 GB it needs parts, which boto3 sees to."""
    _client().copy(_here(source), *_here(target).values())


def put(key: str, content: bytes) -> None:
    _client().put_object(**_here(key), Body=content)


def read(key: str, count: int) -> bytes:
    """The first ``count`` bytes. A server that knows no ranges sends more; no more is read."""
    answer = _client().get_object(**_here(key), Range=f"bytes=0-{count - 1}")
    with answer["Body"] as body:
        return body.read(count)


def size_of(key: str) -> int | None:
    """Bytes of an object; None when there is none."""
    try:
        return _client().head_object(**_here(key))["ContentLength"]
    except Exception as error:
        if _is_missing(error):
            return None
        raise


def begin_multipart(key: str) -> str:
    return _client().create_multipart_upload(**_here(key))["UploadId"]


def send_part(key: str, multipart: str, number: int, content: bytes) -> str:
    """The part's ETag. A part sent again under its number replaces the first."""
    return _client().upload_part(**_here(key), UploadId=multipart, PartNumber=number, Body=content)["ETag"]


def end_multipart(key: str, multipart: str, etags: list[str]) -> bool:
    """The parts become one object. False: there is no such multipart upload (any more)."""
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
    try:
        _client().complete_multipart_upload(**_here(key), UploadId=multipart, MultipartUpload={"Parts": parts})
    except Exception as error:
        if _is_missing(error):
            return False
        raise
    return True


def drop_multipart(key: str, multipart: str) -> None:
    """Absent is fine."""
    try:
        _client().abort_multipart_upload(**_here(key), UploadId=multipart)
    except Exception as error:
        if not _is_missing(error):
            raise


def multiparts(prefix: str) -> Iterator[tuple[str, str, datetime]]:
    """Key, id and begin of every multipart upload that was neither ended nor dropped."""
    pages = _client().get_paginator("list_multipart_uploads")
    for page in pages.paginate(Bucket=default_storage.bucket_name, Prefix=prefix):
        for found in page.get("Uploads", []):
            yield found["Key"], found["UploadId"], found["Initiated"]


def objects(prefix: str) -> Iterator[tuple[str, datetime]]:
    """Key and time of every object below a prefix."""
    pages = _client().get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=default_storage.bucket_name, Prefix=prefix):
        for found in page.get("Contents", []):
            yield found["Key"], found["LastModified"]
