"""The mails of an incident: what, since when, likely why, what it does to the predictions, what to do."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse

from monitoring import links, people, rules
from monitoring.models import Incident, Notification


def tell_of(incident: Incident, *, reminder: bool = False) -> int:
    """Outbox rows for everybody who wants to know, in the caller's transaction. Returns how many.

    reminder: nothing new happened, it just goes on.
    """
    readers = list(people.alert_readers(incident.organization_id))
    if not readers:
        return 0
    context = incident_context(incident) | {"reminder": reminder}
    subject = subject_of(incident, reminder=reminder)
    org = incident.organization
    rows = []
    for user in readers:
        leave = links.unsubscribe(org.slug, org.pk, user.pk, "alerts")
        rows.append(
            Notification(
                organization=org,
                incident=incident,
                user=user,
                recipient=user.email,
                dedupe_key=f"incident:{incident.pk}:{incident.mails}:{user.pk}",
                subject=subject,
                **bodies("incident", {**context, "unsubscribe_url": leave}),
                headers=list_headers(leave, f"incident-{incident.pk}"),
            )
        )
    Notification.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def subject_of(incident: Incident, *, reminder: bool) -> str:
    again = "Still open: " if reminder else ""
    subject = f"[{incident.organization.slug}] {incident.deployment.name}: {again}{incident.title}"
    return " ".join(subject.split())[:250]  # a header is one line


def bodies(template: str, context: dict[str, Any]) -> dict[str, str]:
    """Text and HTML of a mail in templates/monitoring/mail/."""
    text = render_to_string(f"monitoring/mail/{template}.txt", context)
    return {"text": text, "html": render_to_string(f"monitoring/mail/{template}.html", context)}


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
    page = links.page("incident_detail", org=org, incident_id=incident.pk)
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
    match next(iter(signals_of(incident)), {"kind": rules.DRIFT})["kind"]:
        case rules.ERROR_RATE if sees_log:
            return f"{reverse('deployment_predictions', kwargs=where)}?status=error"
        case rules.ERROR_RATE | rules.LATENCY | rules.NO_TRAFFIC:
            return reverse("deployment_traffic", kwargs=where)
    return reverse("deployment_drift", kwargs=where)


def signals_of(incident: Incident) -> list[dict[str, Any]]:
    """The incident's signals, firing ones first, with their times as times."""
    found = [{**signal, "since_at": datetime.fromisoformat(signal["since"])} for signal in incident.signals.values()]
    return sorted(found, key=lambda signal: (signal["state"] != rules.State.FIRING, signal["kind"]))
