"""Rows that came inside a folder: kept as the version's sample, unless one was pushed beside it."""

from __future__ import annotations

import io
from pathlib import Path

from django.conf import settings

from mlops.core import errors
from mlops.runtime import inspect
from mlops.runtime.bundle import Found
from registry.checking import Said, Validation, refuse
from registry.models import Dataset
from registry.services import blobs
from registry.uploads import safe_name


def keep(validation: Validation, root: Path, found: Found) -> list[Said]:
    """Make the folder's test data the sample. Raises Invalid when it is no table and no JSON."""
    if found.test_data is None or has_one(validation):
        return []
    path = root / found.test_data
    store(
        validation,
        path.read_bytes() if path.stat().st_size <= settings.DATASET_LIMIT_BYTES else _too_large(found.test_data),
        found.test_data,
    )
    return [Said(f"{found.test_data} is its sample.")]


def has_one(validation: Validation) -> bool:
    """Whether a sample was pushed, or found before."""
    return validation.version.datasets.filter(kind=Dataset.Kind.SAMPLE).exists()


def _too_large(name: str) -> bytes:
    refuse("too_large", f"{name} is too large for a sample.", "A few rows are enough.")


def store(validation: Validation, content: bytes, name: str) -> Dataset:
    """The content as the version's sample. Raises Invalid, StorageFull."""
    version = validation.version
    try:
        table_format = inspect.detect_table(name, content[: inspect.HEAD_BYTES])
    except inspect.FormatError as error:
        raise errors.Invalid(f"{name}: {error.message}", code=error.code, hint=error.hint) from error
    stored = blobs.store(
        version.organization_id, io.BytesIO(content), limit_bytes=settings.DATASET_LIMIT_BYTES, what=name
    )
    return Dataset.objects.create(
        organization=version.organization,
        version=version,
        kind=Dataset.Kind.SAMPLE,
        format=table_format,
        file_key=stored.key,
        filename=safe_name(name),
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
    )
