"""Stored contents of an organisation: each once, found by its hash, for as long as a row names it.

Within one organisation only: who pushes a file must not learn from its bytes whether somebody else has it, too. Who refers to a content
is asked of the rows themselves (``REFERENCES``), so no counter can go wrong. What takes a content away and what puts one there hold the
organisation's row (``alone``); what was put there lately is nobody's to take away, for its rows may still be on their way.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Protocol

from django.db import models, transaction

from accounts.models import Organization
from mlops.core import clock, errors, storage
from mlops.core.storage import StoredFile
from registry.models import Blob, Dataset, ModelVersion
from registry.services import quotas

# Every column that names a stored content. A new one needs its line here (apps above: ``refer``), else the sweeper takes its files.
REFERENCES: list[tuple[type[models.Model], str]] = [
    (ModelVersion, "file_key"),
    (ModelVersion, "accelerated_key"),
    (Dataset, "file_key"),
    (Dataset, "columns_key"),
]
LEASE = timedelta(hours=1)  # from a content's arrival to the rows that name it; a push takes seconds


class Incoming(Protocol):
    """A whole file that is not a stored content yet. ``put`` moves, links or copies it to a key."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...
    @property
    def home(self) -> str:
        """Its key where it lies in the storage and can stay; empty: it has to be put somewhere."""
        ...

    def put(self, key: str) -> None: ...


@dataclass(frozen=True)
class Kept:
    """A content in the storage, and what is needed to take it back."""

    stored: StoredFile
    organization_id: int
    lease: uuid.UUID
    new: bool  # nobody had it before
    at_home: bool  # it lies where it lay before


def refer(model: type[models.Model], column: str) -> None:
    """An app above names stored contents in this column. Called when it starts (``apps.py``)."""
    if (model, column) not in REFERENCES:
        REFERENCES.append((model, column))


def folder_of(organization_id: int) -> str:
    return f"organizations/{organization_id}/blobs"


@contextmanager
def alone(organization_id: int) -> Iterator[None]:
    """One transaction at a time puts contents there or takes them away; on SQLite that holds of all transactions."""
    with transaction.atomic():
        list(Organization.objects.select_for_update(no_key=True).filter(pk=organization_id).values("pk"))
        yield


def keep(organization: Organization, file: Incoming, *, within_quota: bool = True, reserved_bytes: int = 0) -> Kept:
    """Store a file under its hash. Raises TooLarge (over the quota), StorageFull, NotReady.

    ``reserved_bytes``: what the quota counts for it already. The bytes are written even where they lie already: what the disk has damaged is mended by pushing it again.
    """
    lease = uuid.uuid4()
    with alone(organization.pk):
        same = Blob.objects.filter(organization=organization, sha256=file.sha256)
        known = same.values_list("key", flat=True).first()
        key = known or file.home or f"{folder_of(organization.pk)}/{file.sha256}"
        if known:
            Blob.objects.filter(key=key).update(kept_at=clock.now(), lease=lease)
        else:
            if within_quota:
                quotas.require_room(organization, file.size_bytes, already=reserved_bytes)
            Blob.objects.create(
                organization=organization, key=key, sha256=file.sha256, size_bytes=file.size_bytes, lease=lease
            )
    stored = StoredFile(key, file.size_bytes, file.sha256)
    kept = Kept(stored, organization.pk, lease, new=not known, at_home=key == file.home)
    try:
        if not kept.at_home:
            file.put(key)
    except BaseException:
        give_back(kept)
        raise
    return kept


def give_back(kept: Kept) -> None:
    """What was kept for rows that never came. Only if nobody had it before, and nobody counts on it since."""
    if not kept.new:
        return
    with alone(kept.organization_id):
        mine = Blob.objects.filter(key=kept.stored.key, lease=kept.lease)
        if mine.exists() and not named(kept.stored.key):
            with contextlib.suppress(errors.NotReady):  # the sweeper takes files without a row
                if not kept.at_home:
                    storage.delete(kept.stored.key)
            mine.delete()


def store(organization_id: int, source: IO[bytes], *, limit_bytes: int, what: str) -> StoredFile:
    """Store what the product itself made of a version: counted, never refused by the quota. Raises TooLarge, StorageFull, NotReady."""
    organization = Organization.objects.get(pk=organization_id)
    spool = storage.spool_of(source, limit_bytes=limit_bytes, what=what)
    try:
        return keep(organization, spool, within_quota=False).stored
    finally:
        spool.discard()


def named(key: str) -> bool:
    """Whether any row refers to it."""
    return any(model._default_manager.filter(**{column: key}).exists() for model, column in REFERENCES)


def release(organization_id: int, keys: Iterable[str]) -> None:
    """Rows let go of these contents: those that nobody names any more and nobody has just put there are removed."""
    for key in filter(None, keys):
        remove_unnamed(organization_id, key, before=clock.now() - LEASE)


def remove_unnamed(organization_id: int, key: str, *, before: datetime) -> bool:
    """Take one content away if no row names it and it was put there before that moment; true if it went."""
    with alone(organization_id):
        blob = Blob.objects.filter(key=key).first()
        if named(key) or (blob is not None and blob.kept_at >= before):
            return False
        storage.delete(key)
        if blob is not None:
            blob.delete()
    return True


def unnamed(before: datetime) -> models.QuerySet[Blob]:
    """Contents put there before that moment which no row names."""
    rows = Blob.objects.filter(kept_at__lt=before)
    for model, column in REFERENCES:
        rows = rows.exclude(key__in=model._default_manager.values(column))
    return rows
