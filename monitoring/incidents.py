"""Incidents: one story per deployment at a time. Every change is made on the locked row (or by compare-and-set), and
the mails that tell of it are outbox rows of the same transaction: two workers cannot tell the same thing twice.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors, logs
from monitoring import delivery, notices, people, rules
from monitoring.models import Incident, IncidentEvent, IncidentStatus
from registry.models import ModelVersion
from serving.models import Deployment

log = logs.get(__name__)
# Reminders of an open incident that nobody has acknowledged: after 4 h, 8 h, 16 h, then each day.
REMIND_AFTER = timedelta(hours=4)
REMIND_AT_MOST = timedelta(hours=24)
# What comes back so soon is the same story: the incident is opened again instead of a new one.
SAME_STORY = timedelta(hours=4)
SNOOZE_HOURS = (1, 4, 24, 72, 168)
_ACTIVE = (IncidentStatus.OPEN, IncidentStatus.ACKNOWLEDGED, IncidentStatus.SNOOZED)


# -- what rules find ----------------------------------------------------------------------------------------------


@transaction.atomic
def observe(deployment: Deployment, version: ModelVersion | None, found: rules.Finding) -> Incident | None:
    """Take one finding into the deployment's story. Returns the incident it touched."""
    incident = _active(deployment)
    if found.state is rules.State.FIRING:
        return _fire(deployment, version, found, incident)
    if incident is not None and found.state is rules.State.CALM and found.kind in incident.signals:
        _calm(incident, found.kind)
    return incident


def _active(deployment: Deployment) -> Incident | None:
    """The deployment's open story, locked until the transaction ends."""
    return Incident.objects.select_for_update().filter(deployment=deployment, status__in=_ACTIVE).first()


def _fire(
    deployment: Deployment, version: ModelVersion | None, found: rules.Finding, incident: Incident | None
) -> Incident:
    now = clock.now()
    if incident is None:
        incident, is_new = _open(deployment, version, found, now)
        if is_new:
            _tell(incident, now)
            return incident
    before = incident.signals.get(found.kind)
    is_news = before is None or before["state"] != rules.State.FIRING
    incident.signals[found.kind] = _signal(found, now, before if not is_news else None)
    incident.last_seen_at = now
    if is_news:
        _event(incident, "signal", found.what)
        incident.title = _title(incident)
    woke = (
        incident.status == IncidentStatus.SNOOZED
        and incident.snoozed_until is not None
        and incident.snoozed_until <= now
    )
    if woke:
        incident.status, incident.snoozed_until = IncidentStatus.OPEN, None
        _event(incident, "woke", "The snooze is over and it still goes on.")
    incident.save()
    if incident.status == IncidentStatus.OPEN and (before is None or woke or _reminder_due(incident, now)):
        _tell(incident, now, reminder=before is not None)
    return incident


def _open(
    deployment: Deployment, version: ModelVersion | None, found: rules.Finding, now: datetime
) -> tuple[Incident, bool]:
    """A new incident, or the one that was resolved a short while ago. (incident, whether it is to be told as new)."""
    recent = (
        Incident.objects.select_for_update()
        .filter(deployment=deployment, status=IncidentStatus.RESOLVED, resolved_at__gt=now - SAME_STORY)
        .first()
    )
    if recent is not None and found.kind in recent.signals and recent.version_id == getattr(version, "pk", None):
        recent.status, recent.resolved_at = IncidentStatus.OPEN, None
        _event(recent, "reopened", found.what)
        return recent, False
    fresh = Incident(
        organization_id=deployment.organization_id,
        deployment=deployment,
        version=version,
        title=found.title[:300],
        signals={found.kind: _signal(found, now, None)},
        since=found.since or now,
        opened_at=now,
        last_seen_at=now,
    )
    try:
        with transaction.atomic():
            fresh.save()
    except IntegrityError:  # another worker opened it between our look and our insert
        other = _active(deployment)
        if other is None:
            raise
        return other, False
    _event(fresh, "opened", found.what)
    log.info("incident_opened", incident=fresh.pk, deployment=deployment.pk, kind=found.kind)
    return fresh, True


def _signal(found: rules.Finding, now: datetime, before: dict[str, Any] | None) -> dict[str, Any]:
    kept = asdict(found) | {
        "state": rules.State.FIRING.value,
        "todo": list(found.todo),
        "seen_at": now.isoformat(),
        "calm_checks": 0,
    }
    since = found.since or now
    kept["since"] = min(before["since"], since.isoformat()) if before else since.isoformat()
    return kept


def _calm(incident: Incident, kind: str) -> None:
    """One calm check of a signal; when all signals have been calm for long enough, the incident is over."""
    signal = incident.signals[kind]
    signal["calm_checks"] += 1
    if signal["state"] == rules.State.FIRING and signal["calm_checks"] >= rules.CALM_CHECKS[kind]:
        signal["state"] = rules.State.CALM.value
        _event(incident, "calm", f"{_NAMES[kind]}: back to normal.")
    if all(each["state"] == rules.State.CALM for each in incident.signals.values()):
        _resolve(incident, "All signals are back to normal.")
    incident.save()


