"""Whether a channel still takes what it is sent. One that refuses for good is switched off, and its organisation is told."""

from __future__ import annotations

from django.db import transaction
from django.urls import reverse

from accounts import audit
from accounts.roles import Role
from mlops.core import clock, logs
from monitoring import bell, links, people
from monitoring.announcing import TEST
from monitoring.mail_bodies import bodies
from monitoring.models import Channel, Notification, Severity

log = logs.get(__name__)


def taken(row: Notification) -> None:
    """It works: what waits for another try need not wait any longer."""
    if row.target_id is None:
        return
    now = clock.now()
    Channel.objects.filter(pk=row.target_id).update(last_ok_at=now, failing_since=None)
    waiting = Notification.objects.filter(target=row.target_id, status=Notification.Status.WAITING, attempts__gt=0)
    waiting.filter(next_at__gt=now).update(next_at=now)


def not_taken(row: Notification, text: str, *, refusal: bool, last: bool) -> None:
    """refusal: it answered that it does not want it. last: that was the last try."""
    if row.target_id is None or row.type == TEST:
        return
    Channel.objects.filter(pk=row.target_id, failing_since__isnull=True).update(failing_since=clock.now())
    if refusal and last:
        _switch_off(row, f"{text}, and so {row.attempts} times over {_span(row)}.")


def gone(row: Notification, text: str) -> None:
    if row.target_id is not None and row.type != TEST:
        _switch_off(row, f"{text}: it is there no more.")


def _span(row: Notification) -> str:
    hours = (clock.now() - row.created_at).total_seconds() / 3600
    return f"{hours:.0f} hours" if hours >= 2 else f"{max(1, round(hours * 60))} minutes"


@transaction.atomic
def _switch_off(row: Notification, reason: str) -> None:
    """Once, whoever comes first; and those who can mend it hear of it."""
    now = clock.now()
    on = Channel.objects.filter(pk=row.target_id, disabled_at__isnull=True)
    if on.update(disabled_at=now, disabled_reason=reason[:1000], refused=True, failing_since=None) != 1:
        return
    channel = Channel.objects.select_related("organization").get(pk=row.target_id)
    _tell(channel, reason)
    audit.record(channel.organization, None, "channel.disabled", channel, reason=reason[:300])
    log.warning("channel_disabled", channel=str(channel.pk), reason=reason[:200])


def _tell(channel: Channel, reason: str) -> None:
    org = channel.organization
    path = reverse("channel_detail", kwargs={"org": org.slug, "channel_id": channel.pk})
    title = f"The channel {channel.name} is switched off"
    bell.ring(
        org, f"channel:{channel.pk}", title=title, text=reason, path=path, severity=Severity.WARNING, needs="channel.view"
    )  # fmt: skip
    context = {
        "channel": channel,
        "organization": org,
        "reason": reason,
        "channel_url": links.page("channel_detail", org=org.slug, channel_id=channel.pk),
    }
    mail = bodies("channel_disabled", context)
    key = f"channel:{channel.pk}:off:{channel.disabled_at:%Y%m%dT%H%M%S}"
    rows = [
        Notification(
            organization=org,
            user=user,
            recipient=user.email,
            type="channel.disabled",
            severity=Severity.WARNING,
            dedupe_key=f"{key}:{user.pk}",
            subject=" ".join(f"[{org.slug}] {title}".split())[:250],
            headers={"Auto-Submitted": "auto-generated"},
            **mail,
        )
        for user in people.verified_members(org, Role.ADMIN)
    ]
    Notification.objects.bulk_create(rows, ignore_conflicts=True)
