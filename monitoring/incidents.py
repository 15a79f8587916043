"""Incidents: one story per deployment at a time. Every change is made on the locked row (or by compare-and-set), and
the mails that tell of it are outbox rows of the same transaction: two workers cannot tell the same thing twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors, logs
from mlops.core.storable import storable
from monitoring import delivery, notices, people, rules, signals, states
from monitoring.models import Incident, IncidentEvent, IncidentStatus
from registry.models import ModelVersion
from serving.models import Deployment

log = logs.get(__name__)
# Reminders of an open incident that nobody has acknowledged: after 4 h, 8 h, 16 h, then each day.
REMIND_AFTER = timedelta(hours=4)
REMIND_AT_MOST = timedelta(hours=24)
# What comes back so soon is the same story: the incident is opened again instead of a new one.
SAME_STORY = timedelta(hours=4)
# That it ended by itself is told after so long a calm: what comes back sooner was not over.
OVER_AFTER = timedelta(minutes=30)
SNOOZE_HOURS = (1, 4, 24, 72, 168)
MUTE_FACTORS = (1.1, 100.0)
COMMENT_LENGTH = 4000
_ACTIVE = (IncidentStatus.OPEN, IncidentStatus.ACKNOWLEDGED, IncidentStatus.SNOOZED, IncidentStatus.MUTED)


# -- what rules find ----------------------------------------------------------------------------------------------


@transaction.atomic
def observe(deployment: Deployment, version: ModelVersion | None, found: rules.Finding) -> Incident | None:
    """Take one finding into the deployment's story. Returns the incident it touched."""
    rule = states.record(deployment, found)  # locks the rule, then the incident: always in this order
    incident = _active(deployment)
    if found.state is rules.State.FIRING:
        return _fire(deployment, version, found, incident, flaps=rule is not None and rule.flapping)
    if incident is not None and found.signal in incident.signals:
        signal = incident.signals[found.signal]
        began_to_flap = _flap(incident, signal, flaps=rule is not None and rule.flapping)
        if found.state is rules.State.CALM:
            _calm(incident, signal)
        incident.save()
        if began_to_flap and incident.status == IncidentStatus.OPEN:
            _tell(incident, clock.now(), reminder=True)
    return incident


def _active(deployment: Deployment) -> Incident | None:
    """The deployment's open story, locked until the transaction ends."""
    return Incident.objects.select_for_update().filter(deployment=deployment, status__in=_ACTIVE).first()


def _fire(
    deployment: Deployment,
    version: ModelVersion | None,
    found: rules.Finding,
    incident: Incident | None,
    *,
    flaps: bool,
) -> Incident:
    now = clock.now()
    came_back = False
    if incident is None:
        incident, is_new, came_back = _open(deployment, version, found, now)
        if is_new:
            _tell(incident, now)
            return incident
    before, quiet_since = incident.signals.get(found.signal), incident.status
    is_news = before is None or before["state"] != rules.State.FIRING
    signal = incident.signals[found.signal] = signals.fired(found, now, before, is_news=is_news)
    incident.last_seen_at = now
    began_to_flap = _flap(incident, signal, flaps=flaps)
    if is_news:
        _event(incident, "signal", found.what)
        incident.title = signals.title(incident.signals, incident.title)
    woke = _wake(incident, found, now)
    incident.save()
    if incident.status != IncidentStatus.OPEN:
        return incident
    if before is None or woke or came_back or began_to_flap:
        _tell(incident, now, reminder=began_to_flap or (woke and quiet_since == IncidentStatus.SNOOZED))
    elif _reminder_due(incident, now) and not signals.all_flap(incident.signals):
        _tell(incident, now, reminder=True)
    return incident


def _wake(incident: Incident, found: rules.Finding, now: datetime) -> bool:
    """Whether a quiet incident speaks again: the snooze is over, or what was muted has become worse."""
    if incident.status == IncidentStatus.SNOOZED and incident.snoozed_until and incident.snoozed_until <= now:
        text = "The snooze is over and it still goes on."
    elif incident.status == IncidentStatus.MUTED and (reason := signals.why_worse(incident.muted, found)):
        text = reason
    else:
        return False
    incident.status, incident.snoozed_until, incident.muted = IncidentStatus.OPEN, None, {}
    _event(incident, "woke", text)
    return True


