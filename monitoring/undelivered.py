"""What could not be told: mails that failed, channels that were switched off because their receiver refuses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.urls import reverse

from accounts.models import Organization
from mlops.core import clock
from monitoring.models import Channel, Notification

_RECENT = timedelta(days=7)


@dataclass(frozen=True)
class Undelivered:
    """One line for the home page."""

    title: str
    text: str
    url: str
    since: datetime


def undelivered(organization: Organization) -> list[Undelivered]:
    """Two queries."""
    org, found = organization.slug, []
    failed = Notification.objects.filter(
        organization=organization, status=Notification.Status.FAILED, target__isnull=True
    )
    mail = failed.filter(created_at__gte=clock.now() - _RECENT).defer("text", "html").first()
    if mail is not None:
        url = reverse("digest_settings", kwargs={"org": org})
        found.append(Undelivered("A mail could not be delivered", mail.error, url, mail.created_at))
    for channel in Channel.objects.filter(organization=organization, refused=True, disabled_at__isnull=False):
        url = reverse("channel_detail", kwargs={"org": org, "channel_id": channel.pk})
        title = f"The channel {channel.name} is switched off"
        found.append(Undelivered(title, channel.disabled_reason, url, channel.disabled_at or clock.now()))
    return found
