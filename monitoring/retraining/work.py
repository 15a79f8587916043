"""The job: takes a run from one state to the next for as long as something can be done, and leaves. A tick comes back each minute."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from mlops.core import clock, errors, logs
from mlops.core.errors import SlipwayError
from mlops.core.storable import storable
from mlops.jobs.models import JobStatus
from mlops.jobs.runner import JobRun
from mlops.runtime.host import HostError
from monitoring.models import Retraining, RetrainingPolicy
from monitoring.retraining import calling, candidates, judging, measuring, releasing, runs, training
from monitoring.retraining.runs import State
from registry.models import VersionStatus
from serving.models import Comparison
from serving.services import comparisons

log = logs.get(__name__)
_SOON = timedelta(seconds=30)
_COMPARING = timedelta(hours=3)
# What passes by itself: the run stays where it is and is looked at again, until it is overdue.
_PASSING = (
    "runner_host_unavailable", "sandbox_unavailable", "busy", "cache_full", "build_timeout", "build_taken_over", "rollout_running",
    "traffic_is_split", "already_running", "unreachable", "database_unavailable", "storage_unavailable",
)  # fmt: skip


def take_on(job: JobRun, retraining_id: int) -> None:
    """May be killed anywhere and run again, also twice at once: what was done is found, and a move that somebody else made is left alone."""
    for _ in range(20):
        run = Retraining.objects.filter(pk=retraining_id).first()
        if run is None or not run.open or run.next_at > clock.now():
            return
        run = runs.read(retraining_id)
        before = (run.state, run.revision)
        try:
            if not _overdue(run):
                _HANDLERS[run.state](job, run)
        except runs.Moved:
            continue
        except (SlipwayError, HostError) as error:
            _troubled(run, error)
        after = Retraining.objects.values_list("state", "revision").get(pk=retraining_id)
        if after == before:
            return


def end_failed(error: dict[str, object], retraining_id: int) -> None:
    """The job crashed too often: so has the run, and says why."""
    run = Retraining.objects.filter(pk=retraining_id).first()
    if run is not None and run.open:
        _ended(
            runs.read(retraining_id), State.FAILED, str(error.get("detail") or "The job failed."), error=storable(error)
        )


def _troubled(run: Retraining, error: SlipwayError | HostError) -> None:
    code, detail = str(error.code), str(error.detail)
    told = {"code": code, "detail": detail, "hint": str(error.hint)}
    run = runs.read(run.pk)
    if not run.open:
        return
    if code in _PASSING or getattr(error, "retry_after_s", None):
        log.info("retraining_waits", retraining=run.pk, state=run.state, code=code)
        _unless_moved(lambda: runs.later(run, _SOON, error=storable(told)))
        return
    _ended(run, State.FAILED, detail, error=storable(told))


def _ended(run: Retraining, state: str, text: str, **fields: object) -> None:
    _unless_moved(lambda: runs.move(run, state, text, **fields))
    if run.state in (State.QUEUED, State.TRAINING):
        training.stop(run, text)
        training.forget(run)


def _unless_moved(act: Callable[[], object]) -> None:
    try:
        act()
    except runs.Moved:
        return


_LATE = {
    State.QUEUED: "It did not come to its turn in time.",
    State.TRAINING: "The training did not end in time.",
    State.WAITING: "No candidate came in time.",
    State.VALIDATING: "The candidate's validation did not end in time.",
    State.COMPARING: "The comparison did not end in time.",
    State.PROPOSED: "Nobody decided in time.",
    State.APPROVAL: "Nobody approved it in time.",
}


def _overdue(run: Retraining) -> bool:
    if run.due_at is None or clock.now() < run.due_at:
        return False
    if run.state == State.WAITING and candidates.of(run) is not None:
        return False  # it came in the last moment
    _ended(run, State.TIMED_OUT, _LATE.get(State(run.state), "It took too long."))
    return True


# -- one state each -------------------------------------------------------------------------------------------------


def _queued(job: JobRun, run: Retraining) -> None:
    if run.terms["way"] == RetrainingPolicy.Way.WEBHOOK:
        with job.step("call"):
            calling.call(run)
    else:
        training.begin(job, run)


def _waiting(job: JobRun, run: Retraining) -> None:
    found = candidates.of(run)
    if found is None:
        runs.later(run)
    else:
        candidates.accept(run, found)


def _validating(job: JobRun, run: Retraining) -> None:
    version = run.candidate
    if version is None:
        runs.move(run, State.FAILED, "The candidate was deleted.")
    elif version.status == VersionStatus.FAILED:
        finding = version.findings.filter(level="error").first()
        runs.move(
            run,
            State.FAILED,
            f"The candidate's validation failed: {finding.message if finding else 'see its page'}"[:500],
        )
    elif version.status != VersionStatus.READY:
        runs.later(run, _SOON)
    elif candidates.same_content(version, run.champion):
        runs.move(run, State.REJECTED, candidates.NOTHING_NEW)
    else:
        text = f"Version {version.number} passed its validation."
        runs.move(run, State.COMPARING, text, due_at=clock.now() + _COMPARING)


def _comparing(job: JobRun, run: Retraining) -> None:
    """Replayed traffic is a job of serving's own; the labelled rows are asked here, meanwhile."""
    assert run.candidate is not None
    if run.comparison is None:
        known = Comparison.objects.filter(
            deployment=run.deployment, candidate=run.candidate, champion=run.champion, created_at__gte=run.moved_at
        ).first()
        started = known or comparisons.start(
            deployment=run.deployment,
            candidate=run.candidate,
            last=run.terms["replay_rows"],
            caller=runs.caller_of(run, "deployment.write"),
        )
        run = runs.keep(run, comparison=started)
    if "reference" not in run.figures:
        with job.step("compare"):
            found = measuring.labelled(run, job.beat)
        run = runs.keep(run, figures={**run.figures, **found})
    comparison = run.comparison
    if comparison is None or not comparison.ended:
        runs.later(run, timedelta(seconds=10))
        return
    _decide(run, comparison)