def _flap(incident: Incident, signal: signals.Signal, *, flaps: bool) -> bool:
    """Take in whether the rule flaps. True when it has just begun: that is told once, and then nothing until it settles."""
    was = signal.get("flapping", False)
    signal["flapping"] = flaps
    if flaps == was:
        return False
    if flaps:
        said = f"{signals.name(signal)} {signals.FLAPPING}"
        signal["what"] = f"{signal['what']} {said}"
        _event(incident, "flapping", said)
    else:
        _event(incident, "settled", f"{signals.name(signal)} has settled.")
    return flaps


def _open(
    deployment: Deployment, version: ModelVersion | None, found: rules.Finding, now: datetime
) -> tuple[Incident, bool, bool]:
    """A new incident, or the one that was resolved a short while ago. (incident, whether it is new, whether it comes back after
    people were told that it is over)."""
    recent = (
        Incident.objects.select_for_update()
        .filter(deployment=deployment, status=IncidentStatus.RESOLVED, resolved_at__gt=now - SAME_STORY)
        .first()
    )
    if recent is not None and found.signal in recent.signals and recent.version_id == getattr(version, "pk", None):
        recent.status, recent.resolved_at = IncidentStatus.OPEN, None
        _event(recent, "reopened", found.what)
        return recent, False, notices.take_back_over(recent)
    fresh = Incident(
        organization_id=deployment.organization_id,
        deployment=deployment,
        version=version,
        title=found.title[:300],
        signals={found.signal: signals.fired(found, now, None, is_news=True)},
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
        return other, False, False
    _event(fresh, "opened", found.what)
    log.info("incident_opened", incident=fresh.pk, deployment=deployment.pk, kind=found.kind)
    return fresh, True, False


def _calm(incident: Incident, signal: signals.Signal) -> None:
    """One calm check of a signal; when all signals have been calm for long enough, the incident is over."""
    if signals.calmed(signal):
        _event(incident, "calm", f"{signals.name(signal)}: back to normal.")
    if not signal.get("flapping"):
        _resolve_when_calm(incident, "All signals are back to normal.", over_at=clock.now() + OVER_AFTER)


def _resolve_when_calm(incident: Incident, reason: str, over_at: datetime | None = None) -> None:
    if signals.all_calm(incident.signals):
        _resolve(incident, reason, over_at)


def wake_due() -> int:
    """Snoozes that are over and whose signals still fire: told again. Returns how many."""
    now = clock.now()
    over = Incident.objects.filter(status=IncidentStatus.SNOOZED, snoozed_until__lte=now).values_list("pk", flat=True)
    woken = 0
    for pk in over:
        with transaction.atomic():
            incident = Incident.objects.select_for_update().filter(pk=pk, status=IncidentStatus.SNOOZED).first()
            if incident is None or incident.snoozed_until is None or incident.snoozed_until > now:
                continue
            incident.status, incident.snoozed_until = IncidentStatus.OPEN, None
            _event(incident, "woke", "The snooze is over and it still goes on.")
            incident.save()
            _tell(incident, now, reminder=True)
            woken += 1
    return woken


def end_for(deployment: Deployment, reason: str) -> None:
    """Close the story because there is nothing left to watch (the deployment was stopped)."""
    with transaction.atomic():
        incident = _active(deployment)
        if incident is not None:
            _resolve(incident, reason)
            incident.save()


def forget_signal(deployment: Deployment, key: str, reason: str) -> None:
    """A rule was switched off: its signal no longer holds the incident open."""
    with transaction.atomic():
        incident = _active(deployment)
        if incident is None or key not in incident.signals:
            return
        incident.signals[key] |= {"state": rules.State.CALM.value, "flapping": False}
        _event(incident, "calm", reason)
        _resolve_when_calm(incident, reason)
        incident.save()


def _resolve(incident: Incident, reason: str, over_at: datetime | None = None) -> None:
    incident.status, incident.resolved_at = IncidentStatus.RESOLVED, clock.now()
    incident.snoozed_until, incident.muted = None, {}
    _event(incident, "resolved", reason)
    _tell_over(incident, reason, over_at)


def _tell_over(incident: Incident, reason: str, over_at: datetime | None = None) -> None:
    """over_at: what ends by itself is told as over when it has stayed so."""
    if notices.tell_over(incident, reason, not_before=over_at) and over_at is None:
        delivery.deliver_soon()


def _reminder_due(incident: Incident, now: datetime) -> bool:
    if incident.notified_at is None:
        return True
    wait = min(REMIND_AFTER * 2 ** min(incident.reminders, 10), REMIND_AT_MOST)
    return now - incident.notified_at >= wait


def _tell(incident: Incident, now: datetime, *, reminder: bool = False) -> None:
    """Write the mails, if nobody else has in the meantime (compare-and-set on the count of mails).

    News waits ALERT_GROUP_S: what begins until then is said in the same mails.
    """
    reminders = incident.reminders + 1 if reminder else 0
    mine = Incident.objects.filter(pk=incident.pk, mails=incident.mails).update(
        notified_at=now, mails=incident.mails + 1, reminders=reminders
    )
    if mine != 1:
        return
    incident.notified_at, incident.mails, incident.reminders = now, incident.mails + 1, reminders
    later = None if reminder or not settings.ALERT_GROUP_S else now + timedelta(seconds=settings.ALERT_GROUP_S)
    if not notices.tell_of(incident, reminder=reminder, not_before=later):
        _event(incident, "untold", people.why_nobody(incident.organization_id))
        log.warning("incident_untold", incident=incident.pk)
    elif later is None:
        delivery.deliver_soon()


def _event(incident: Incident, kind: str, text: str, actor: str = "") -> IncidentEvent:
    return IncidentEvent.objects.create(incident=incident, kind=kind, text=text, actor=actor)


# -- what people do -----------------------------------------------------------------------------------------------


def acknowledge(incident: Incident, caller: Caller) -> Incident:
    """Somebody works on it: no more reminders. Raises Conflict when somebody has it or it is over."""
    return _move(
        incident,
        caller,
        "acknowledged",
        (IncidentStatus.OPEN, IncidentStatus.SNOOZED, IncidentStatus.MUTED),
        status=IncidentStatus.ACKNOWLEDGED,
        acknowledged_by=caller.label[:200],
        snoozed_until=None,
        muted={},
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
        muted={},
    )


def mute(incident: Incident, caller: Caller, factor: float = rules.WORSE_FACTOR) -> Incident:
    """Quiet until a signal is ``factor`` times as bad as now, or a new one begins; then its people are told again. Raises Invalid,
    Conflict."""
    low, high = MUTE_FACTORS
    if not low <= factor <= high:
        text = f"is between {low:g} and {high:g}"
        raise errors.Invalid(f"How much worse {text}.", fields={"factor": [text]})
    with transaction.atomic():
        incident = Incident.objects.select_for_update().select_related("organization").get(pk=incident.pk)
        firing = {key: each for key, each in incident.signals.items() if signals.is_firing(each)}
        return _move(
            incident,
            caller,
            "muted",
            (IncidentStatus.OPEN, IncidentStatus.ACKNOWLEDGED, IncidentStatus.SNOOZED, IncidentStatus.MUTED),
            f"Until it is {factor:g} times as bad, or something new begins.",
            status=IncidentStatus.MUTED,
            muted={"factor": factor, "values": {key: each["value"] for key, each in firing.items()}},
            snoozed_until=None,
        )


def comment(incident: Incident, caller: Caller, text: str) -> IncidentEvent:
    """Something for the others to know, on the incident's timeline. Raises Invalid for an empty or a very long one."""
    text = storable(text).strip()
    if not 0 < len(text) <= COMMENT_LENGTH:
        said = f"is 1 to {COMMENT_LENGTH:,} characters long"
        raise errors.Invalid(f"A comment {said}.", fields={"text": [said]})
    with transaction.atomic():
        event = _event(incident, "comment", text, actor=caller.label)
        audit.record(incident.organization, caller, "incident.commented", incident, title=incident.title)
    return event


def resolve(incident: Incident, caller: Caller) -> Incident:
    """It is over. If a rule still fires within four hours, this same incident opens again. Raises Conflict when it is over already."""
    with transaction.atomic():
        moved = _move(
            incident,
            caller,
            "resolved",
            _ACTIVE,
            status=IncidentStatus.RESOLVED,
            resolved_at=clock.now(),
            snoozed_until=None,
            muted={},
        )
        _tell_over(moved, f"{caller.label} has resolved it.")
    return moved


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
