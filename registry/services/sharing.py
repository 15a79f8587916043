"""Letting another organisation look at a model, predict with it, or copy it. Private until somebody shares it; every act is audited on both sides.

Deployments learn of it by the model's ``shares_epoch``: serving compares it together with the routes, so a revoked share ends within
five seconds in every process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection

from django.db import IntegrityError, transaction
from django.db.models import F

from accounts import audit
from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import clock, errors, storage
from mlops.jobs.models import Job
from registry.metadata import Metadata
from registry.models import Dataset, ModelVersion, RegisteredModel, Right, Share, VersionStatus
from registry.services import stages
from registry.services.push import Files, push_version

# What a copy needs of its author's claims. Whose commit it was, in which repository, and the training run stay with the owner.
_ABOUT_THE_MODEL = ("framework", "target", "output")


def share_model(
    model: RegisteredModel,
    caller: Caller,
    *,
    grantee: str,
    rights: Collection[str],
    version: ModelVersion | None = None,
) -> Share:
    """Share ``model``, or one ``version`` of it, with the organisation of that address. Raises Invalid, Conflict."""
    other = _grantee(model, grantee)
    wanted = _rights(rights)
    if model.archived_at is not None:
        raise errors.Conflict(
            f"The model {model.slug!r} is archived.", code="model_archived", hint="Restore it before you share it."
        )
    if version is not None and version.status != VersionStatus.READY:
        raise errors.Conflict(
            f"{version} is {version.get_status_display().lower()}, not ready.",
            code="version_not_ready",
            hint="Share a ready version.",
        )
    if version is not None:
        stages.refuse_revoked(version)
    try:
        with transaction.atomic():
            row = Share.objects.create(
                organization=model.organization,
                model=model,
                version=version,
                grantee=other,
                rights=wanted,
                actor=caller.label,
                created_by=caller.person,
            )
            _tell(row, caller, "share.made")
    except IntegrityError as error:
        raise errors.Conflict(
            f"This is shared with {other.slug!r} already.",
            code="already_shared",
            hint="Revoke that share first to change what it allows.",
        ) from error
    return row


def revoke(share: Share, caller: Caller) -> None:
    """End it: their calls are refused within 5 seconds. What they copied stays theirs. Doing it again changes nothing."""
    with transaction.atomic():
        ended = Share.objects.filter(pk=share.pk, revoked_at__isnull=True).update(
            revoked_at=clock.now(), revoked_by=caller.label
        )
        if ended:
            _tell(share, caller, "share.revoked")
    share.refresh_from_db()


def _tell(row: Share, caller: Caller, event: str) -> None:
    RegisteredModel.objects.filter(pk=row.model_id).update(shares_epoch=F("shares_epoch") + 1)
    facts = {
        "model": row.model.slug,
        "version": row.version.number if row.version else None,
        "rights": row.rights,
    }
    # The other side learns what happened, and from which organisation; not who in it.
    told = [
        (row.organization, caller, event, {"grantee": row.grantee.slug, **facts}),
        (row.grantee, None, f"{event}_with_us", {"owner": row.organization.slug, **facts}),
    ]
    for organization, who, action, detail in sorted(told, key=lambda line: line[0].pk):  # two that share at once wait
        audit.record(organization, who, action, row.model, **detail)


def _grantee(model: RegisteredModel, slug: str) -> Organization:
    other = Organization.objects.filter(slug=slug.strip()).first()
    if other is None:
        raise errors.Invalid(
            f"There is no organisation {slug[:63]!r}.",
            code="unknown_organization",
            hint="Ask them for their address: the first word of their pages' URLs.",
            fields={"organization": ["There is no organisation of this name."]},
        )
    if other.pk == model.organization_id:
        raise errors.Invalid(
            "A model cannot be shared with its own organisation.",
            code="own_organization",
            hint="Everybody in it sees the model already.",
            fields={"organization": ["This is the model's own organisation."]},
        )
    return other


def _rights(wanted: Collection[str]) -> list[str]:
    unknown = sorted(set(wanted) - set(Right.values))
    if unknown or not wanted:
        raise errors.Invalid(
            f"Unknown rights: {', '.join(unknown)[:100]}." if unknown else "A share needs at least one right.",
            code="bad_rights",
            hint="Choose from read, predict and copy.",
            fields={"rights": ["Choose from read, predict and copy."]},
        )
    return [right for right in Right.values if right in wanted or right == Right.READ]


def received(caller: Caller, organization: Organization, share_id: int, right: str = Right.READ) -> Share:
    """A living share with this organisation. Raises NotFound, or Forbidden when it does not allow that."""
    rows = Share.objects.received_by(caller).filter(grantee=organization)
    row = rows.select_related("model", "version", "organization", "grantee").filter(pk=share_id).first()
    if row is None:
        raise errors.NotFound("This share does not exist, or it has been revoked.")
    if not row.allows(right):
        raise errors.Forbidden(
            f"{row.organization.name} shares this model without the right to {right}.",
            code="share_right_missing",
            hint="Ask them to share it again with that right.",
        )
    return row


def versions_of(share: Share) -> list[ModelVersion]:
    """The ready versions it covers, newest first."""
    rows = ModelVersion.objects.deployable().filter(model_id=share.model_id).select_related("model")
    return list(rows.filter(pk=share.version_id) if share.version_id else rows)


def version_of(share: Share, number: int) -> ModelVersion:
    """One of those. Raises NotFound."""
    found = next((version for version in versions_of(share) if version.number == number), None)
    if found is None:
        raise errors.NotFound(f"This share covers no ready version {number}.", code="version_not_found")
    return found


def guests(model_id: int) -> dict[int, frozenset[int] | None]:
    """Organisation id -> ids of the versions it may predict with; None for every version."""
    found: dict[int, frozenset[int] | None] = {}
    for row in Share.objects.living().filter(model_id=model_id):
        if not row.allows(Right.PREDICT):
            continue
        known = found.get(row.grantee_id, frozenset())
        everything = row.version_id is None or known is None
        found[row.grantee_id] = None if everything else (known or frozenset()) | {row.version_id}
    return found


def copy_version(
    share: Share, caller: Caller, organization: Organization, *, number: int, model: str
) -> tuple[ModelVersion, Job]:
    """Push the version's file, sample and reference as a new version of ``organization``'s model of that name.

    It is validated there like any push, and belongs to its new owner: revoking the share takes nothing back.
    Raises NotFound, Invalid (bad name), Conflict, StorageFull, NotReady.
    """
    source = version_of(share, number)
    tables = {dataset.kind: _Lent(dataset) for dataset in source.datasets.all()}
    pushed = push_version(
        organization,
        caller,
        model=model,
        files=Files(_Lent(source), **tables),
        metadata=Metadata(
            description=source.description,
            metrics=source.metrics,
            tags=source.tags,
            given_schema=source.given_schema,
            claims={name: said for name, said in source.claims.items() if name in _ABOUT_THE_MODEL}
            | {"copied_from": _origin(share, source)},
        ),
    )
    audit.record(share.organization, None, "share.copied", source, number=number, grantee=organization.slug)
    return pushed


class _Lent:
    """A file of the owner's, for a push of the guest's: linked or copied by the storage; its hash is verified by the validation."""

    home, reserved_bytes = "", 0

    def __init__(self, item: ModelVersion | Dataset) -> None:
        self._key, self.name = item.file_key, item.filename
        self.size_bytes, self.sha256 = item.size_bytes, item.sha256

    def put(self, key: str) -> None:
        storage.duplicate(self._key, key)

    def head(self, count: int) -> bytes:
        with contextlib.closing(storage.open_stream(self._key)) as chunks:
            return next(chunks, b"")[:count]

    def take(self) -> None:
        """Nothing: it stays where it is."""


def _origin(share: Share, source: ModelVersion) -> dict[str, object]:
    owner = share.organization.slug
    return {"organization": owner, "model": share.model.slug, "version": source.number, "sha256": source.sha256}
