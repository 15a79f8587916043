"""The sample model that ships with the product (``examples/``), pushed the way a person's own model is."""

from __future__ import annotations

from contextlib import ExitStack

from django.conf import settings

from accounts.caller import Caller
from accounts.models import Organization
from mlops.core.storage import CHUNK_BYTES, Spool
from registry.metadata import Metadata
from registry.models import ModelVersion
from registry.services.push import Files, push_version
from registry.uploads import PARTS, SpooledFile

NAME = "tumour"
FILES = {"file": "tumour.ubj", "sample": "tumour.sample.json", "reference": "tumour.reference.csv"}


def push(organization: Organization, caller: Caller) -> ModelVersion:
    """Push and deploy it as ``tumour``; a second push makes version 2."""
    with ExitStack() as stack:
        model, sample, reference = (_spooled(part, name, stack) for part, name in FILES.items())
        metadata = Metadata(
            description="Benign (1) or malignant (0), from ten measurements of a cell image.", tags={"sample": ""}
        )
        version, _ = push_version(
            organization,
            caller,
            model=NAME,
            files=Files(model, sample, reference),
            metadata=metadata,
            deploy=NAME,
            name="Tumour (sample)",
        )
    return version


def _spooled(part: str, name: str, stack: ExitStack) -> SpooledFile:
    spool = Spool(limit_bytes=PARTS[part].limit_bytes, what=PARTS[part].title)
    stack.callback(spool.discard)
    with (settings.BASE_DIR / "examples" / name).open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            spool.write(chunk)
    spool.finish()
    return SpooledFile(name, spool, None)
