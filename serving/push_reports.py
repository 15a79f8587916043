"""Telling the git server what becomes of a push: the commit's status and one comment on the pull request. A deploy never waits for it.

Every change of a push's state enqueues ``report_push``. One of them at a time tells what is so now; one that comes meanwhile leaves it
to that, which looks again before it ends. ``SourcePush.report`` keeps {"job", "facts", "told", "trouble", "again_at", "tries"}.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any

from django.db import transaction

from mlops.core import logs
from mlops.core.errors import SlipwayError
from mlops.jobs import queue
from mlops.jobs.models import Job, JobStatus
from mlops.jobs.runner import JobRun
from registry.git import github
from registry.git.github import Busy
from registry.models import PushStatus, Source, SourcePush
from registry.push_steps import steps_of
from serving import push_facts, push_words

log = logs.get(__name__)
TRIES = 50
_FIRST_WAIT_S, _MOST_WAIT_S = 30.0, 1800.0
_TURNS = 20  # times one job looks again before it leaves the rest to the next
_NEIGHBOUR_S = 10.0


def listen(push: SourcePush, **kwargs: Any) -> None:
    """In the transaction of the move. Without a credential nothing can be told; what is live is measured for its own page all the same."""
    if tells(push.source) or push.status == PushStatus.LIVE or (push.report or {}).get("trouble"):
        enqueue(push)


def enqueue(push: SourcePush) -> None:
    args = {"push_id": push.pk}
    queue.enqueue("report_push", organization=push.organization, subject=push, args=args, created_by=push.created_by)


def tells(source: Source) -> bool:
    return source.kind == Source.Kind.GITHUB and github.has_credential(source)


def retry() -> None:
    """Each minute: what the git server did not take is told again when its time has come."""
    due = SourcePush.objects.filter(report__again_at__lte=time.time()).select_related("organization", "created_by")
    for push in due[:200]:
        with transaction.atomic():
            _save(push, again_at=None)
            enqueue(push)


def end_failed(error: dict[str, Any], push_id: int) -> None:
    """The job crashed, or its workers died: another one tells later."""
    push = SourcePush.objects.filter(pk=push_id).first()
    if push is not None:
        log.warning("push_report_failed", push=push_id, code=error.get("code"))
        tries = int((push.report or {}).get("tries") or 0) + 1
        _save(push, job=None, tries=tries, again_at=time.time() + _MOST_WAIT_S if tries < TRIES else None)


def work(run: JobRun, push_id: int) -> None:
    """May be killed anywhere and run again."""
    if not _take(run, push_id):
        return
    for _ in range(_TURNS):
        push = _row(push_id)
        if push is None:
            return
        seen = _state(push)
        if not tells(push.source):  # there may have been a credential
            _save(push, trouble=None, again_at=None, tries=None)
        elif not _asked_to_wait(push):
            _tell(run, push)
        if push.status == PushStatus.LIVE and (push.report or {}).get("facts", {}).get("of") != _measured(push):
            with run.step("measure"):
                facts = push_facts.measure(run, push)
            _save(push, facts={**facts, "of": _measured(push)})
            continue
        if _leave(push_id, seen):
            return


def _row(push_id: int) -> SourcePush | None:
    related = (
        "source",
        "organization",
        "created_by",
        "job",
        "version__model",
        "version__organization",
        "version__environment",
    )
    return SourcePush.objects.select_related(*related).filter(pk=push_id).first()


def _state(push: SourcePush) -> tuple[Any, ...]:
    """What there is to tell hangs on this."""
    return push.status, push.pull_request, push.preview, push.version_id, push.sha, _newest(push)


def _measured(push: SourcePush) -> str:
    return f"{push.version_id} {push.production}"


# --- One at a time --------------------------------------------------------------------------------------------------------


def _take(run: JobRun, push_id: int) -> bool:
    """False when another job is telling: it looks at the row once more, after this, before it ends."""
    with transaction.atomic():
        push = SourcePush.objects.select_for_update().filter(pk=push_id).first()
        if push is None:
            return False
        other = (push.report or {}).get("job")
        if other not in (None, run.job_id) and Job.objects.filter(pk=other, status=JobStatus.RUNNING).exists():
            return False
        _save(push, job=run.job_id)
    return True


def _leave(push_id: int, seen: tuple[Any, ...]) -> bool:
    """True when nothing has changed since it was told."""
    with transaction.atomic():
        push = SourcePush.objects.select_for_update().filter(pk=push_id).first()
        if push is None:
            return True
        if _state(push) != seen:
            return False
        _save(push, job=None)
    return True


def _save(push: SourcePush, **parts: Any) -> None:
    """None takes a part away: PostgreSQL holds JSON's null for less than any number."""
    report = {**(push.report or {}), **parts}
    push.report = {name: value for name, value in report.items() if value is not None}
    push.save(update_fields=["report"])