def end_for(deployment: Deployment, reason: str) -> None:
    """Close the story because there is nothing left to watch (the deployment was stopped)."""
    with transaction.atomic():
        incident = _active(deployment)
        if incident is not None:
            _resolve(incident, reason)
            incident.save()


def forget_signal(deployment: Deployment, kind: str, reason: str) -> None:
    """A rule was switched off: its signal no longer holds the incident open."""
    with transaction.atomic():
        incident = _active(deployment)
        if incident is None or kind not in incident.signals:
            return
        incident.signals[kind]["state"] = rules.State.CALM.value
        _event(incident, "calm", reason)
        if all(each["state"] == rules.State.CALM for each in incident.signals.values()):
            _resolve(incident, reason)
        incident.save()


def _resolve(incident: Incident, reason: str) -> None:
    incident.status, incident.resolved_at, incident.snoozed_until = IncidentStatus.RESOLVED, clock.now(), None
    _event(incident, "resolved", reason)


def _reminder_due(incident: Incident, now: datetime) -> bool:
    if incident.notified_at is None:
        return True
    wait = min(REMIND_AFTER * 2 ** max(incident.mails - 1, 0), REMIND_AT_MOST)
    return now - incident.notified_at >= wait


def _tell(incident: Incident, now: datetime, *, reminder: bool = False) -> None:
    """Write the mails, if nobody else has in the meantime (compare-and-set on the count of mails)."""
    mine = Incident.objects.filter(pk=incident.pk, mails=incident.mails).update(
        notified_at=now, mails=incident.mails + 1
    )
    if mine == 1:
        incident.notified_at, incident.mails = now, incident.mails + 1
        if notices.tell_of(incident, reminder=reminder):
            delivery.deliver_soon()
        else:
            _event(incident, "untold", people.why_nobody(incident.organization_id))
            log.warning("incident_untold", incident=incident.pk)


_NAMES = {rules.DRIFT: "Drift", rules.ERROR_RATE: "Error rate", rules.LATENCY: "Latency", rules.NO_TRAFFIC: "Traffic"}


def _title(incident: Incident) -> str:
    firing = [signal["title"] for signal in incident.signals.values() if signal["state"] == rules.State.FIRING]
    return "; ".join(firing)[:300] or incident.title


def _event(incident: Incident, kind: str, text: str, actor: str = "") -> None:
    IncidentEvent.objects.create(incident=incident, kind=kind, text=text, actor=actor)


# -- what people do -----------------------------------------------------------------------------------------------


def acknowledge(incident: Incident, caller: Caller) -> Incident:
    """Somebody works on it: no more reminders. Raises Conflict unless it is open or snoozed."""
    return _move(
        incident,
        caller,
        "acknowledged",
        (IncidentStatus.OPEN, IncidentStatus.SNOOZED),
        status=IncidentStatus.ACKNOWLEDGED,
        snoozed_until=None,
    )


def snooze(incident: Incident, caller: Caller, hours: float) -> Incident:
    """Quiet for some hours (up to a week); if it still goes on then, its people are told again. Raises Invalid, Conflict."""
    if not 0 < hours <= max(SNOOZE_HOURS):
        raise errors.Invalid(
            f"Snooze for 1 to {max(SNOOZE_HOURS)} hours.",
            fields={"hours": [f"{hours:g} is outside 1 to {max(SNOOZE_HOURS)}"]},
        )
    until = clock.now() + timedelta(hours=hours)
    return _move(
        incident,
        caller,
        "snoozed",
        _ACTIVE,
        f"For {hours:g} hours.",
        status=IncidentStatus.SNOOZED,
        snoozed_until=until,
    )


def resolve(incident: Incident, caller: Caller) -> Incident:
    """It is over. If a rule still fires within four hours, this same incident opens again. Raises Conflict when it is over already."""
    return _move(
        incident,
        caller,
        "resolved",
        _ACTIVE,
        status=IncidentStatus.RESOLVED,
        resolved_at=clock.now(),
        snoozed_until=None,
    )


def _move(
    incident: Incident, caller: Caller, verb: str, allowed: tuple[IncidentStatus, ...], text: str = "", **fields: Any
) -> Incident:
    with transaction.atomic():
        if Incident.objects.filter(pk=incident.pk, status__in=allowed).update(**fields) != 1:
            incident.refresh_from_db()
            raise errors.Conflict(
                f"This incident is {incident.get_status_display().lower()} and cannot be {verb}.",
                code="incident_moved_on",
                hint="Reload the page: somebody else may have been quicker.",
            )
        _event(incident, verb, text, actor=caller.label)
        audit.record(incident.organization, caller, f"incident.{verb}", incident, title=incident.title)
    incident.refresh_from_db()
    return incident
