"""Guarded rollouts: a version gets 1, 10, 50, then 100 % of the requests, and is taken back by itself when it does worse.

``tick`` decides, whoever calls it: the shipper after each batch, a job each minute, a page that is looked at. Each decision holds the
deployment's row and compares the rollout's revision: of two that decide at once, one acts. What counts is what the shipper counted
(``RolloutTally``), so that a decision costs the same for ten requests and for ten million.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors, logs
from registry.models import ModelVersion
from serving import guards
from serving.guards import Arm, Limits
from serving.models import Deployment, DeploymentStatus, Release, Rollout, RolloutTally
from serving.services import deployments, routes
from serving.services.routes import Share

log = logs.get(__name__)

_State = Rollout.State
MOST_STEPS = 10
LONGEST_S = 7 * 24 * 3600


@dataclass(frozen=True)
class Plan:
    """How a rollout goes on, and what it may not do."""

    steps: Sequence[int] = field(default_factory=lambda: (1, 10, 50, 100))
    bake_s: int = 600
    min_requests: int = 100
    max_error_increase: float = 0.02
    max_latency_factor: float = 1.5
    max_shift: float | None = 0.1


def start(deployment: Deployment, version: ModelVersion, caller: Caller, plan: Plan | None = None) -> Rollout:
    """Begin to send requests to ``version``. Raises Invalid, NotDeployable, Conflict, or the runner host's reason."""
    plan = plan or Plan()
    _check_plan(plan)
    deployments.check_deployable(
        version, deployment.organization_id, deployment.model, deployment, place=deployment.name
    )
    info = deployments.warm(version)
    try:
        with transaction.atomic():
            row = routes.locked(deployment.pk)
            champion = _alone(row)
            if champion == version:
                raise errors.Conflict(f"Version {version.number} answers everything already.", code="already_live")
            if Rollout.objects.filter(deployment=row, state__in=Rollout.OPEN).exists():
                raise _under_way(row)
            rollout = Rollout.objects.create(
                organization=row.organization, deployment=row, champion=champion, candidate=version,
                steps=list(plan.steps), bake_s=plan.bake_s, min_requests=plan.min_requests,
                max_error_increase=plan.max_error_increase, max_latency_factor=plan.max_latency_factor,
                max_shift=plan.max_shift, actor=caller.label, created_by=caller.person,
            )  # fmt: skip
            _share_out(row, rollout, caller, Release.Kind.ROLLOUT, warm_ms=info.load_ms)
    except IntegrityError as error:
        raise _under_way(deployment) from error
    return rollout


def _alone(row: Deployment) -> ModelVersion:
    answering = routes.answering(row)
    if row.status != DeploymentStatus.LIVE or not answering:
        raise errors.Conflict(
            f"{row.name} is {row.get_status_display().lower()}, not live.", code="not_live", hint="Start it first."
        )
    if len(answering) > 1:
        raise errors.Conflict(
            "Several versions answer already.",
            code="traffic_is_split",
            hint="Give one version all requests first: a rollout compares with one.",
        )
    return answering[0].version


def _under_way(row: Deployment) -> errors.Conflict:
    return errors.Conflict(
        f"A rollout of {row.name} is under way.", code="rollout_running", hint="Promote or abort it first."
    )


def _check_plan(plan: Plan) -> None:
    wrong: dict[str, list[str]] = {}
    steps = list(plan.steps)
    if not steps or len(steps) > MOST_STEPS or steps[-1] != 100 or steps != sorted(set(steps)) or steps[0] < 1:
        wrong["steps"] = [f"Per cent from 1, rising, the last one 100, at most {MOST_STEPS} of them: 1, 10, 50, 100."]
    if not 0 <= plan.bake_s <= LONGEST_S:
        wrong["bake_seconds"] = [f"0 to {LONGEST_S:,}."]
    if not 1 <= plan.min_requests <= 10_000_000:
        wrong["min_requests"] = ["1 to 10,000,000."]
    if not 0 <= plan.max_error_increase <= 1:
        wrong["max_error_increase"] = ["A share, 0 to 1."]
    if not 1 <= plan.max_latency_factor <= 100:
        wrong["max_latency_factor"] = ["1 to 100."]
    if plan.max_shift is not None and not 0 <= plan.max_shift <= 1:
        wrong["max_shift"] = ["A share, 0 to 1; or null: predictions are not judged."]
    if wrong:
        name, words = next(iter(wrong.items()))
        raise errors.Invalid(f"{name}: {words[0]}", code="invalid_rollout", fields=wrong)


# --- What people do -------------------------------------------------------------------------------------------------------


