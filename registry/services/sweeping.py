"""What nobody needs any more goes: uploads whose time is over, contents no row names, files and half multipart uploads without a row.

Nothing younger than ``KEEP`` is looked at, and each thing is judged again while nobody can put anything beside it (``blobs.alone``).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from accounts.models import Organization
from mlops.core import clock, logs, s3, storage
from registry.models import Blob, Upload
from registry.services import blobs, uploads

log = logs.get(__name__)
KEEP = timedelta(days=1)
# Folders of an organisation whose files must have a row; those before ``blobs`` are from before there were any.
FOLDERS = ("models", "samples", "references", "accelerated", "columns", "blobs", "uploads")
_UPLOAD = re.compile(r"^organizations/\d+/uploads/([0-9a-f-]{36})(\.tail)?$")


def forget_uploads() -> int:
    """Uploads that were not finished or not used in time, and the rows of used ones. Returns how many."""
    now = clock.now()
    count = 0
    for upload in Upload.objects.filter(used_at=None, expires_at__lte=now).iterator():
        # Marked as used first: a call that is just beginning finds it gone, one under way can save nothing more.
        locked_until = now - uploads.LOCK
        idle = Upload.objects.filter(pk=upload.pk, used_at=None, expires_at__lte=now).exclude(
            lock__isnull=False, locked_at__gte=locked_until
        )
        if idle.update(used_at=now):
            uploads.remove(upload)
            count += 1
    for upload in Upload.objects.filter(used_at__lte=now - KEEP).iterator():
        uploads.remove(upload)
        count += 1
    log.info("uploads_forgotten", count=count)
    return count


def sweep(organization: Organization | None = None) -> dict[str, int]:
    """Contents, files and multipart uploads without a row. Returns how many of each went."""
    before = clock.now() - KEEP
    counts = {"contents": 0, "files": 0, "multiparts": 0}
    rows = blobs.unnamed(before)
    for blob in rows.filter(organization=organization) if organization else rows:
        counts["contents"] += blobs.remove_unnamed(blob.organization_id, blob.key, before=before)
    for pk in _organizations() if organization is None else [organization.pk]:
        for name in FOLDERS:
            counts["files"] += _sweep_folder(pk, f"organizations/{pk}/{name}", before)
    counts["multiparts"] = _sweep_multiparts(before)
    log.info("storage_swept", **counts)
    return counts


def _organizations() -> list[int]:
    """Those with files, also such as have no row any more."""
    return sorted(int(name) for name in storage.folders("organizations") if name.isdigit())


def _sweep_folder(organization_id: int, folder: str, before: datetime) -> int:
    known = set(Blob.objects.filter(organization_id=organization_id).values_list("key", flat=True))
    count = 0
    for key, changed in storage.objects(folder):
        if changed >= before or key in known:
            continue
        if (found := _UPLOAD.match(key)) and Upload.objects.filter(pk=found[1], used_at=None).exists():
            continue
        count += blobs.remove_unnamed(organization_id, key, before=before)
    return count


def _sweep_multiparts(before: datetime) -> int:
    """S3 keeps the parts of an upload that was never ended, and they are paid for, though no listing of files shows them."""
    if storage.local("organizations") is not None:
        return 0
    count = 0
    with storage.trouble_named():
        for key, multipart, begun in list(s3.multiparts("organizations/")):
            found = _UPLOAD.match(key)
            if begun >= before or (found and Upload.objects.filter(pk=found[1], used_at=None).exists()):
                continue
            s3.drop_multipart(key, multipart)
            count += 1
    return count
