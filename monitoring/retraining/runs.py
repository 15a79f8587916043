"""A run's states. Every move compares state and revision and is written with what it tells of: of two workers one moves it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from accounts import audit
from accounts.caller import Caller
from accounts.models import User
from mlops.core import clock, errors, logs
from mlops.core.storable import storable
from mlops.jobs.models import ENDED, Job
from mlops.jobs.queue import enqueue
from monitoring.models import Incident, Retraining, RetrainingPolicy
from monitoring.retraining import policies, telling
from serving.models import Deployment
from serving.services import deployments

log = logs.get(__name__)
State = Retraining.State
JOB = "retrain"
MOVES: dict[str, frozenset[str]] = {
    State.QUEUED: frozenset({State.TRAINING, State.WAITING}),
    State.TRAINING: frozenset({State.QUEUED, State.VALIDATING}),
    State.WAITING: frozenset({State.VALIDATING}),
    State.VALIDATING: frozenset({State.COMPARING}),
    State.COMPARING: frozenset({State.PROPOSED, State.APPROVAL, State.ROLLING_OUT}),
    State.PROPOSED: frozenset({State.APPROVAL, State.ROLLING_OUT}),
    State.APPROVAL: frozenset({State.ROLLING_OUT}),
    State.ROLLING_OUT: frozenset({State.PROMOTED}),
}
_ENDS = frozenset({State.REJECTED, State.FAILED, State.TIMED_OUT, State.CANCELLED})
MOST_BAD = 2  # in a row; then the policy stops itself
LATER = timedelta(minutes=1)
_REASON = 500


class Moved(Exception):
    """Somebody else has moved the run meanwhile."""


# -- begin ----------------------------------------------------------------------------------------------------------


def begin(
    deployment: Deployment, policy: RetrainingPolicy, trigger: str, reason: dict[str, Any], *,
    caller: Caller | None = None, incident: Incident | None = None,
) -> Retraining:  # fmt: skip
    """A new run in the name of ``caller``, else of who set the policy up. Raises Conflict: one is open, nothing is live."""
    champion = deployment.live_version or deployments.last_version(deployment)
    if champion is None:
        raise errors.Conflict(
            f"{deployment.name} has never been live.",
            code="not_live",
            hint="There is nothing to compare with: deploy a version.",
        )
    person = caller.person if caller is not None else policy.changed_by
    if person is None:
        raise errors.Conflict(
            "Nobody stands behind this policy any more.", code="no_person", hint="Save the policy again."
        )
    now = clock.now()
    try:
        with transaction.atomic():
            run = Retraining.objects.create(
                organization_id=deployment.organization_id,
                deployment=deployment,
                trigger=trigger,
                incident=incident,
                reason=storable(reason),
                terms=policies.terms_of(policy),
                champion=champion,
                until=now,
                due_at=now + timedelta(days=1),
                actor=(caller.label if caller is not None else f"policy of {person}")[:200],
                created_by=person,
                steps=[_step(State.QUEUED, str(reason.get("what") or ""), now)],
            )
            transaction.on_commit(lambda: go_on(run))
            telling.begun(run)
            audit.record(
                deployment.organization, caller, "retraining.begun", deployment, retraining=run.pk, trigger=trigger, way=policy.way
            )  # fmt: skip
    except IntegrityError as error:
        raise errors.Conflict(
            f"A retraining of {deployment.name} is under way.",
            code="retraining_open",
            hint="Wait for it, decide on it, or cancel it.",
        ) from error
    log.info("retraining_begun", retraining=run.pk, deployment=deployment.pk, trigger=trigger)
    return run


def caller_of(run: Retraining, action: str) -> Caller:
    """In whose name it acts. Raises Forbidden when that person may no longer do ``action``."""
    person: User | None = run.created_by
    caller = Caller(user=person)
    if person is None or not person.is_active or not caller.can(action, run.organization_id):
        raise errors.Forbidden(
            f"{person or 'Who set this up'} may no longer do this here, and the run acts in that name.",
            code="role_too_low",
            hint="Somebody with the role developer saves the policy, and begins anew.",
        )
    return caller


# -- move -----------------------------------------------------------------------------------------------------------


def move(run: Retraining, to: str, text: str = "", *, caller: Caller | None = None, **fields: Any) -> Retraining:
    """From where ``run`` was read to ``to``. Raises Moved when it is elsewhere by now. Call it last: it is one transaction with its audit row."""
    if to not in MOVES.get(run.state, frozenset()) | (_ENDS if run.open else frozenset()):
        raise ValueError(f"A retraining cannot go from {run.state} to {to}.")
    now = clock.now()
    ended = to in _ENDS or to == State.PROMOTED
    values: dict[str, Any] = {
        "state": to, "revision": F("revision") + 1, "moved_at": now, "attempts": 0, "next_at": now, "due_at": None,
        "steps": [*run.steps, _step(to, text, now)], **fields,
    }  # fmt: skip
    if ended:
        values |= {"ended_at": now, "ended_because": storable(text)[:_REASON]}
    with transaction.atomic():
        mine = Retraining.objects.filter(pk=run.pk, state=run.state, revision=run.revision)
        if mine.update(**values) != 1:
            raise Moved
        moved = read(run.pk)
        if ended:
            _count_failures(moved)
        telling.moved(moved)
        audit.record(
            moved.deployment.organization, caller, f"retraining.{to}", moved.deployment, retraining=moved.pk,
            candidate=moved.candidate.number if moved.candidate else None, reason=text[:200],
        )  # fmt: skip
    log.info("retraining_moved", retraining=run.pk, before=run.state, after=to)
    return moved


def later(run: Retraining, by: timedelta = LATER, **fields: Any) -> None:
    """Stay, and be looked at again after ``by``. Raises Moved."""
    mine = Retraining.objects.filter(pk=run.pk, state=run.state, revision=run.revision)
    if mine.update(next_at=clock.now() + by, revision=F("revision") + 1, **fields) != 1:
        raise Moved


def keep(run: Retraining, **fields: Any) -> Retraining:
    """Write down what was found, in the same state. Raises Moved."""
    mine = Retraining.objects.filter(pk=run.pk, state=run.state, revision=run.revision)
    if mine.update(revision=F("revision") + 1, **fields) != 1:
        raise Moved
    return read(run.pk)


def _step(state: str, text: str, at: datetime) -> dict[str, str]:
    return {"state": str(state), "at": at.isoformat(), "text": storable(text)[:_REASON]}


def _count_failures(run: Retraining) -> None:
    """Two bad ends in a row: the policy stops itself, and says so."""
    policy = RetrainingPolicy.objects.filter(deployment=run.deployment_id).first()
    if policy is None or policy.paused or run.state not in Retraining.BAD:
        return
    ended = Retraining.objects.filter(
        deployment=run.deployment_id, ended_at__isnull=False, created_at__gte=policy.counted_from
    ).exclude(state=State.CANCELLED)
    last = list(ended.order_by("-ended_at", "-pk").values_list("state", flat=True)[:MOST_BAD])
    if len(last) < MOST_BAD or not all(state in Retraining.BAD for state in last):
        return
    words = " and ".join(State(state).label.lower() for state in reversed(last))
    reason = f"The last {MOST_BAD} runs in a row were {words}: it begins no more by itself until somebody has looked."
    stopped = RetrainingPolicy.objects.filter(pk=policy.pk, paused_at__isnull=True).update(
        paused_at=clock.now(), paused_reason=reason
    )
    if stopped:
        telling.paused(run, reason)
        audit.record(run.deployment.organization, None, "retraining.paused", run.deployment, reason=reason)


def read(pk: int) -> Retraining:
    rows = Retraining.objects.select_related(
        "organization", "deployment__organization", "deployment__model", "champion__model", "candidate__model", "comparison", "rollout",
        "promotion", "incident", "created_by",
    )  # fmt: skip
    return rows.get(pk=pk)


# -- the job --------------------------------------------------------------------------------------------------------


def go_on(run: Retraining) -> Job | None:
    """Queue the job that takes it on, unless one waits or runs. Two at once do no harm: moves are compared."""
    waiting = Job.objects.filter(kind=JOB, subject_type="retraining", subject_id=str(run.pk)).exclude(status__in=ENDED)
    if not run.open or waiting.exists():
        return None
    return enqueue(
        JOB, organization=run.organization, subject=run, args={"retraining_id": run.pk}, created_by=run.created_by
    )


def hurry(pk: int) -> Retraining:
    """Something it waits for has come: it is looked at now."""
    Retraining.objects.filter(pk=pk, ended_at__isnull=True, state__in=(State.WAITING, State.VALIDATING)).update(
        next_at=clock.now()
    )
    return read(pk)