def hold(rollout: Rollout, caller: Caller) -> Rollout:
    """Stay at this step. The guard goes on watching, and still takes back what fails."""
    return _toggle(rollout, caller, _State.RUNNING, _State.PAUSED, "deployment.rollout_held")


def go_on(rollout: Rollout, caller: Caller) -> Rollout:
    """Go on; the step's time begins anew, its requests count on."""
    return _toggle(rollout, caller, _State.PAUSED, _State.RUNNING, "deployment.rollout_resumed")


def _toggle(rollout: Rollout, caller: Caller, before: Rollout.State, after: Rollout.State, action: str) -> Rollout:
    with transaction.atomic():
        row = routes.locked(rollout.deployment_id)
        moved = Rollout.objects.filter(pk=rollout.pk, state=before).update(
            state=after, revision=F("revision") + 1, baking_since=clock.now()
        )
        if moved != 1:
            raise _not_so(rollout, before)
        audit.record(row.organization, caller, action, row, version=rollout.candidate.number, share=rollout.share)
    return _read(rollout.pk)


def promote(rollout: Rollout, caller: Caller) -> Rollout:
    """All requests to the candidate, now, whatever was judged. Raises Conflict when it has ended."""
    with transaction.atomic():
        row, found = _held(rollout)
        reason = f"Promoted by {caller.label} at {found.share} %."
        _end(row, found, caller, _State.DONE, Release.Kind.PROMOTE, found.candidate, reason)
    return _read(rollout.pk)


def abort(rollout: Rollout, caller: Caller) -> Rollout:
    """All requests back to the version before. Raises Conflict when it has ended."""
    with transaction.atomic():
        row, found = _held(rollout)
        reason = f"Ended by {caller.label} at {found.share} %."
        _end(row, found, caller, _State.ABORTED, Release.Kind.ABORT, found.champion, reason)
    return _read(rollout.pk)


def _held(rollout: Rollout) -> tuple[Deployment, Rollout]:
    """Deployment and rollout, held. Raises Conflict when it has ended."""
    row = routes.locked(rollout.deployment_id)
    found = _rows().select_for_update(of=("self",)).get(pk=rollout.pk)
    if not found.open:
        raise _not_so(found, _State.RUNNING)
    return row, found


def _not_so(rollout: Rollout, wanted: Rollout.State) -> errors.Conflict:
    now = _read(rollout.pk)
    return errors.Conflict(
        f"The rollout of version {now.candidate.number} is {now.get_state_display().lower()}, not {wanted.label.lower()}.",
        code="rollout_ended" if not now.open else f"rollout_not_{wanted}",
        hint="Look again, then repeat.",
    )


# --- What happens by itself -----------------------------------------------------------------------------------------------


def tick_all() -> int:
    """Look at every open rollout. Returns how many moved. One that cannot be judged costs only itself."""
    moved = 0
    for rollout in _rows().filter(state__in=Rollout.OPEN):
        try:
            moved += tick(rollout)
        except Exception:  # noqa: BLE001  the others must still be looked at
            log.exception("rollout_failed", rollout=rollout.pk, deployment=rollout.deployment_id)
    return moved


def tick(rollout: Rollout, now: datetime | None = None) -> bool:
    """Take it back, take the next step, or wait. True when it moved. Safe to call from anywhere, at once, again and again."""
    if not rollout.open or rollout.deployment.status != DeploymentStatus.LIVE:
        return False
    seen = look(rollout, now)
    failed = next((check for check in seen.checks if check["state"] == "failed"), None)
    if failed is None and not seen.passed:
        return False
    with transaction.atomic():
        row = routes.locked(rollout.deployment_id)
        found = _rows().select_for_update(of=("self",)).filter(pk=rollout.pk, revision=rollout.revision).first()
        if found is None or not found.open or row.status != DeploymentStatus.LIVE:
            return False  # somebody else has decided
        found.checks = seen.checks
        if failed is not None:
            reason = f"{_WHAT[failed['name']]} {failed['sentence']}"
            _end(row, found, None, _State.ROLLED_BACK, Release.Kind.RETREAT, found.champion, reason)
        elif found.step + 1 < len(found.steps):
            found.step += 1
            found.step_started_at = found.baking_since = clock.now()
            _save(found)
            _share_out(row, found, None, Release.Kind.STEP)
        else:
            reason = "Every step was passed."
            _end(row, found, None, _State.DONE, Release.Kind.PROMOTE, found.candidate, reason)
    log.info("rollout_moved", rollout=found.pk, state=found.state, step=found.step, reason=found.reason)
    return True


_WHAT = {
    "errors": "It failed more often:",
    "latency": "It answered more slowly:",
    "predictions": "It predicted differently:",
}