# --- Telling --------------------------------------------------------------------------------------------------------------


def _tell(run: JobRun, push: SourcePush) -> None:
    """Whatever goes wrong is written down for the source's page, and most of it tried again."""
    try:
        with run.step("status"):
            _status(push)
        if push.pull_request is not None and _newest(push):
            with run.step("comment"):
                _comment(run, push)
    except Busy as busy:
        _later(push, busy, busy.after_s)
    except SlipwayError as error:
        tries = int((push.report or {}).get("tries") or 0)
        _later(push, error, min(_MOST_WAIT_S, _FIRST_WAIT_S * 2**tries))
    else:
        _save(push, trouble=None, again_at=None, tries=0)


def _asked_to_wait(push: SourcePush) -> bool:
    report = push.report or {}
    busy = (report.get("trouble") or {}).get("code") == Busy.code
    return busy and (report.get("again_at") or 0) > time.time()


def _later(push: SourcePush, error: SlipwayError, after_s: float) -> None:
    tries = int((push.report or {}).get("tries") or 0) + 1
    trouble = {"code": error.code, "detail": error.detail, "hint": error.hint, "at": int(time.time())}
    _save(push, trouble=trouble, tries=tries, again_at=time.time() + after_s if tries < TRIES else None)
    log.info("push_not_told", push=push.pk, code=error.code, after_s=round(after_s))


def _told(push: SourcePush, what: str) -> Any:
    return ((push.report or {}).get("told") or {}).get(what)


def _note(push: SourcePush, **told: Any) -> None:
    _save(push, told={**((push.report or {}).get("told") or {}), **told})


def _status(push: SourcePush) -> None:
    if not push.sha:  # the branch's head is not known yet
        return
    line, page = push_words.line(push), push_words.page_of(push)
    said = [push.sha, line.state, line.description]
    if _told(push, "status") == said:
        return
    github.github_of(push.source).set_status(
        push.sha,
        state=line.state,
        description=line.description,
        context=f"slipway/{push.source.deployment}",
        target_url=page,
    )
    _note(push, status=said)


def _newest(push: SourcePush) -> bool:
    """The comment is about the pull request's newest push alone."""
    if push.pull_request is None:
        return True
    later = SourcePush.objects.filter(source_id=push.source_id, pull_request=push.pull_request, pk__gt=push.pk)
    return not later.exists()


def _comment(run: JobRun, push: SourcePush) -> None:
    facts = (push.report or {}).get("facts") or {}
    measured = facts if facts.get("of") == _measured(push) else {}
    body = push_words.comment(push, push_facts.deployment_of(push), steps_of(push), measured)
    digest = hashlib.sha256(body.encode()).hexdigest()
    if push.comment_id is not None and _told(push, "comment") == digest:
        return
    known = push.comment_id or _comment_of_pull_request(run, push)
    found = github.github_of(push.source).comment(
        push.pull_request or 0, body, marker=push_words.marker(push), known=known
    )
    if found != push.comment_id:
        push.comment_id = found
        push.save(update_fields=["comment_id"])
    _note(push, comment=digest)
    if not _newest(push):  # it came while we spoke
        _remind_newest(push)


def _remind_newest(push: SourcePush) -> None:
    rows = SourcePush.objects.filter(source_id=push.source_id, pull_request=push.pull_request)
    newest = rows.select_related("organization", "created_by").order_by("-pk").first()
    if newest is not None:
        with transaction.atomic():
            _note(newest, comment="")
            enqueue(newest)


def _comment_of_pull_request(run: JobRun, push: SourcePush) -> int | None:
    """The comment an earlier push made; when its report is just about to make one, that is waited for."""
    earlier = SourcePush.objects.filter(source_id=push.source_id, pull_request=push.pull_request, pk__lt=push.pk)
    until = time.monotonic() + _NEIGHBOUR_S
    while True:
        found = earlier.filter(comment_id__isnull=False).order_by("-pk").values_list("comment_id", flat=True).first()
        jobs = [job for job in earlier.values_list("report__job", flat=True) if job is not None]
        busy = bool(jobs) and Job.objects.filter(pk__in=jobs, status=JobStatus.RUNNING).exists()
        if found is not None or not busy or time.monotonic() > until:
            return found
        run.beat()
        time.sleep(0.3)
