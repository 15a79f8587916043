"""The only door to django-q2: a Job row, and on commit a task that carries its id and nothing else."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.db import models, transaction

from mlops.jobs.models import Job
from mlops.jobs.registry import handler

if TYPE_CHECKING:
    from accounts.models import Organization, User


def enqueue(
    kind: str,
    *,
    organization: Organization | None,
    subject: models.Model | None = None,
    args: dict[str, int | str | bool] | None = None,
    created_by: User | None = None,
    max_attempts: int | None = None,
) -> Job:
    """Make a job of a registered kind; it starts after the transaction commits. Raises KeyError for an unknown kind."""
    known = handler(kind)
    job = Job.objects.create(
        kind=kind,
        organization=organization,
        subject_type=subject._meta.model_name if subject is not None else "",
        subject_id=str(subject.pk) if subject is not None else "",
        args=args or {},
        created_by=created_by,
        max_attempts=max_attempts or known.max_attempts,
        timeout_s=known.timeout_s,
    )
    transaction.on_commit(partial(send, job.pk))
    return job


def send(job_id: int) -> None:
    """Hand the id to the queue. A lost message is found again by the sweeper."""
    from django_q.tasks import async_task

    async_task("mlops.jobs.runner.run", job_id)
