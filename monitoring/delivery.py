"""The outbox: each row is claimed by compare-and-set, sent once, and tried again later when that fails.

A worker that dies between claim and result leaves the row "sending"; after ``CLAIM_LASTS`` it is taken up again.

Mails are one lane, every channel is one of its own; lanes run beside each other, so a receiver that is slow or down holds up nobody
else. A lane whose other side cannot be reached rests until the next look.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from django.db import connection, connections
from django.db.models import F

from mlops.core import clock, logs
from mlops.core.storable import storable
from mlops.jobs.models import Job, JobStatus
from mlops.jobs.queue import enqueue
from monitoring import channel_health, people
from monitoring.announcing import TEST
from monitoring.channels import Answer, Gone, NotTaken, PermanentFailure, channels
from monitoring.models import Attempt, Notification

log = logs.get(__name__)
# Not before these times after a failure; the schedule looks each minute.
RETRY_AFTER = tuple(timedelta(seconds=s) for s in (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600))
MOST_WAIT = timedelta(hours=1)  # what a receiver may ask for with Retry-After
CLAIM_LASTS = timedelta(minutes=10)
AT_ONCE = 200  # mails in one look
AT_ONCE_EACH = 20  # messages to one channel in one look
CHANNELS_AT_ONCE = 200
SIDE_BY_SIDE = 6
LOOK_S = 75.0  # no try begins later than this after the look began
_Status = Notification.Status
_UNREACHABLE = (TimeoutError, ConnectionError, socket.gaierror)


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
    until = time.monotonic() + LOOK_S
    for outcomes in _side_by_side(_lanes(), until):
        for outcome in outcomes:
            counts[outcome] += 1
    return counts


def _lanes() -> list[list[int]]:
    """What is due, lane by lane: mails first, then the channels."""
    due = Notification.objects.filter(status=_Status.WAITING, next_at__lte=clock.now()).order_by("next_at", "pk")
    mails = list(due.filter(target__isnull=True).values_list("pk", flat=True)[:AT_ONCE])
    busy = due.filter(target__isnull=False).order_by("target").values_list("target", flat=True).distinct()
    lanes = [
        list(due.filter(target=each).values_list("pk", flat=True)[:AT_ONCE_EACH]) for each in busy[:CHANNELS_AT_ONCE]
    ]
    return [lane for lane in (mails, *lanes) if lane]


def _side_by_side(lanes: list[list[int]], until: float) -> list[list[str]]:
    if len(lanes) < 2 or connection.in_atomic_block:  # another thread would not see what this transaction has written
        return [_lane(lane, until) for lane in lanes]
    with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="deliver") as threads:
        return list(threads.map(lambda lane: _in_thread(lane, until), lanes))


def _in_thread(lane: Sequence[int], until: float) -> list[str]:
    try:
        return _lane(lane, until)
    finally:
        connections.close_all()


def _lane(lane: Sequence[int], until: float) -> list[str]:
    """One after the other; the rest waits for the next look when the other side cannot be reached."""
    outcomes: list[str] = []
    for pk in lane:
        if time.monotonic() > until:
            break
        for each in (*_before(pk), pk):
            outcome, reached = _deliver(each)
            outcomes += [outcome] if outcome is not None else []
            if outcome == "put_off" and each != pk:
                _wait_for(pk, each)
            if not reached:
                return outcomes
            if outcome == "put_off":
                break
    return outcomes


def _before(pk: int) -> list[int]:
    """Earlier messages about the same incident to the same receiver that wait for another try: the end is not told before the beginning."""
    row = Notification.objects.filter(pk=pk, incident__isnull=False, status=_Status.WAITING).first()
    if row is None:
        return []
    same = Notification.objects.filter(incident=row.incident_id, target=row.target_id, user=row.user_id, pk__lt=pk)
    return list(same.filter(status=_Status.WAITING).order_by("pk").values_list("pk", flat=True)[:5])


def _wait_for(pk: int, earlier: int) -> None:
    """It is tried again when the earlier one is, and not before."""
    next_at = Notification.objects.filter(pk=earlier).values_list("next_at", flat=True).first()
    if next_at is not None:
        Notification.objects.filter(pk=pk, status=_Status.WAITING).update(next_at=next_at)


def deliver(pk: int) -> str | None:
    """Send one row; None when another worker has it. Returns sent, failed or put_off."""
    return _deliver(pk)[0]


def _deliver(pk: int) -> tuple[str | None, bool]:
    """What became of it, and whether the other side answered at all."""
    now = clock.now()
    waiting = Notification.objects.filter(pk=pk, status=_Status.WAITING)
    if waiting.update(status=_Status.SENDING, claimed_at=now, attempts=F("attempts") + 1) != 1:
        return None, True
    row = Notification.objects.select_related("user", "organization", "target__organization").get(pk=pk)
    begun = time.perf_counter()
    reached = True
    try:
        _still_wanted(row)
        answer = channels()[row.channel](row) or Answer()
    except PermanentFailure as error:
        answer, text, outcome = error.answer, str(error), _failed(row, str(error))
        if isinstance(error, Gone):
            channel_health.gone(row, text)
    except NotTaken as error:
        answer, text, outcome = error.answer, str(error), _put_off(row, str(error), error.wait_s)
        reached = error.answer.status is not None
        channel_health.not_taken(row, text, refusal=error.refusal, last=outcome == "failed")
    except Exception as error:  # noqa: BLE001  a mail server may fail in any way; the row must not be lost
        text = f"{type(error).__name__}: {error}"
        answer, outcome, reached = Answer(), _put_off(row, text), not isinstance(error, _UNREACHABLE)
    else:
        text, outcome = "", "sent"
        _end(row, status=_Status.SENT, sent_at=clock.now(), error="")
        channel_health.taken(row)
    if row.target_id is not None:
        _note(row, outcome, answer, text, time.perf_counter() - begun)
    return outcome, reached


def _still_wanted(row: Notification) -> None:
    """Whoever left the organisation, or changed an address, in the meantime does not get its mail; a channel may be switched off."""
    if row.target is not None and not row.target.enabled and row.type != TEST:
        raise PermanentFailure(f"The channel {row.target.name} is switched off.")
    if row.user is None:
        return
    known = people.verified_members(row.organization_id).filter(pk=row.user_id, email__iexact=row.recipient)
    if not known.exists():
        raise PermanentFailure(f"{row.recipient} is no longer the verified address of a member.")


def _put_off(row: Notification, text: str, wait_s: float | None = None) -> str:
    if row.type == TEST:  # somebody sits there and looks
        return _failed(row, text)
    if row.attempts > len(RETRY_AFTER):
        return _failed(row, f"{text} (after {row.attempts} tries)")
    wait = max(RETRY_AFTER[row.attempts - 1], min(timedelta(seconds=wait_s or 0), MOST_WAIT))
    _end(row, status=_Status.WAITING, next_at=clock.now() + wait, error=storable(text)[:1000])
    log.warning("notification_put_off", notification=row.pk, attempts=row.attempts, error=text[:200])
    return "put_off"


def _failed(row: Notification, text: str) -> str:
    _end(row, status=_Status.FAILED, error=storable(text)[:1000])
    log.error("notification_failed", notification=row.pk, error=text[:200])
    return "failed"


def _end(row: Notification, **fields: object) -> None:
    """Only whoever claimed this try may end it."""
    mine = Notification.objects.filter(pk=row.pk, status=_Status.SENDING, attempts=row.attempts)
    mine.filter(claimed_at=row.claimed_at).update(claimed_at=None, **fields)


def _note(row: Notification, outcome: str, answer: Answer, text: str, seconds: float) -> None:
    Attempt.objects.create(
        notification_id=row.pk,
        outcome=outcome,
        status=answer.status,
        duration_ms=round(seconds * 1000),
        reply=answer.reply,
        error=storable(text)[:1000],
    )