@dataclass(frozen=True)
class Seen:
    """A rollout at a glance: its step's two arms, what was judged, and what it waits for. ``passed``: the step may end."""

    candidate: Arm
    champion: Arm
    checks: list[dict[str, Any]]
    baked_until: datetime
    passed: bool
    waiting: str


def look(rollout: Rollout, now: datetime | None = None) -> Seen:
    """One query. Changes nothing."""
    now = now or clock.now()
    candidate, champion = _arms(rollout)
    limits = Limits(rollout.max_error_increase, rollout.max_latency_factor, rollout.max_shift, rollout.min_requests)
    checks = guards.judge(candidate, champion, limits) if rollout.open else rollout.checks
    until = rollout.baking_since + timedelta(seconds=rollout.bake_s)
    enough = candidate.requests >= rollout.min_requests
    calm = not any(check["state"] == "failed" for check in checks)
    passed = rollout.state == _State.RUNNING and now >= until and enough and calm
    return Seen(candidate, champion, checks, until, passed, _waiting(rollout, candidate, until, now))


def _waiting(rollout: Rollout, candidate: Arm, until: datetime, now: datetime) -> str:
    if not rollout.open:
        return ""
    if rollout.deployment.status == DeploymentStatus.PAUSED:
        return "The deployment is paused: the rollout stands still."
    if rollout.state == _State.PAUSED:
        return "Held: it stays at this step, and is taken back if it fails."
    if candidate.requests < rollout.min_requests:
        return f"Waiting for traffic: {candidate.requests:,} of {rollout.min_requests:,} requests of this step."
    if now < until:
        return "Baking: the requests are enough, the time is not over."
    return "About to move."


def _arms(rollout: Rollout) -> tuple[Arm, Arm]:
    """Candidate and live version in this step. Where the live version answers (almost) nothing, as at 100 %, its steps before stand in."""
    by_step: dict[tuple[int, int], Arm] = {}
    for tally in RolloutTally.objects.filter(rollout=rollout):
        by_step[tally.step, tally.version_id] = arm_of(tally)
    candidate = by_step.get((rollout.step, rollout.candidate_id)) or Arm()
    champion = by_step.get((rollout.step, rollout.champion_id)) or Arm()
    if champion.requests < rollout.min_requests:
        champion = guards.joined([arm for (_, version), arm in by_step.items() if version == rollout.champion_id])
    return candidate, champion


def arm_of(tally: RolloutTally) -> Arm:
    return Arm(
        tally.requests, tally.client_errors + tally.server_errors, tally.latency, tally.labels, tally.sample, tally.sampled
    )  # fmt: skip


# --- The moves ------------------------------------------------------------------------------------------------------------


def _share_out(
    row: Deployment, rollout: Rollout, caller: Caller | None, kind: Release.Kind, warm_ms: float | None = None
) -> None:
    both = (rollout.candidate, rollout.champion)
    shares = [Share(rollout.candidate, rollout.share), Share(rollout.champion, 100 - rollout.share)]
    shares = [share for share in shares if share.weight] + routes.shadows(row, but=both)
    note = f"Version {rollout.candidate.number} answers {rollout.share} % of the requests."
    detail = {"candidate": rollout.candidate.number, "share": rollout.share}
    routes.switch(row, shares, caller, kind, warm_ms=warm_ms, note=note, live=False, detail=detail)


def _end(
    row: Deployment, rollout: Rollout, caller: Caller | None, state: Rollout.State, kind: Release.Kind,
    winner: ModelVersion, reason: str,
) -> None:  # fmt: skip
    if not rollout.checks:
        rollout.checks = look(rollout).checks
    rollout.state, rollout.reason, rollout.ended_at = state, reason[: routes.NOTE_CHARACTERS], clock.now()
    _save(rollout)
    shares = [Share(winner, 100), *routes.shadows(row, but=[rollout.candidate, rollout.champion])]
    note = reason if winner == rollout.candidate else f"Version {rollout.candidate.number} was taken back. {reason}"
    detail = {"candidate": rollout.candidate.number, "reason": reason}
    routes.switch(row, shares, caller, kind, note=note, live=False, detail=detail)


def _save(rollout: Rollout) -> None:
    rollout.revision += 1
    rollout.save(
        update_fields=[
            "state", "step", "step_started_at", "baking_since", "reason", "checks", "ended_at", "revision",
        ]
    )  # fmt: skip


def _rows() -> Any:
    return Rollout.objects.select_related(
        "deployment__organization", "deployment__model", "candidate__model", "champion__model"
    )


def _read(pk: int) -> Rollout:
    found: Rollout = _rows().get(pk=pk)
    return found


def latest(deployment: Deployment) -> Rollout | None:
    """The one under way, or the last one."""
    found: Rollout | None = _rows().filter(deployment=deployment).first()
    return found
