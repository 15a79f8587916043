"""What people do with jobs."""

from __future__ import annotations

from functools import partial

from django.db import transaction

from mlops.core import clock, errors
from mlops.jobs import queue
from mlops.jobs.models import Job, JobStatus


def retry(job: Job) -> Job:
    """Queue a failed job again, with fresh attempts. Raises Conflict when it has not failed."""
    with transaction.atomic():
        moved = Job.objects.filter(pk=job.pk, status=JobStatus.FAILED).update(
            status=JobStatus.QUEUED, attempts=0, error=None, finished_at=None, progress=0, queued_at=clock.now()
        )
        if moved != 1:
            raise errors.Conflict(
                f"Job {job.pk} is {job.status}; only a failed job can be tried again.", code="job_not_failed"
            )
        transaction.on_commit(partial(queue.send, job.pk))
    job.refresh_from_db()
    return job


def cancel(job: Job) -> bool:
    """End a job that no worker has taken yet. False: it runs (its handler must look for itself) or has ended."""
    waiting = Job.objects.filter(pk=job.pk, status=JobStatus.QUEUED)
    return waiting.update(status=JobStatus.CANCELLED, finished_at=clock.now()) == 1
