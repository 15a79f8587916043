"""What is told of an incident, and to whom: mails, messages to channels, the bell; when it opens, goes on, and is over.

All are rows written in the caller's transaction. ``delivery`` sends mails and messages; the bell is read where it is written.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.urls import reverse

from accounts.caller import Caller
from mlops.core import clock
from monitoring import announcing, bell, links, people, rules
from monitoring.mail_bodies import bodies
from monitoring.models import Channel, Incident, Notification, Severity
from serving.models import Deployment

_Event, _Status = Channel.Event, Notification.Status
EMAIL = "email"
# How bad a signal is when its rule does not say: requests without an answer are worse than answers that may be wrong.
_SEVERITY = {rules.ERROR_RATE: Severity.CRITICAL}


def tell_of(incident: Incident, *, reminder: bool = False, not_before: datetime | None = None) -> int:
    """Rows for everybody who wants to know. Returns how many mails and messages will go out.

    reminder: nothing new happened, it just goes on. not_before: earliest time to send; what is said of the same incident until
    then takes the place of what waits, so that people get one message with everything in it.
    """
    kind = _Event.REMINDER if reminder else _Event.OPENED
    not_before = _in_place_of(incident) or not_before
    severity = severity_of(incident)
    context = incident_context(incident) | {"reminder": reminder}
    subject = subject_of(incident, "Still open: " if reminder else "")
    rows = [
        _mail(incident, user, "incident", subject, context, not_before, kind)
        for user in people.alert_readers(incident.organization_id)
    ]
    Notification.objects.bulk_create(rows, ignore_conflicts=True)
    told = announcing.incident_news(incident, kind, severity, context["signals"], inspect_path(incident), not_before)
    if not reminder:
        _ring(incident, severity, incident.title)
    return len(rows) + announcing.write(incident.organization, told, announcing.wanting(incident.organization, told))


def tell_over(incident: Incident, reason: str = "", *, not_before: datetime | None = None) -> int:
    """It is over: for those who were told that it began, and nobody else. Returns how many mails and messages will go out.

    not_before: earliest time to send; ``take_back_over`` until then, and nobody hears of an end that was none.
    """
    _untold(incident).delete()
    kind, severity = _Event.RESOLVED, severity_of(incident)
    _ring(incident, Severity.INFO, f"Over: {incident.title}", only_known=True)
    told = Notification.objects.filter(incident=incident).exclude(status=_Status.FAILED).exclude(type=kind)
    context = incident_context(incident) | {"reason": reason}
    subject = subject_of(incident, "Over: ")
    readers = people.alert_readers(incident.organization_id).filter(pk__in=told.filter(channel=EMAIL).values("user"))
    rows = [_mail(incident, user, "incident_over", subject, context, not_before, kind) for user in readers]
    Notification.objects.bulk_create(rows, ignore_conflicts=True)
    path = inspect_path(incident)
    news = announcing.incident_news(incident, kind, severity, context["signals"], path, not_before)
    known = set(told.filter(target__isnull=False).values_list("target", flat=True))
    channels = [each for each in announcing.wanting(incident.organization, news) if each.pk in known]
    return len(rows) + announcing.write(incident.organization, news, channels)


def take_back_over(incident: Incident) -> bool:
    """It goes on after all. What waits to say that it is over is not sent; True when somebody has been told so."""
    told = Notification.objects.filter(incident=incident, type=_Event.RESOLVED)
    told.filter(status=_Status.WAITING, attempts=0).delete()
    return incident.notified_at is not None and told.filter(created_at__gte=incident.notified_at).exists()


def test_of(deployment: Deployment, found: rules.Finding, caller: Caller) -> int:
    """A rule's finding as it would be told, marked as a test: a mail to whoever asked, and to the channels that would hear of it."""
    now, org = clock.now(), deployment.organization
    incident = Incident(
        organization=org, deployment=deployment, version=deployment.live_version, title=found.title[:300],
        since=found.since or now, opened_at=now, last_seen_at=now,
        signals={found.kind: {
            "kind": found.kind, "state": rules.State.FIRING.value, "title": found.title, "what": found.what, "why": found.why,
            "effect": found.effect, "todo": list(found.todo), "since": (found.since or now).isoformat(), "value": found.value,
            "limit": found.limit, "detail": {},
        }},
    )  # fmt: skip
    context = incident_context(incident) | {"test": True}
    key = f"test:{deployment.pk}:{found.kind}:{now.timestamp()}"
    rows: list[Notification] = []
    person = people.verified_members(org).filter(pk=caller.person.pk).first() if caller.person else None
    if person is not None:
        row = _mail(incident, person, "incident", subject_of(incident, "Test: "), context, None, announcing.TEST)
        row.incident, row.dedupe_key = None, f"{key}:{person.pk}"[:200]
        rows.append(row)
    Notification.objects.bulk_create(rows)
    severity = severity_of(incident)
    news = announcing.incident_news(incident, _Event.OPENED, severity, context["signals"], inspect_path(incident))
    channels = announcing.wanting(org, news)
    return len(rows) + announcing.write(org, announcing.as_test(news, key), channels)


