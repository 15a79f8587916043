"""Push a version: files into the storage, then every row in one transaction, then the validation job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from django.db import transaction
from django.db.models import F

from accounts import audit
from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import clock, errors
from mlops.core.storage import StoredFile
from mlops.jobs.models import Job
from mlops.runtime import inspect
from registry.metadata import Metadata, slug
from registry.models import Dataset, ModelVersion, RegisteredModel
from registry.packing import FileToPack, pack
from registry.services import blobs, lineage, projects, quotas, versions
from registry.uploads import PARTS


class PushedFile(blobs.Incoming, Protocol):
    """A whole file with a safe name: ``SpooledFile``, which came with the push, or ``WholeUpload``, which came before it."""

    @property
    def name(self) -> str: ...
    @property
    def reserved_bytes(self) -> int:
        """What the quota counts for it already."""
        ...

    def head(self, count: int) -> bytes: ...
    def take(self) -> None:
        """In the push's transaction: it is used now. Raises Gone."""
        ...


@dataclass(frozen=True)
class Files:
    """What came with a push."""

    model: PushedFile
    sample: PushedFile | None = None
    reference: PushedFile | None = None

    def named(self) -> dict[str, PushedFile]:
        every = {"model": self.model, "sample": self.sample, "reference": self.reference}
        return {name: file for name, file in every.items() if file is not None}


def push_version(
    organization: Organization,
    caller: Caller,
    *,
    model: str,
    files: Files,
    metadata: Metadata,
    deploy: str = "",
    name: str = "",
    check: Callable[[], None] = lambda: None,
) -> tuple[ModelVersion, Job]:
    """Store the files and start validation; makes the model when it is new. Nothing is kept when anything fails.

    ``check`` is called where no other push to this model can go on; what it raises ends this one.
    Raises Invalid (bad names), Conflict (archived model), TooLarge and others (quotas), StorageFull, NotReady (storage away).
    """
    slug(model, "The model name", "model")
    if deploy:
        slug(deploy, "The deployment name", "deploy")
    quotas.require_version(organization)
    project = projects.of_push(organization, metadata.project)
    tables = {
        kind: _table_format(kind, file)
        for kind, file in (("sample", files.sample), ("reference", files.reference))
        if file is not None
    }
    with _stored(organization, files) as stored, transaction.atomic():
        row = _model(organization, caller, model, name, project)
        number = _next_number(row)
        check()
        version = ModelVersion.objects.create(
            organization=organization,
            model=row,
            number=number,
            **_file_fields(stored["model"], files.model),
            description=metadata.description,
            metrics=metadata.metrics,
            tags=metadata.tags,
            given_schema=metadata.given_schema,
            claims=metadata.claims,
            deploy_to=deploy,
            created_by=caller.user or (caller.key.created_by if caller.key else None),
        )
        lineage.record_parents(version, metadata.parents)
        for kind, table_format in tables.items():
            file = getattr(files, kind)
            Dataset.objects.create(
                organization=organization,
                version=version,
                kind=kind,
                format=table_format,
                **_file_fields(stored[kind], file),
            )
        for given in files.named().values():
            given.take()
        job = versions.start_validation(version, caller)
        audit.record(
            organization,
            caller,
            "version.pushed",
            version,
            model=row.slug,
            number=version.number,
            sha256=version.sha256,
        )
    version.refresh_from_db()
    return version, job


def push_tree(  # noqa: PLR0913  a push, field by field
    organization: Organization,
    caller: Caller,
    *,
    model: str,
    files: Iterable[FileToPack],
    metadata: Metadata,
    deploy: str = "",
    name: str = "",
    data: dict[str, PushedFile | None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> tuple[ModelVersion, Job]:
    """Push a folder: (relative name, size in bytes, content) of each file, read one after the other and packed on the way.

    ``data``: a sample and a reference that came beside it.
    The same files in the same order give the same sha256. Raises what ``push_version`` and ``packing.pack`` raise.
    """
    slug(model, "The model name", "model")  # before gigabytes are packed
    packed = pack(files, f"{model}.tar")
    try:
        return push_version(
            organization,
            caller,
            model=model,
            files=Files(packed, **(data or {})),
            metadata=metadata,
            deploy=deploy,
            name=name,
            check=check,
        )
    finally:
        packed.close()


def _file_fields(stored: StoredFile, file: PushedFile) -> dict[str, object]:
    return {"file_key": stored.key, "filename": file.name, "sha256": stored.sha256, "size_bytes": stored.size_bytes}


def _table_format(kind: str, file: PushedFile) -> str:
    """csv, parquet, json or jsonl by content. Raises Invalid when it is none of them."""
    try:
        return inspect.detect_table(file.name, file.head(inspect.HEAD_BYTES))
    except inspect.FormatError as error:
        raise errors.Invalid(
            f"{PARTS[kind].title}: {error.message}",
            code=error.code,
            hint=error.hint,
            fields={kind: [f"{error.message} {error.hint}"]},
        ) from error


@contextmanager
def _stored(organization: Organization, files: Files) -> Iterator[dict[str, StoredFile]]:
    """The files in the storage; taken out again when the block fails."""
    kept: dict[str, blobs.Kept] = {}
    try:
        for name, file in files.named().items():
            kept[name] = blobs.keep(organization, file, reserved_bytes=file.reserved_bytes)
        yield {name: each.stored for name, each in kept.items()}
    except BaseException:
        for each in kept.values():
            blobs.give_back(each)
        raise


def _model(organization: Organization, caller: Caller, model: str, name: str, project: object) -> RegisteredModel:
    made_by = caller.user or (caller.key.created_by if caller.key else None)
    row, made = RegisteredModel.objects.get_or_create(
        organization=organization,
        slug=model,
        defaults={"name": name or model, "project": project, "created_by": made_by},
    )
    if made:
        audit.record(organization, caller, "model.created", row, model=row.slug)
    elif row.archived_at is not None:
        raise errors.Conflict(
            f"The model {model!r} is archived.",
            code="model_archived",
            hint="Restore it first, or push under another name.",
        )
    return row


def _next_number(model: RegisteredModel) -> int:
    """The next version number. The update locks the row, so two pushes at once get two numbers; a number never comes back."""
    RegisteredModel.objects.filter(pk=model.pk).update(last_number=F("last_number") + 1, updated_at=clock.now())
    return RegisteredModel.objects.values_list("last_number", flat=True).get(pk=model.pk)
