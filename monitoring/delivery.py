"""The outbox: each row is claimed by compare-and-set, sent once, and tried again later when that fails.

A worker that dies between claim and result leaves the row "sending"; after ``CLAIM_LASTS`` it is taken up again.
"""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F

from mlops.core import clock, logs
from mlops.jobs.models import Job, JobStatus
from mlops.jobs.queue import enqueue
from monitoring import people
from monitoring.channels import PermanentFailure, channels
from monitoring.models import Notification

log = logs.get(__name__)
# Not before these times after a failure; the schedule looks each minute.
RETRY_AFTER = tuple(timedelta(seconds=s) for s in (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600))
CLAIM_LASTS = timedelta(minutes=10)
AT_ONCE = 200
_Status = Notification.Status


def deliver_soon() -> None:
    """Have the outbox looked at as soon as this transaction commits, not at the next minute."""
    if not Job.objects.filter(kind="deliver_notifications", status=JobStatus.QUEUED).exists():
        enqueue("deliver_notifications", organization=None)


def deliver_due() -> dict[str, int]:
    """Send what is due. Returns how many were sent, failed for good, and put off."""
    now = clock.now()
    taken_up = Notification.objects.filter(status=_Status.SENDING, claimed_at__lt=now - CLAIM_LASTS)
    taken_up.update(status=_Status.WAITING, next_at=now)
    counts = {"sent": 0, "failed": 0, "put_off": 0}
    due = Notification.objects.filter(status=_Status.WAITING, next_at__lte=now).order_by("next_at", "pk")
    for pk in due.values_list("pk", flat=True)[:AT_ONCE]:
        outcome = deliver(pk)
        if outcome is not None:
            counts[outcome] += 1
    return counts


def deliver(pk: int) -> str | None:
    """Send one row; None when another worker has it. Returns sent, failed or put_off."""
    claimed = Notification.objects.filter(pk=pk, status=_Status.WAITING).update(
        status=_Status.SENDING, claimed_at=clock.now(), attempts=F("attempts") + 1
    )
    if claimed != 1:
        return None
    row = Notification.objects.select_related("user").get(pk=pk)
    try:
        _still_wanted(row)
        channels()[row.channel](row)
    except PermanentFailure as error:
        return _failed(row, str(error))
    except Exception as error:  # noqa: BLE001  a mail server may fail in any way; the row must not be lost
        return _put_off(row, f"{type(error).__name__}: {error}")
    _end(row, status=_Status.SENT, sent_at=clock.now(), error="")
    return "sent"


def _still_wanted(row: Notification) -> None:
    """Whoever left the organisation, or changed an address, in the meantime does not get its mail."""
    if row.user is None:
        return
    known = people.verified_members(row.organization_id).filter(pk=row.user_id, email__iexact=row.recipient)
    if not known.exists():
        raise PermanentFailure(f"{row.recipient} is no longer the verified address of a member.")


def _put_off(row: Notification, text: str) -> str:
    if row.attempts > len(RETRY_AFTER):
        return _failed(row, f"{text} (after {row.attempts} tries)")
    _end(row, status=_Status.WAITING, next_at=clock.now() + RETRY_AFTER[row.attempts - 1], error=text[:1000])
    log.warning("notification_put_off", notification=row.pk, attempts=row.attempts, error=text[:200])
    return "put_off"


def _failed(row: Notification, text: str) -> str:
    _end(row, status=_Status.FAILED, error=text[:1000])
    log.error("notification_failed", notification=row.pk, error=text[:200])
    return "failed"


def _end(row: Notification, **fields: object) -> None:
    """Only whoever claimed this try may end it."""
    Notification.objects.filter(pk=row.pk, status=_Status.SENDING, attempts=row.attempts).update(
        claimed_at=None, **fields
    )