def severity_of(incident: Incident) -> str:
    """The worst of the signals that fire; of all of them when none does."""
    signals = list(incident.signals.values())
    firing = [each for each in signals if each["state"] == rules.State.FIRING] or signals
    found = [each.get("severity") or _SEVERITY.get(each["kind"], Severity.WARNING) for each in firing]
    return str(max(found, key=Severity.rank, default=Severity.WARNING))


def _untold(incident: Incident) -> Any:
    """What waits and was never tried: nobody can have read it."""
    return Notification.objects.filter(incident=incident, status=_Status.WAITING, attempts=0)


def _in_place_of(incident: Incident) -> datetime | None:
    """Take back what waits to be sent later; its time holds for what takes its place. A worker that has begun with it goes on."""
    later = _untold(incident).filter(next_at__gt=clock.now())
    first = later.order_by("next_at").values_list("next_at", flat=True).first()
    if first is not None:
        later.delete()
    return first


def _mail(  # noqa: PLR0913  a mail, part by part
    incident: Incident, user: Any, template: str, subject: str, context: dict[str, Any], not_before: datetime | None, kind: str
) -> Notification:  # fmt: skip
    org = incident.organization
    leave = links.unsubscribe(org.slug, org.pk, user.pk, "alerts")
    end = ":over" if kind == _Event.RESOLVED else ""
    return Notification(
        organization=org,
        incident=incident,
        user=user,
        recipient=user.email,
        type=kind,
        dedupe_key=f"incident:{incident.pk}:{incident.mails}{end}:{user.pk}",
        subject=subject,
        next_at=not_before or clock.now(),
        **bodies(template, {**context, "unsubscribe_url": leave}),
        headers=list_headers(leave, f"incident-{incident.pk}"),
    )


def _ring(incident: Incident, severity: str, title: str, *, only_known: bool = False) -> None:
    where = {"org": incident.organization.slug, "incident_id": incident.pk}
    bell.ring(
        incident.organization,
        f"incident:{incident.pk}",
        title=f"{incident.deployment.name}: {title}",
        text="" if only_known else next((each["what"] for each in signals_of(incident)), ""),
        path=reverse("incident_detail", kwargs=where),
        severity=severity,
        needs="incident.view",
        only_known=only_known,
    )


def subject_of(incident: Incident, before: str = "") -> str:
    subject = f"[{incident.organization.slug}] {incident.deployment.name}: {before}{incident.title}"
    return " ".join(subject.split())[:250]  # a header is one line


def list_headers(leave: str, list_id: str) -> dict[str, str]:
    """RFC 2369 and RFC 8058: leaving is one click in the mail program, without a session."""
    return {
        "List-Unsubscribe": f"<{leave}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "Auto-Submitted": "auto-generated",
        "X-Slipway-About": list_id,
    }


def incident_context(incident: Incident) -> dict[str, Any]:
    """What the mail says; the page shows the same signals."""
    org, deployment = incident.organization.slug, incident.deployment
    page = links.page("incident_detail", org=org, incident_id=incident.pk) if incident.pk else ""
    return {
        "incident": incident,
        "deployment": deployment,
        "version": incident.version,
        "signals": signals_of(incident),
        "inspect_url": f"{settings.BASE_URL}{inspect_path(incident)}",
        "rollback_url": links.page("deployment_detail", org=org, name=deployment.name),
        "incident_url": page,
        "settings_url": links.page("digest_settings", org=org),
    }


def inspect_path(incident: Incident, *, sees_log: bool = True) -> str:
    """The page that shows what is wrong: of the first signal that still fires. sees_log: the reader may see single requests."""
    where = {"org": incident.organization.slug, "name": incident.deployment.name}
    first = next(iter(signals_of(incident)), {"kind": rules.DRIFT})
    match first["kind"]:
        case rules.ERROR_RATE if sees_log:
            return f"{reverse('deployment_predictions', kwargs=where)}?status=error"
        case rules.ERROR_RATE | rules.LATENCY | rules.NO_TRAFFIC:
            return reverse("deployment_traffic", kwargs=where)
        case rules.QUALITY | rules.ESTIMATE:
            return reverse("deployment_quality", kwargs=where)
        case rules.CUSTOM if first.get("page") in ("traffic", "quality"):
            return reverse(f"deployment_{first['page']}", kwargs=where)
    return reverse("deployment_drift", kwargs=where)


def signals_of(incident: Incident) -> list[dict[str, Any]]:
    """The incident's signals, firing ones first, with their times as times."""
    found = [{**signal, "since_at": datetime.fromisoformat(signal["since"])} for signal in incident.signals.values()]
    return sorted(found, key=lambda signal: (signal["state"] != rules.State.FIRING, signal["kind"]))
