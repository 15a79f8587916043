"""Running a job: claim by compare-and-set with a lease, do the work, end it exactly one way.

A worker that dies leaves its lease to expire; ``sweep`` then queues the job again, or fails it when its attempts are used up.
Attempts are counted at the claim, so a job that kills its worker cannot come back for ever.
"""

from __future__ import annotations

import threading
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import perf_counter
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection, transaction
from django.db.models import F

from mlops.core import clock, logs
from mlops.core.errors import SlipwayError
from mlops.core.storable import storable
from mlops.jobs import queue
from mlops.jobs.models import Job, JobStatus
from mlops.jobs.registry import handler

log = logs.get(__name__)
LOG_LIMIT_CHARS = 64_000
_CRASH_HINT = "Try again. If it fails again, give the job's number to your administrator: the log has the details."


class LeaseLost(Exception):
    """Another worker, or the sweeper, has taken the job over: stop without a word."""


class GoOn(Exception):
    """Raised by a handler that has kept its place: queue the job once more, behind others that wait. Its attempts begin anew.

    Long work is done in portions this way, so that no job holds a worker for longer than its own time limit.
    """


class Cancelled(Exception):
    """Raised by a handler that found its work called off: the job ends as cancelled."""


class JobRun:
    """What a handler gets: the job's id, and ways to tell how it goes. Every write checks that the lease is still ours."""

    def __init__(self, job: Job) -> None:
        self.job_id, self.token = job.pk, job.lease_token
        self.attempt, self.created_by_id = job.attempts, job.created_by_id
        self.steps: list[dict[str, Any]] = []
        self._lines: list[str] = []

    def _save(self, **fields: Any) -> None:
        mine = Job.objects.filter(pk=self.job_id, status=JobStatus.RUNNING, lease_token=self.token)
        if mine.update(lease_until=clock.now() + settings.JOB_LEASE, **storable(fields)) != 1:
            raise LeaseLost

    def progress(self, share: float) -> None:
        """How much is done, 0 to 1."""
        self._save(progress=min(max(share, 0.0), 1.0))

    def log(self, text: str) -> None:
        self._lines.append(text)
        self._save(log="\n".join(self._lines)[-LOG_LIMIT_CHARS:])

    def beat(self) -> None:
        self._save()

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """One step of the job, shown live: ``{"name", "status", "seconds"}``. The body may add ``message``."""
        entry: dict[str, Any] = {"name": name, "status": "running", "seconds": None}
        self.steps.append(entry)
        self._save(steps=self.steps)
        started = perf_counter()
        try:
            yield entry
        except BaseException:
            entry["status"] = "failed"
            raise
        else:
            if entry["status"] == "running":
                entry["status"] = "done"
        finally:
            entry["seconds"] = round(perf_counter() - started, 3)
            self._save(steps=self.steps)


def run(job_id: int) -> None:
    """The task django-q2 calls. Safe to call twice: only one call can claim the job."""
    job = _claim(job_id)
    if job is None:
        return
    known, this = handler(job.kind), JobRun(job)
    try:
        with _heartbeat(this, job.timeout_s):
            known.function(this, **job.args)
    except LeaseLost:
        log.warning("job_lease_lost", job=job.pk, kind=job.kind)
    except GoOn:
        _requeue(job, attempts=0)
    except Cancelled:
        _end(job, JobStatus.CANCELLED)
    except SlipwayError as error:
        _fail(job, {"code": error.code, "detail": error.detail, "hint": error.hint})
    except Exception as error:  # noqa: BLE001  a handler may raise anything; the row must end
        log.exception("job_crashed", job=job.pk, kind=job.kind, attempt=job.attempts)
        text = "".join(traceback.format_exception_only(error)).strip()[:500]
        _crashed(job, text)
    else:
        _end(job, JobStatus.DONE, progress=1.0)


