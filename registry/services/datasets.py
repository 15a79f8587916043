"""The rows that came with a version, as canonical columns."""

from __future__ import annotations

import gzip
import io
from typing import Any

import orjson

from mlops.core import storage
from registry.models import Dataset
from registry.services import blobs

MAX_COLUMNS_BYTES = 1 << 30


def write_columns(dataset: Dataset, content: dict[str, Any]) -> str:
    """Store ``{"columns": {name: values}, "predictions": [...], "probabilities": [[...]]|None, "classes": [...]|None, "types": {...},
    "target": {"name", "values"}|None}``; the target is what really happened, where the reference says it."""
    packed = io.BytesIO(gzip.compress(orjson.dumps(content), compresslevel=5, mtime=0))
    return blobs.store(dataset.organization_id, packed, limit_bytes=MAX_COLUMNS_BYTES, what="The profile").key


def read_columns(dataset: Dataset) -> dict[str, Any] | None:
    """What ``write_columns`` stored; None before the validation has profiled it."""
    if not dataset.columns_key:
        return None
    return orjson.loads(gzip.decompress(b"".join(storage.open_stream(dataset.columns_key))))
