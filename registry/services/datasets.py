"""The rows that came with a version, as canonical columns."""

from __future__ import annotations

import gzip
import io
from typing import Any

import orjson

from mlops.core import storage
from registry.models import Dataset

MAX_COLUMNS_BYTES = 1 << 30


def write_columns(dataset: Dataset, content: dict[str, Any]) -> str:
    """Store ``{"columns": {name: values}, "predictions": [...], "probabilities": [[...]]|None, "classes": [...]|None, "types": {...}}``."""
    packed = io.BytesIO(gzip.compress(orjson.dumps(content), compresslevel=5, mtime=0))
    stored = storage.store(
        packed,
        folder=f"organizations/{dataset.organization_id}/columns",
        filename="columns.json.gz",
        limit_bytes=MAX_COLUMNS_BYTES,
        what="The profile",
    )
    return stored.key


def read_columns(dataset: Dataset) -> dict[str, Any] | None:
    """What ``write_columns`` stored; None before the validation has profiled it."""
    if not dataset.columns_key:
        return None
    return orjson.loads(gzip.decompress(b"".join(storage.open_stream(dataset.columns_key))))
