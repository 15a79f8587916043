"""What an organisation may have, and what it has: bytes, each content once, with room reserved for uploads under way; versions; validations.

``require_room`` is exact inside ``blobs.alone``: there nobody else adds anything meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Sum

from accounts.models import Organization
from mlops.core import errors
from mlops.core.storage import readable
from registry.models import Blob, ModelVersion, Upload, VersionStatus

_RAISE = "Discard uploads you do not need, or ask your administrator to raise the limit."


@dataclass(frozen=True)
class Usage:
    """Bytes and versions of an organisation. A limit of 0 is none."""

    stored_bytes: int
    reserved_bytes: int
    limit_bytes: int
    versions: int
    version_limit: int

    @property
    def used_bytes(self) -> int:
        return self.stored_bytes + self.reserved_bytes

    @property
    def free_bytes(self) -> int | None:
        """None: no limit."""
        return max(0, self.limit_bytes - self.used_bytes) if self.limit_bytes else None

    @property
    def percent(self) -> int:
        return min(100, round(100 * self.used_bytes / self.limit_bytes)) if self.limit_bytes else 0


def usage(organization: Organization) -> Usage:
    found = Organization.objects.values_list("storage_limit_bytes", "version_limit").get(pk=organization.pk)
    limit_bytes, version_limit = (
        default if own is None else own
        for own, default in zip(found, (settings.ORG_STORAGE_BYTES, settings.ORG_VERSIONS), strict=True)
    )
    return Usage(
        stored_bytes=_total(Blob.objects.filter(organization=organization), "size_bytes"),
        reserved_bytes=_total(Upload.objects.filter(organization=organization, used_at=None), "length"),
        limit_bytes=limit_bytes,
        versions=ModelVersion.objects.filter(organization=organization).count(),
        version_limit=version_limit,
    )


def _total(rows: object, column: str) -> int:
    return rows.aggregate(total=Sum(column))["total"] or 0


def require_room(organization: Organization, size_bytes: int, *, already: int = 0) -> None:
    """``already``: bytes of these that are reserved. Raises TooLarge with the numbers."""
    now = usage(organization)
    if now.limit_bytes and now.used_bytes - already + size_bytes > now.limit_bytes:
        under_way = f", {readable(now.reserved_bytes)} of it for uploads under way" if now.reserved_bytes else ""
        raise errors.TooLarge(
            f"{readable(size_bytes)} do not fit: {organization.name} uses {readable(now.used_bytes)} of {readable(now.limit_bytes)}{under_way}.",
            code="storage_quota",
            hint=_RAISE,
        )


def require_version(organization: Organization) -> None:
    """Room for one more version, and for its validation. Raises Conflict, RateLimited."""
    now = usage(organization)
    if now.version_limit and now.versions >= now.version_limit:
        raise errors.Conflict(
            f"{organization.name} has {now.versions:,} of {now.version_limit:,} model versions.",
            code="version_quota",
            hint="Ask your administrator to raise the limit.",
        )
    open_ones = ModelVersion.objects.filter(
        organization=organization, status__in=(VersionStatus.RECEIVED, VersionStatus.VALIDATING)
    ).count()
    if settings.ORG_VALIDATIONS and open_ones >= settings.ORG_VALIDATIONS:
        raise errors.RateLimited(
            f"{open_ones} versions of {organization.name} wait for their validation or are being validated.",
            code="too_many_validations",
            hint="Wait until some have ended, then push again.",
            retry_after_s=30,
        )
