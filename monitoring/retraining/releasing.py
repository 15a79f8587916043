"""What is done with a candidate: proposed, put to those who must approve, rolled out guarded, promoted or rejected."""

from __future__ import annotations

from datetime import timedelta

from accounts.caller import Caller
from mlops.core import clock, errors
from monitoring.models import Retraining
from monitoring.retraining import runs, training
from monitoring.retraining.runs import State
from registry.models import ModelVersion, Promotion, Stage
from registry.services import promotions, stages
from serving.models import Deployment, Rollout
from serving.services import rollouts
from serving.services.rollouts import Plan

_Promotion, _Rollout = Promotion.State, Rollout.State
_SOON = timedelta(seconds=60)


# -- what people do -------------------------------------------------------------------------------------------------


def promote(run: Retraining, caller: Caller) -> Retraining:
    """A person takes a proposed candidate. Raises Conflict when it is not proposed."""
    if run.state != State.PROPOSED:
        raise _not(run, "proposed")
    try:
        release(run, caller)
    except runs.Moved:
        raise _not(runs.read(run.pk), "proposed") from None
    return runs.read(run.pk)


def reject(run: Retraining, caller: Caller, why: str = "") -> Retraining:
    """A person does not want it. Raises Conflict when it waits for nobody's word."""
    if run.state not in (State.PROPOSED, State.APPROVAL):
        raise _not(run, "proposed")
    text = f"Rejected by {caller.label}" + (f": {why.strip()[:300]}" if why.strip() else ".")
    try:
        return runs.move(run, State.REJECTED, text, caller=caller)
    except runs.Moved:
        raise _not(runs.read(run.pk), "proposed") from None


def cancel(run: Retraining, caller: Caller) -> Retraining:
    """End it, wherever it is; a training is stopped, a rollout is taken back. Raises Conflict when it has ended."""
    if not run.open:
        raise _not(run, "open")
    try:
        ended = runs.move(run, State.CANCELLED, f"Cancelled by {caller.label}.", caller=caller)
    except runs.Moved:
        raise _not(runs.read(run.pk), "as it was") from None
    if run.state in (State.TRAINING, State.QUEUED):
        training.stop(run, f"Cancelled by {caller.label}.")
        training.forget(run)
    if run.rollout is not None and run.rollout.open:
        rollouts.abort(run.rollout, caller)
    return ended


def _not(run: Retraining, what: str) -> errors.Conflict:
    return errors.Conflict(
        f"Retraining {run.pk} is {run.get_state_display().lower()}, not {what}.",
        code=f"not_{what.split()[0]}",
        hint="Reload the page.",
    )


# -- what happens by itself -----------------------------------------------------------------------------------------


def release(run: Retraining, caller: Caller) -> None:
    """Roll the candidate out, or ask for the approvals that its deployment needs first. Raises SlipwayError, Moved."""
    version = _candidate(run)
    missing = _missing_stage(version, run.deployment)
    if missing is not None:
        promotion = _asked(version, caller, missing, run)
        if promotion.state == _Promotion.REQUESTED:
            due = clock.now() + timedelta(days=run.terms["candidate_days"])
            text = f"{run.deployment.name} needs approvals: the promotion to {missing.value} was asked for."
            if run.state == State.APPROVAL:
                runs.later(run, _SOON, promotion=promotion)
            else:
                runs.move(run, State.APPROVAL, text, caller=caller, promotion=promotion, due_at=due)
            return
    rollout = _begun(run, version, caller)
    steps = ", ".join(f"{each}" for each in rollout.steps)
    runs.move(
        run,
        State.ROLLING_OUT,
        f"Version {version.number} takes over in steps: {steps} %.",
        caller=caller,
        rollout=rollout,
    )


def _candidate(run: Retraining) -> ModelVersion:
    if run.candidate is None:
        raise errors.Conflict("The candidate was deleted.", code="no_candidate", hint="Begin a new retraining.")
    return run.candidate


def _missing_stage(version: ModelVersion, deployment: Deployment) -> Stage | None:
    """The next stage that somebody has to approve before it may answer there; None when nobody has to."""
    policy = stages.policy_of(version.model)
    wanted = policy.stage_of(deployment.name)
    try:
        stages.require_stage(version, wanted, policy, deployment.name)
    except errors.Conflict as error:
        if error.code != "not_promoted":
            raise
        if wanted == Stage.PRODUCTION and policy.staging_approvals:
            try:
                stages.require_stage(version, Stage.STAGING, policy)
            except errors.Conflict:
                return Stage.STAGING
        return wanted
    return None


def _asked(version: ModelVersion, caller: Caller, stage: Stage, run: Retraining) -> Promotion:
    """An open promotion to this stage; one that was asked for already is as good."""
    waiting = version.promotions.filter(to_stage=stage, state=_Promotion.REQUESTED).first()
    if waiting is not None:
        return waiting
    return promotions.request_promotion(
        version, caller, to=stage.value, reason=f"Retraining {run.pk}: {run.reason.get('what') or ''}"
    )


def _begun(run: Retraining, version: ModelVersion, caller: Caller) -> Rollout:
    """A guarded rollout of the candidate; one that a killed worker has begun is taken over."""
    open_ = Rollout.objects.filter(deployment=run.deployment, candidate=version, state__in=Rollout.OPEN).first()
    if open_ is not None:
        return open_
    plan = Plan(
        bake_s=60 * run.terms["bake_minutes"],
        min_requests=run.terms["min_requests"],
        max_shift=None if run.drift else run.terms["max_change"],  # what the replay was allowed, traffic is allowed
    )
    return rollouts.start(run.deployment, version, caller, plan)


def look_at_approval(run: Retraining) -> None:
    """Approved: on. Rejected or withdrawn: over."""
    promotion = run.promotion
    if promotion is None or promotion.state in (_Promotion.REJECTED, _Promotion.WITHDRAWN, _Promotion.REVOKED):
        word = promotion.get_state_display().lower() if promotion is not None else "deleted"
        runs.move(run, State.REJECTED, f"Its promotion was {word}.")
    elif promotion.state == _Promotion.REQUESTED:
        runs.later(run, _SOON)
    else:
        release(run, runs.caller_of(run, "deployment.write"))


def look_at_rollout(run: Retraining) -> None:
    """What became of the rollout."""
    rollout = run.rollout
    if rollout is None:
        runs.move(run, State.FAILED, "Its rollout was deleted.")
    elif rollout.open:
        runs.later(run, timedelta(seconds=30))
    elif rollout.state == _Rollout.DONE:
        runs.move(run, State.PROMOTED, f"Version {_candidate(run).number} answers everything. {rollout.reason}".strip())
    else:
        runs.move(run, State.REJECTED, f"The rollout was taken back. {rollout.reason}".strip())
