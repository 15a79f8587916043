"""How long rows of the log are kept, and how many of them: each deployment's policy, carried out."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from mlops.core import clock
from serving import log_uses
from serving.models import LogPolicy, PredictionLog, PredictionQuerySet, ShadowFlip, ShippedBatch

CHUNK_ROWS = 5_000
# Rows are whole for a day: pages, drift reports and most ground truth look at the newest ones.
SAMPLE_AFTER = timedelta(hours=24)
DAY = timedelta(days=1)


def retention_of(policy: LogPolicy | None) -> timedelta:
    days = policy.retention_days if policy is not None else None
    return timedelta(days=days or settings.PREDICTION_RETENTION_DAYS)


def day_of(moment: datetime) -> datetime:
    """Midnight before it, UTC."""
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def forget() -> int:
    """Delete rows past their retention, but those that are archived first (``serving.archiving``), and flips of shadows. Returns how many."""
    now = clock.now()
    ShadowFlip.objects.filter(at__lt=now - retention_of(None)).delete()
    own = list(LogPolicy.objects.filter(~Q(retention_days=None) | Q(archive=True)))
    others = PredictionLog.objects.exclude(deployment__in=[policy.deployment_id for policy in own])
    deleted = delete_before(others, now - retention_of(None))
    for policy in own:
        ShadowFlip.objects.filter(deployment=policy.deployment_id, at__lt=now - retention_of(policy)).delete()
        if not policy.archive:
            mine = PredictionLog.objects.filter(deployment=policy.deployment_id)
            deleted += delete_before(mine, now - retention_of(policy))
    _forget_batches(now - DAY)
    return deleted


def delete_before(rows: PredictionQuerySet, moment: datetime) -> int:
    """Those of the rows that are older, in short transactions."""
    old, deleted = rows.before(moment), 0
    while True:
        last = next(iter(old.order_by("pk").values_list("pk", flat=True)[CHUNK_ROWS - 1 : CHUNK_ROWS]), None)
        count, _ = (old.filter(pk__lte=last) if last else old).delete()
        deleted += count
        if last is None:
            return deleted


def _forget_batches(before: datetime) -> None:
    """Numbers of batches none of whose rows are left. The newest stays: counters follow the numbers."""
    empty = ~Exists(PredictionLog.objects.filter(batch=OuterRef("pk")))
    newest = ShippedBatch.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    ShippedBatch.objects.filter(
        empty, at__lt=before - timedelta(days=settings.PREDICTION_RETENTION_DAYS), pk__lt=newest
    ).delete()


# -- the sample -----------------------------------------------------------------------------------------------------------


def in_sample(prediction: UUID, share: float) -> bool:
    """Whether this row is one of the share that is kept: by its id alone, so that a smaller sample is part of a larger one."""
    digest = hashlib.blake2b(prediction.bytes, digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def sample() -> int:
    """Leave out answered rows beyond each deployment's sample, once they are a day old and counted. Returns how many."""
    return sum(_sample(policy) for policy in LogPolicy.objects.filter(sample_share__lt=1))


def _sample(policy: LogPolicy) -> int:
    counted = log_uses.counted()
    old = ShippedBatch.objects.filter(at__lt=clock.now() - SAMPLE_AFTER)
    upto = old.order_by("-pk").values_list("pk", flat=True).first()
    if counted is None or upto is None or upto <= policy.sampled_batch:
        return 0
    answered = PredictionLog.objects.filter(
        deployment=policy.deployment_id, error_code="", batch__gt=policy.sampled_batch, batch__lte=upto
    )
    waiting = answered.filter(~counted).order_by("batch").values_list("batch", flat=True).first()
    rows = answered.filter(counted)
    stays = log_uses.kept()
    deleted = _leave_out(rows.filter(~stays) if stays is not None else rows, policy.sample_share)
    reached = upto if waiting is None else waiting - 1
    # Somebody who changed the policy meanwhile wants it to begin anew.
    LogPolicy.objects.filter(pk=policy.pk, sampled_batch=policy.sampled_batch, sample_share=policy.sample_share).update(
        sampled_batch=reached
    )
    return deleted


def _leave_out(rows: PredictionQuerySet, share: float) -> int:
    deleted, after = 0, UUID(int=0)
    while chunk := list(rows.filter(pk__gt=after).order_by("pk").values_list("pk", flat=True)[:CHUNK_ROWS]):
        after = chunk[-1]
        out = [pk for pk in chunk if not in_sample(pk, share)]
        with transaction.atomic():
            # Asked once more: ground truth may have come for one of them since.
            deleted += rows.filter(pk__in=out).delete()[1].get(PredictionLog._meta.label, 0)
    return deleted