def _claim(job_id: int) -> Job | None:
    token, now = uuid.uuid4(), clock.now()
    claimed = Job.objects.filter(pk=job_id, status=JobStatus.QUEUED, attempts__lt=F("max_attempts")).update(
        status=JobStatus.RUNNING,
        attempts=F("attempts") + 1,
        lease_token=token,
        lease_until=now + settings.JOB_LEASE,
        started_at=now,
        steps=[],
        progress=0,
        log="",
    )
    return Job.objects.get(pk=job_id) if claimed == 1 else None


def _leave(job: Job, status: JobStatus, **fields: Any) -> bool:
    """From running to ``status``, if the lease is still this one."""
    mine = Job.objects.filter(pk=job.pk, status=JobStatus.RUNNING, lease_token=job.lease_token)
    return mine.update(status=status, lease_until=None, lease_token=None, **fields) == 1


def _end(job: Job, status: JobStatus, **fields: Any) -> bool:
    return _leave(job, status, finished_at=clock.now(), **fields)


def _fail(job: Job, error: dict[str, Any]) -> None:
    with transaction.atomic():
        if _end(job, JobStatus.FAILED, error=storable(error)):
            _tell(job, error)


def _crashed(job: Job, text: str) -> None:
    if job.attempts < job.max_attempts:
        _requeue(job)
    else:
        _fail(
            job, {"code": "job_crashed", "detail": f"The job crashed {job.attempts} times: {text}", "hint": _CRASH_HINT}
        )


def _requeue(job: Job, **fields: Any) -> None:
    if _leave(job, JobStatus.QUEUED, queued_at=clock.now(), **fields):
        queue.send(job.pk)


def _tell(job: Job, error: dict[str, Any]) -> None:
    known = handler(job.kind)
    if known.on_failed is not None:
        known.on_failed(error, **job.args)


@contextmanager
def _heartbeat(this: JobRun, timeout_s: int) -> Iterator[None]:
    """Renew the lease from a thread while the work goes on, until ``timeout_s``: an endless job loses its lease and is failed."""
    stop = threading.Event()
    deadline = clock.now() + timedelta(seconds=timeout_s)

    def beat() -> None:
        try:
            while not stop.wait(settings.JOB_LEASE.total_seconds() / 3) and clock.now() < deadline:
                close_old_connections()
                this.beat()
        except LeaseLost:
            pass
        finally:
            connection.close()

    if connection.in_atomic_block:  # tests run jobs inside their own transaction: another connection would wait for it
        yield
        return
    thread = threading.Thread(target=beat, name=f"job-{this.job_id}-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def sweep() -> dict[str, int]:
    """Take up jobs whose worker died (lease over) and queued jobs whose message was lost. Called each minute and at worker start."""
    now = clock.now()
    counts = {"requeued": 0, "failed": 0, "resent": 0}
    for job in Job.objects.filter(status=JobStatus.RUNNING, lease_until__lt=now):
        if job.attempts < job.max_attempts and not _overdue(job):
            _requeue(job)
            counts["requeued"] += 1
        else:
            _fail(job, _lost_error(job))
            counts["failed"] += 1
    lost = now - timedelta(minutes=2)
    for job_id in Job.objects.filter(status=JobStatus.QUEUED, queued_at__lt=lost).values_list("pk", flat=True)[:500]:
        Job.objects.filter(pk=job_id, status=JobStatus.QUEUED).update(queued_at=now)
        queue.send(job_id)
        counts["resent"] += 1
    return counts


def _overdue(job: Job) -> bool:
    return job.started_at is not None and clock.now() - job.started_at > timedelta(seconds=job.timeout_s)


def _lost_error(job: Job) -> dict[str, Any]:
    if _overdue(job):
        return {
            "code": "job_timeout",
            "detail": f"The job did not end within {job.timeout_s} seconds.",
            "hint": "If the model is large, ask your administrator to raise the limit; else look at the last step in the log.",
        }
    return {
        "code": "worker_lost",
        "detail": f"The worker died {job.attempts} times while running this job.",
        "hint": _CRASH_HINT,
    }
