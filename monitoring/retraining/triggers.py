"""What begins a run by itself, and what keeps it from running in circles.

A deployment has one open run at most. After one, the cooldown holds; no more than so many begin in a week; an incident begins one run at
most, and none when it began shortly after this policy promoted a version (training more would not mend what training did).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from accounts.caller import Caller
from mlops.core import clock, errors, logs
from monitoring import rules
from monitoring.models import Incident, IncidentStatus, Retraining, RetrainingPolicy
from monitoring.retraining import policies, runs, training
from serving.models import Deployment, DeploymentStatus

log = logs.get(__name__)
_Trigger = Retraining.Trigger
_WEEK = timedelta(days=7)
_QUALITY = (rules.QUALITY, rules.ESTIMATE)


def tick() -> dict[str, int]:
    """Each minute: begin what is due, take on what is open. One deployment's trouble is no other's."""
    counts = {"begun": 0, "taken_on": 0}
    policies_due = RetrainingPolicy.objects.filter(
        enabled=True, paused_at__isnull=True, deployment__status=DeploymentStatus.LIVE
    ).select_related("deployment__organization", "deployment__model", "changed_by")
    for policy in policies_due:
        try:
            counts["begun"] += begin_due(policy)
        except Exception:  # noqa: BLE001  the others must still be looked at
            log.exception("retraining_trigger_failed", policy=policy.pk)
    for run in Retraining.objects.filter(ended_at__isnull=True, next_at__lte=clock.now()).select_related(
        "organization"
    ):
        counts["taken_on"] += runs.go_on(run) is not None
    return counts


def begin_by_hand(
    deployment: Deployment, caller: Caller, why: str = "", incident: Incident | None = None
) -> Retraining:
    """Now, by a person's wish: no cooldown, no count. Raises Conflict when one is open or the policy cannot be followed."""
    policy = policies.of(deployment)
    ready = (
        policy.url
        if policy.way == RetrainingPolicy.Way.WEBHOOK
        else policy.bundle_key or policy.code == policy.Code.VERSION
    )
    if policy.pk is None or not ready:
        raise errors.Conflict(
            "Nothing says yet how this deployment is trained.",
            code="no_retraining_policy",
            hint="Give a webhook's address or a train.py on the deployment's Retraining page.",
        )
    reason: dict[str, Any] = {"what": why.strip()[:300] or f"{caller.label} asked for it.", "kinds": []}
    taken = incident is not None and Retraining.objects.filter(deployment=deployment, incident=incident).exists()
    if incident is not None:
        reason = {**_reason(incident, firing(incident)), "what": incident.title}
    return runs.begin(
        deployment, policy, _Trigger.HAND, reason, caller=caller, incident=None if taken else incident
    )  # fmt: skip


def begin_due(policy: RetrainingPolicy) -> bool:
    """Whether a run began."""
    now = clock.now()
    if policy.schedule and policy.next_at is not None and policy.next_at <= now:
        # Taken before it is begun, by compare-and-set: of two ticks one begins, and a refused time is not tried each minute.
        due = policy.next_at
        mine = RetrainingPolicy.objects.filter(pk=policy.pk, next_at=due)
        if mine.update(next_at=policies.next_time(policy, now)) == 1:
            reason = {"what": f"Its schedule: {schedule_words(policy)}.", "since": due.isoformat(), "kinds": []}
            if _begun(policy, _Trigger.SCHEDULE, reason, None):
                return True
    incident = _due_incident(policy)
    if incident is None:
        return False
    return _begun(policy, _Trigger.INCIDENT, _reason(incident, firing(incident)), incident)


def schedule_words(policy: RetrainingPolicy) -> str:
    if policy.schedule == policy.Schedule.WEEKLY:
        days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
        return f"each {days[policy.weekday]} at {policy.hour:02d}:00 UTC"
    return (
        f"every {policy.every_days} days at {policy.hour:02d}:00 UTC"
        if policy.every_days != 1
        else f"each day at {policy.hour:02d}:00 UTC"
    )


def _begun(policy: RetrainingPolicy, trigger: str, reason: dict[str, Any], incident: Incident | None) -> bool:
    refusal = why_not(policy, clock.now())
    if refusal:
        _note(policy, refusal)
        return False
    try:
        runs.begin(policy.deployment, policy, trigger, reason, incident=incident)
    except errors.Conflict as error:
        if error.code != "retraining_open":
            _note(policy, error.detail)
        return False
    return True


