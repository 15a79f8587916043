"""News for an organisation's channels: rows of the outbox, in the transaction of what they tell of.

Other parts of monitoring call ``announce`` (retraining, deploys, digests); incidents go through ``notices``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
from django.conf import settings
from django.db.models import Q, QuerySet
from django.urls import reverse

from accounts.models import Organization
from mlops.core import clock
from mlops.core.storable import storable
from monitoring import bell
from monitoring.models import Channel, Incident, Notification, Severity
from serving.models import Deployment

MOST_TEXT = 2000  # characters of one text in a message
MOST_SIGNALS = 20
PAYLOAD_BYTES = 48 << 10
TEST = "test"  # the type of what somebody sends to see whether it arrives


@dataclass(frozen=True)
class News:
    """One message. type: ``group`` or ``group.what``, see ``Channel.Event``. key: the same thing is never told twice to one channel.

    title and text: for chats. data: JSON for webhooks, at most ``PAYLOAD_BYTES``. path: the page about it, from the root.
    """

    type: str
    key: str
    title: str
    text: str
    data: dict[str, Any]
    severity: str = Severity.INFO
    path: str = ""
    deployment: Deployment | None = None
    incident: Incident | None = None
    not_before: datetime | None = None


def announce(organization: Organization, news: News, *, needs: str = "") -> int:
    """To every channel that wants it and, when ``needs`` names an action, to the bell of whoever may do that.

    Returns how many channels; ``delivery.deliver_soon`` sends without waiting for the schedule.
    """
    if needs:
        bell.ring(
            organization, news.key, title=news.title, text=news.text, path=news.path, severity=news.severity, needs=needs
        )  # fmt: skip
    return write(organization, news, wanting(organization, news))


def wanting(organization: Organization, news: News) -> list[Channel]:
    """The channels that are switched on, listen to this deployment, and want this type and severity."""
    rows: QuerySet[Channel] = Channel.objects.filter(organization=organization, disabled_at__isnull=True)
    if news.deployment is not None:
        rows = rows.filter(Q(all_deployments=True) | Q(deployments=news.deployment)).distinct()
    return [channel for channel in rows if channel.wants(news.type, news.severity)]


def write(organization: Organization, news: News, channels: Iterable[Channel]) -> int:
    """One row of the outbox for each of these channels."""
    payload = _bounded(storable(news.data))
    rows = [
        Notification(
            organization=organization,
            channel=channel.kind,
            target=channel,
            type=news.type,
            severity=news.severity,
            recipient=channel.name,
            incident=news.incident,
            dedupe_key=f"{news.key}:{channel.pk}"[:200],
            subject=" ".join(storable(news.title).split())[:300],
            text=storable(news.text),
            payload=payload,
            next_at=news.not_before or clock.now(),
        )
        for channel in channels
    ]
    Notification.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def incident_news(  # noqa: PLR0913  a message, part by part
    incident: Incident, kind: str, severity: str, signals: list[dict[str, Any]], inspect: str, not_before: datetime | None = None
) -> News:  # fmt: skip
    """An incident as a message. signals: firing ones first. inspect: the path of the page that shows what is wrong."""
    org, deployment = incident.organization, incident.deployment
    where = {"org": org.slug, "incident_id": incident.pk}
    page = reverse("incident_detail", kwargs=where) if incident.pk else inspect  # a test has no row
    before = {Channel.Event.REMINDER: "Still open: ", Channel.Event.RESOLVED: "Over: "}.get(Channel.Event(kind), "")
    data = {
        "organization": org.slug,
        "deployment": deployment.name,
        "version": incident.version.number if incident.version else None,
        "incident": {
            "id": incident.pk,
            "state": incident.status,
            "severity": severity,
            "title": incident.title,
            "since": _iso(incident.since),
            "opened_at": _iso(incident.opened_at),
            "resolved_at": _iso(incident.resolved_at),
        },
        "signals": [_signal(each) for each in signals[:MOST_SIGNALS]],
        "links": {"incident": settings.BASE_URL + page, "inspect": settings.BASE_URL + inspect},
    }
    return News(
        type=kind,
        key=f"incident:{incident.pk}:{incident.mails}:{kind}",
        title=f"{org.slug}/{deployment.name}: {before}{incident.title}",
        text=_words(incident, kind, signals, data["links"]),
        data=data,
        severity=severity,
        path=page,
        deployment=deployment,
        incident=incident,
        not_before=not_before,
    )


def as_test(news: News, key: str) -> News:
    """The same, told as what it is."""
    text = f"This is a test. It would read:\n{news.text}"
    return replace(
        news, type=TEST, key=key, title=f"Test: {news.title}", text=text, data={**news.data, "test": True}, incident=None
    )  # fmt: skip


_KEPT = ("kind", "state", "title", "what", "why", "effect", "todo", "since", "value", "limit")


def _signal(signal: dict[str, Any]) -> dict[str, Any]:
    return {name: _cut(signal.get(name)) for name in _KEPT}


def _cut(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MOST_TEXT]
    return [_cut(each) for each in value[:MOST_SIGNALS]] if isinstance(value, list | tuple) else value


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _words(incident: Incident, kind: str, signals: list[dict[str, Any]], to: dict[str, str]) -> str:
    """For a chat: a few lines, whatever the incident holds."""
    if kind == Channel.Event.RESOLVED:
        until = incident.resolved_at or clock.now()
        lines = [f"It began {incident.since:%Y-%m-%d %H:%M} UTC and was over {until:%Y-%m-%d %H:%M} UTC."]
        return "\n".join([*lines, f"What it was: {to['incident']}"])
    lines = []
    firing = [each for each in signals if each["state"] == "firing"] or signals
    for signal in firing[:2]:
        lines.append(_short(signal["what"]))
        if signal["why"]:
            lines.append(f"Likely why: {_short(signal['why'])}")
        if signal["effect"]:
            lines.append(_short(signal["effect"]))
    lines.append(f"Since {incident.since:%Y-%m-%d %H:%M} UTC.")
    return "\n".join([*lines, f"Inspect: {to['inspect']}", f"Acknowledge or snooze: {to['incident']}"])


def _short(text: str, most: int = 240) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _bounded(data: dict[str, Any]) -> dict[str, Any]:
    """What a message may weigh. Texts are cut when it is made; what is too large all the same loses its largest part."""
    while len(orjson.dumps(data)) > PAYLOAD_BYTES:
        largest = max(data, key=lambda name: len(orjson.dumps(data[name])))
        data = {**data, largest: None, "cut": True}
    return data
