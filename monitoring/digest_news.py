"""The weekly digest for channels that want it: Mondays from seven, UTC, once a week whoever looks how often."""

from __future__ import annotations

from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings
from django.urls import reverse

from accounts.models import Organization
from mlops.core import clock, logs
from monitoring import digest_times, digests
from monitoring.announcing import News, write
from monitoring.digest_times import Period, Times
from monitoring.models import Channel, DigestSubscription, Notification, Severity

log = logs.get(__name__)
WEEKLY = Times(DigestSubscription.Frequency.WEEKLY, ZoneInfo("UTC"), 7, 0)
LATE = timedelta(days=3)  # a week that nobody could be told of in time is let go
_TYPE = "digest.weekly"
_LINES = 8


def send_due() -> int:
    """Rows for every channel that has not had the last week. Returns how many. One broken organisation costs only itself."""
    period = digest_times.latest(WEEKLY, clock.now())
    if clock.now() - period.until > LATE:
        return 0
    listening = Channel.objects.filter(disabled_at__isnull=True, all_deployments=True, created_at__lt=period.until)
    wanting = [each for each in listening.select_related("organization") if each.wants(_TYPE, Severity.INFO)]
    told = set(
        Notification.objects.filter(dedupe_key__in=[_key(each, period) for each in wanting]).values_list(
            "target", flat=True
        )
    )
    left: dict[Organization, list[Channel]] = {}
    for channel in wanting:
        if channel.pk not in told:
            left.setdefault(channel.organization, []).append(channel)
    written = 0
    for organization, channels in left.items():
        try:
            written += write(organization, _news(organization, period), channels)
        except Exception:  # noqa: BLE001  the other organisations still get theirs
            log.exception("digest_news_failed", organization=organization.pk)
    return written


def _stem(organization_id: int, period: Period) -> str:
    return f"digest:{organization_id}:{period.until:%Y-%m-%d}"


def _key(channel: Channel, period: Period) -> str:
    return f"{_stem(channel.organization_id, period)}:{channel.pk}"  # as announcing.write makes it


def _news(organization: Organization, period: Period) -> News:
    digest = digests.compose(organization, WEEKLY.frequency, period.since, period.until, WEEKLY.zone)
    page = settings.BASE_URL + reverse("org_home", kwargs={"org": organization.slug})
    lines = [
        f"{line.deployment.name}: {line.counts.requests:,} requests ({line.trend})" for line in digest.shown[:_LINES]
    ]
    todo = [{"text": sentence, "url": url} for sentence, url in digest.todo]
    since, until = period.since.astimezone(UTC), period.until.astimezone(UTC)
    data = {
        "organization": organization.slug,
        "since": since.isoformat(),
        "until": until.isoformat(),
        "headline": digest.headline,
        "quiet": digest.is_quiet,
        "requests": digest.total.requests,
        "deployments": [
            {
                "name": line.deployment.name,
                "requests": line.counts.requests,
                "drift": line.verdict or None,
                "incidents": len(line.incidents),
            }
            for line in digest.shown
        ],
        "todo": todo,
        "links": {"home": page},
    }
    return News(
        type=_TYPE,
        key=_stem(organization.pk, period),
        title=f"{organization.slug}: the week to {until:%Y-%m-%d}: {digest.headline}",
        text="\n".join([*lines, *(f"To do: {each['text']}" for each in todo[:3]), page]),
        data=data,
    )
