"""Files of rows: a small one is answered at once, a large one becomes a run that a job works on. Also: look, cancel, forget.

What is predicted here is not written to the prediction log and counts neither as traffic nor towards drift: a night's batch of old rows
would drown what callers ask by day. The run itself is in the audit log.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts import access, audit
from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import clock, errors, ids, storage
from mlops.core.errors import SlipwayError
from mlops.jobs import queue
from mlops.jobs import services as jobs
from mlops.jobs.models import JobStatus
from mlops.runtime.errors import ArtifactInvalid
from mlops.runtime.host import HostError, Reply, get_host
from registry.models import ModelVersion
from serving import guests
from serving.batch_input import Sent
from serving.errors import from_host, from_reply
from serving.models import BatchPart, BatchRun, Deployment
from serving.predict import Ticket
from serving.routing import Line, snapshot

NOW_ROWS = 1_000
NOW_BYTES = 5 << 20
# Refusals and failures that a job can do better: it has time, and finds the one row on which a model dies.
_LATER = frozenset(
    ("too_many_for_now", "too_slow_for_now", "reply_too_large", "model_crashed", "deadline_exceeded", "out_of_memory")
)
OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)


# -- at once ------------------------------------------------------------------------------------------------------------


def predict_now(line: Line, sent: Sent, output: str) -> Reply | None:
    """The answer to a small file in the format asked for; None: it is work for a job. Raises SlipwayError."""
    if sent.spool.size_bytes > NOW_BYTES:
        return None
    args = {"format": sent.format, "output": output, "rows": NOW_ROWS, "seconds": settings.MODEL_PREDICT_S / 2}
    try:
        reply = _ask(line, args, sent.read())
    except HostError as error:
        if error.code in _LATER:
            return None
        raise from_host(error) from error
    if reply.status == 200:
        return reply
    problem = from_reply(reply)
    if problem.code in _LATER:
        return None
    raise problem


def _ask(line: Line, args: dict[str, Any], body: bytes) -> Reply:
    try:
        return get_host().call(line.spec, "predict_file", args, body, timeout_s=line.spec.limits.predict_s)
    except ArtifactInvalid:  # its local copy is gone: bring it back, once
        snapshot.restore(line)
        return get_host().call(line.spec, "predict_file", args, body, timeout_s=line.spec.limits.predict_s)


# -- by a job -----------------------------------------------------------------------------------------------------------


def admitted(ticket: Ticket) -> Line:
    """The version that is to answer. Raises why the call may not go on."""
    if isinstance(ticket.refused, SlipwayError):
        raise ticket.refused
    if ticket.refused is not None or ticket.line is None:
        raise errors.NotReady(
            "The database does not answer.", code="database_unavailable", hint="Try again.", retry_after_s=2
        )
    return ticket.line


def start_run(*, deployment: Deployment, version_id: int, sent: Sent, output: str, caller: Caller) -> BatchRun:
    """Keep the file and queue its prediction by one version. Raises RateLimited when too many runs wait, StorageFull."""
    organization = deployment.organization
    _room_for_one(organization.pk)
    version = ModelVersion.objects.select_related("model").get(pk=version_id, organization=organization)
    run = BatchRun(pk=ids.uuid7(), organization=organization, deployment=deployment, version=version)
    stored = storage.keep(sent.spool, folder=folder_of(run), filename=sent.filename)
    run.filename, run.format, run.output_format = sent.filename, sent.format, "jsonl" if output == "json" else output
    run.file_key, run.sha256, run.size_bytes = stored.key, stored.sha256, stored.size_bytes
    known = (
        caller if caller.role_in(organization) is not None else None
    )  # of a guest his key's prefix is told, not who he is
    run.maker, run.actor = caller.ref, known.label if known else f"guest, {caller.ref}"
    run.created_by = known.person if known else None
    try:
        with transaction.atomic():
            run.save(force_insert=True)
            run.job = queue.enqueue(
                "batch_predict",
                organization=organization,
                subject=run,
                args={"batch_id": str(run.pk)},
                created_by=run.created_by,
            )
            run.save(update_fields=["job"])
            audit.record(
                organization,
                known,
                "batch.start",
                run,
                **({} if known else {"guest": caller.ref}),
                deployment=deployment.name,
                version=version.number,
                bytes=run.size_bytes,
                sha256=run.sha256,
            )
    except BaseException:
        storage.delete(stored.key)
        raise
    return run


def _member(caller: Caller, organization: Organization) -> Caller | None:
    """Who did it, as the organisation may know: of a guest it sees what his key begins with, as in the log, not who he is."""
    return caller if caller.role_in(organization) is not None else None


def _room_for_one(organization_id: int) -> None:
    waiting = BatchRun.objects.filter(organization_id=organization_id, status__in=OPEN).count()
    if waiting >= settings.BATCH_RUNS:
        raise errors.RateLimited(
            f"{waiting} batch runs of this organisation wait or run already.",
            code="too_many_runs",
            hint="Wait until one has ended, or cancel one.",
            retry_after_s=60,
        )


def folder_of(run: BatchRun) -> str:
    return f"organizations/{run.organization_id}/batches/{run.pk}"


def find(caller: Caller, org: str, deployment: str, batch_id: uuid.UUID, action: str = "logs.view") -> BatchRun:
    """A run: for who sent the file while he may predict there, and for those whose role allows ``action``. Raises NotFound, Forbidden."""
    rows = BatchRun.objects.select_related("organization", "deployment", "version", "job")
    rows = rows.filter(organization__slug=org, deployment__name=deployment)
    if caller.key is not None and caller.key.deployment and caller.key.deployment != deployment:
        rows = rows.none()
    mine = rows.filter(pk=batch_id, maker=caller.ref).first()
    if mine is not None and caller.can("deployment.predict", mine.organization_id):
        return mine
    if mine is not None and (shared := guests.deployment(caller, org, deployment)) and shared.covers(mine.version_id):
        return mine
    return access.get(caller, rows, action, pk=batch_id)


def listed(caller: Caller, deployment: Deployment) -> Any:
    """The runs that a caller may see: all of them for developers, else their own."""
    rows = BatchRun.objects.filter(deployment=deployment).select_related("version")
    return rows if caller.can("logs.view", deployment.organization_id) else rows.filter(maker=caller.ref)


def deployment_of(caller: Caller, org: str, name: str) -> Deployment:
    """The deployment, for a caller who may predict there, a guest, too. Raises NotFound, Forbidden."""
    if (shared := guests.deployment(caller, org, name)) is not None:
        return shared.deployment
    rows = Deployment.objects.with_routes().filter(organization__slug=org, name=name)
    if caller.key is not None and caller.key.deployment and caller.key.deployment != name:
        rows = rows.none()
    return access.get(caller, rows, "deployment.predict")


def file_of(run: BatchRun, kind: str) -> tuple[list[str], int, str]:
    """Keys in order, size and format of the results or of the failed rows. Raises Conflict, NotFound."""
    if not run.ended:
        raise errors.Conflict(
            "This batch run is not at its end.",
            code="not_ended",
            hint="Wait until its status is done, failed or cancelled.",
            retry_after_s=2,
        )
    parts, fmt = list(run.parts.filter(kind=kind)), "jsonl"
    if kind == BatchPart.Kind.RESULT:
        fmt = run.output_format
        if fmt == "parquet":  # a run that ended early has pieces only: they are JSON lines
            whole = list(run.parts.filter(kind=BatchPart.Kind.WHOLE))
            parts, fmt = (whole, fmt) if whole else (parts, "jsonl")
    if not parts:
        raise errors.NotFound("This batch run has no such file: no row came to it.", code="no_rows", hint="")
    return [part.key for part in parts], sum(part.size_bytes for part in parts), fmt


def cancel(run: BatchRun, caller: Caller) -> BatchRun:
    """Call it off: what is done by now stays. Raises Conflict when it has ended."""
    with transaction.atomic():
        moved = BatchRun.objects.filter(pk=run.pk, status__in=OPEN).update(
            status=JobStatus.CANCELLED, finished_at=clock.now()
        )
        if moved != 1:
            raise errors.Conflict("This batch run has ended already.", code="already_ended")
        known = _member(caller, run.organization)
        audit.record(run.organization, known, "batch.cancel", run, **({} if known else {"guest": caller.ref}))
    if run.job is not None:
        jobs.cancel(run.job)  # one that runs sees it at its next checkpoint
    run.refresh_from_db()
    return run


def go_on(run: BatchRun) -> BatchRun:
    """Try a failed run's job again: it continues behind what is done. Raises Conflict when it has not failed."""
    if run.job is None or run.status != JobStatus.FAILED:
        raise errors.Conflict("Only a failed run can go on.", code="not_failed")
    with transaction.atomic():
        jobs.retry(run.job)
        BatchRun.objects.filter(pk=run.pk, status=JobStatus.FAILED).update(
            status=JobStatus.QUEUED, error=None, finished_at=None
        )
    run.refresh_from_db()
    return run


def end_failed(error: dict[str, Any], batch_id: str) -> None:
    """The job failed for good: so has its run, and says why. What was done stays, to look at or to go on from."""
    BatchRun.objects.filter(pk=batch_id, status__in=OPEN).update(
        status=JobStatus.FAILED, error=error, finished_at=clock.now()
    )


def drop_input(run: BatchRun) -> None:
    """The uploaded file is needed no more; a local copy goes too unless another run reads the same bytes."""
    storage.delete(run.file_key)
    if not BatchRun.objects.filter(sha256=run.sha256, status__in=OPEN).exclude(pk=run.pk).exists():
        with contextlib.suppress(OSError):
            shutil.rmtree(settings.ARTIFACT_DIR / run.sha256)


def forget(older_than: timedelta) -> int:
    """Delete runs that ended longer ago, with their files. Returns how many."""
    old = BatchRun.objects.filter(finished_at__lt=clock.now() - older_than).exclude(status__in=OPEN)
    count = 0
    for run in list(old[:10_000]):
        storage.delete_folder(folder_of(run))
        drop_input(run)
        run.delete()
        count += 1
    return count