def _decide(run: Retraining, comparison: Comparison) -> None:
    if comparison.status == JobStatus.DONE:
        replay = measuring.replayed(comparison)
    else:
        detail = str((comparison.error or {}).get("detail") or "it failed")
        replay = {"rows": 0, "failed": 0, "changed": None, "error": detail}
    figures = {**run.figures, "replay": replay}
    checks = measuring.judged(run, figures)
    figures["checks"] = [{"name": each.name, "verdict": each.verdict, "sentence": each.sentence} for each in checks]
    run = runs.keep(run, figures=storable(figures))
    verdict = judging.outcome(checks)
    bad = " ".join(each.sentence for each in checks if each.verdict == "failed")
    unsaid = " ".join(each.sentence for each in checks if each.verdict == "unknown")
    due = clock.now() + timedelta(days=run.terms["candidate_days"])
    if verdict == "failed":
        runs.move(run, State.REJECTED, f"It is not better by the policy's rule. {bad}")
    elif run.terms["action"] == RetrainingPolicy.Action.PROPOSE:
        runs.move(run, State.PROPOSED, f"Somebody is to decide. {unsaid}".strip(), due_at=due)
    elif verdict == "unknown":
        runs.move(
            run, State.PROPOSED, f"Not rolled out by itself, for not everything could be said. {unsaid}", due_at=due
        )
    elif run.deployment.live_version != run.champion:
        text = "Not rolled out by itself: another version is live by now than the one it was compared with."
        runs.move(run, State.PROPOSED, text, due_at=due)
    else:
        _release(run)


def _release(run: Retraining) -> None:
    """By the policy itself; what stands in the way and does not pass makes it a proposal, for the candidate is good."""
    try:
        releasing.release(run, runs.caller_of(run, "deployment.write"))
    except errors.SlipwayError as error:
        if error.code in _PASSING:
            raise
        due = clock.now() + timedelta(days=run.terms["candidate_days"])
        runs.move(runs.read(run.pk), State.PROPOSED, f"It could not be rolled out: {error.detail}", due_at=due)


def _proposed(job: JobRun, run: Retraining) -> None:
    runs.later(run, timedelta(minutes=30))


def _approval(job: JobRun, run: Retraining) -> None:
    releasing.look_at_approval(run)


def _rolling_out(job: JobRun, run: Retraining) -> None:
    releasing.look_at_rollout(run)


_HANDLERS: dict[str, Callable[[JobRun, Retraining], None]] = {
    State.QUEUED: _queued,
    State.TRAINING: training.look,
    State.WAITING: _waiting,
    State.VALIDATING: _validating,
    State.COMPARING: _comparing,
    State.PROPOSED: _proposed,
    State.APPROVAL: _approval,
    State.ROLLING_OUT: _rolling_out,
}