def why_not(policy: RetrainingPolicy, now: datetime) -> str:
    """Why no run may begin by itself now; empty when one may."""
    mine = Retraining.objects.filter(deployment=policy.deployment_id)
    last = mine.exclude(state=Retraining.State.CANCELLED).order_by("-pk").first()
    if last is not None and last.open:
        return f"Retraining {last.pk} is under way."
    if last is not None and now - last.created_at < policy.cooldown:
        until = last.created_at + policy.cooldown
        return f"Cooldown: retraining {last.pk} began {last.created_at:%Y-%m-%d %H:%M} UTC, the next may begin {until:%Y-%m-%d %H:%M} UTC."
    lately = mine.filter(created_at__gt=now - _WEEK).exclude(trigger=_Trigger.HAND).count()
    if lately >= policy.most_per_week:
        return f"{lately} runs began within a week, and no more than {policy.most_per_week} may."
    return ""


def _note(policy: RetrainingPolicy, text: str) -> None:
    RetrainingPolicy.objects.filter(pk=policy.pk).exclude(note=text[:500]).update(note=text[:500], noted_at=clock.now())


# -- incidents ------------------------------------------------------------------------------------------------------


def kind_of(signal: dict[str, Any]) -> str:
    """drift, quality, or nothing that training would mend."""
    kind, page = str(signal.get("kind") or ""), str(signal.get("page") or "")
    if kind == rules.DRIFT or page == "drift":
        return "drift"
    return "quality" if page == "quality" or kind in _QUALITY else ""


def open_incident(deployment: Deployment) -> Incident | None:
    """The deployment's open story, when training might mend it."""
    found = Incident.objects.filter(deployment=deployment).exclude(status=IncidentStatus.RESOLVED).first()
    return found if found is not None and any(kind_of(each) for each in firing(found)) else None


def firing(incident: Incident) -> list[dict[str, Any]]:
    return [each for each in incident.signals.values() if each.get("state") == rules.State.FIRING]


def _due_incident(policy: RetrainingPolicy) -> Incident | None:
    """The deployment's open story, when it is of a chosen kind, younger than the policy's last change of mind, and has begun no run yet."""
    if not policy.on_incident:
        return None
    found = (
        Incident.objects.filter(deployment=policy.deployment_id, last_seen_at__gte=policy.counted_from)
        .exclude(status=IncidentStatus.RESOLVED)
        .first()
    )
    if found is None or not {kind_of(each) for each in firing(found)} & set(policy.incident_kinds):
        return None
    if Retraining.objects.filter(deployment=policy.deployment_id, incident=found).exists():
        return None
    promoted = _promoted_before(policy, found.opened_at)
    if promoted is not None:
        number = promoted.candidate.number if promoted.candidate is not None else "?"
        _note(policy, f"The incident of {found.opened_at:%Y-%m-%d %H:%M} UTC begins no run: version {number}, trained again, was promoted shortly before it.")  # fmt: skip
        return None
    return found


def _promoted_before(policy: RetrainingPolicy, opened_at: datetime) -> Retraining | None:
    """A run of this policy whose candidate was promoted within ``quiet_hours`` before that moment."""
    rows = Retraining.objects.filter(
        deployment=policy.deployment_id,
        state=Retraining.State.PROMOTED,
        ended_at__gt=opened_at - timedelta(hours=policy.quiet_hours),
        ended_at__lte=opened_at,
    )
    return rows.select_related("candidate").first()


def _reason(incident: Incident, signals: list[dict[str, Any]]) -> dict[str, Any]:
    """The worst first sentence of each signal that fires: what, since when, likely why."""
    chosen = sorted(signals, key=lambda each: kind_of(each) == "") or list(incident.signals.values())
    first = chosen[0] if chosen else {}
    kinds = sorted({kind_of(each) for each in signals} - {""})
    return {
        "what": str(first.get("what") or incident.title)[:500],
        "since": incident.since.isoformat(),
        "why": str(first.get("why") or "")[:500],
        "kinds": kinds,
        "drift": "drift" in kinds,
        "title": incident.title,
    }


def forget() -> int:
    """Daily: folders of trainings that are no run's any more."""
    return training.sweep()
