"""Sending digests: per person and organisation, at the reader's local time, never twice.

Whoever moves a subscription's ``last_period`` by compare-and-set writes the mail, in the same transaction; the outbox's unique key
holds the promise even if that were to fail. Clocks may jump: one that was ahead does not silence anybody for the time it was ahead,
one that goes back sends nothing again.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import groupby

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from accounts import time_zones
from accounts.models import Membership, Organization, User
from mlops.core import clock, errors, logs
from monitoring import digest_times, digests, people
from monitoring.digest_times import Period, Times
from monitoring.digests import Digest
from monitoring.models import DigestSubscription, Notification

log = logs.get(__name__)
_Frequency = DigestSubscription.Frequency
# No reader waits longer than a week: what is due later, or was sent later than this from now, comes of a clock that stood ahead.
FURTHEST = timedelta(days=8)
AT_ONCE = 500


def times_of(subscription: DigestSubscription, *, frequency: str | None = None) -> Times:
    zone = time_zones.zone_of(subscription.user)
    return Times(frequency or subscription.frequency, zone, subscription.hour, subscription.weekday)


def send_due() -> int:
    """Write every digest whose time has come into the outbox. Returns how many. One broken organisation costs only itself."""
    _subscribe_newcomers()
    now, written = clock.now(), 0
    due = Q(next_at__isnull=True) | Q(next_at__lte=now) | Q(next_at__gt=now + FURTHEST)
    while waiting := list(_subscriptions(due)[:AT_ONCE]):
        for organization, theirs in groupby(waiting, key=lambda each: each.organization):
            mine = list(theirs)
            try:
                written += _send(organization, mine)
            except Exception:  # noqa: BLE001  the other organisations still get theirs
                log.exception("digest_failed", organization=organization.pk)
                _put_off([each.pk for each in mine])
    return written


def _subscriptions(which: Q) -> list[DigestSubscription]:
    rows = DigestSubscription.objects.filter(which).exclude(frequency=_Frequency.NEVER)
    return rows.select_related("organization", "user").order_by("organization_id", "pk")


def _subscribe_newcomers() -> None:
    """Members who never looked at their settings have the defaults: their first digest is of the next whole period."""
    there = DigestSubscription.objects.filter(organization=OuterRef("organization"), user=OuterRef("user"))
    rows = Membership.objects.filter(~Exists(there)).values_list("organization_id", "user_id")
    now = clock.now()
    new = [DigestSubscription(organization_id=org, user_id=user, changed_at=now) for org, user in rows]
    DigestSubscription.objects.bulk_create(new, ignore_conflicts=True, batch_size=500)


def _put_off(pks: list[int]) -> None:
    DigestSubscription.objects.filter(pk__in=pks).update(next_at=clock.now() + timedelta(hours=1))


def _send(organization: Organization, subscriptions: list[DigestSubscription]) -> int:
    """The due digests of one organisation; the same period is composed once for all who read it."""
    now = clock.now()
    verified = set(people.verified_members(organization).values_list("pk", flat=True))
    composed: dict[Period, Digest] = {}
    written = 0
    for subscription in subscriptions:
        times = times_of(subscription)
        period = digest_times.latest(times, now)
        if subscription.user_id in verified and _is_due(subscription, period):
            key = Period(times.frequency, period.since, period.until, period.until)
            if key not in composed:
                composed[key] = digests.compose(organization, times.frequency, period.since, period.until, times.zone)
            written += _write(subscription, subscription.user, composed[key], period)
        following = digest_times.following(times, now)
        DigestSubscription.objects.filter(pk=subscription.pk, changed_at=subscription.changed_at).update(
            next_at=following
        )
    return written


def _is_due(subscription: DigestSubscription, period: Period) -> bool:
    """A period that was sent, or that ended before this person joined or changed the times, is not due. Names sort by time, so a
    clock that goes back sends nothing again; a name from far ahead was written by a clock that stood wrong, and is passed over."""
    from_ahead = subscription.last_sent_at is not None and subscription.last_sent_at > clock.now() + FURTHEST
    return (subscription.last_period < period.name or from_ahead) and subscription.changed_at < period.until


def _write(subscription: DigestSubscription, user: User, digest: Digest, period: Period) -> int:
    """Claim the period and write the mail; 0 when another process has it, or there is nothing to say."""
    with transaction.atomic():
        mine = DigestSubscription.objects.filter(
            pk=subscription.pk, last_period=subscription.last_period, frequency=digest.frequency
        ).update(last_period=period.name, last_sent_at=clock.now())
        if mine != 1 or not _worth_sending(digest):
            return 0
        _, made = Notification.objects.get_or_create(
            dedupe_key=f"digest:{subscription.organization_id}:{user.pk}:{digest.frequency}:{period.name}",
            defaults={
                "organization_id": subscription.organization_id,
                "user": user,
                "recipient": user.email,
                **digests.mail(digest, user),
            },
        )
    return int(made)


def _worth_sending(digest: Digest) -> bool:
    """A quiet day is no mail, a quiet week is one line of good news; nobody hears weekly of an organisation that runs nothing."""
    return not digest.is_quiet or (digest.frequency == _Frequency.WEEKLY and bool(digest.lines))


def change_settings(
    subscription: DigestSubscription,
    *,
    frequency: str | None = None,
    hour: int | None = None,
    weekday: int | None = None,
    alerts: bool | None = None,
) -> DigestSubscription:
    """What this person wants. A new frequency or weekday begins with the next whole period. Raises Invalid."""
    if hour is not None and not 0 <= hour <= 23:
        raise errors.Invalid("The hour is one of 0 to 23.", fields={"hour": ["is between 0 and 23"]})
    if weekday is not None and not 0 <= weekday <= 6:
        raise errors.Invalid("The weekday is one of 0 (Monday) to 6.", fields={"weekday": ["is between 0 and 6"]})
    if frequency is not None and frequency not in _Frequency.values:
        raise errors.Invalid(
            f"There are no {frequency} digests.", fields={"frequency": [f"is one of {', '.join(_Frequency.values)}"]}
        )
    starts_anew = False
    for name, value in (("frequency", frequency), ("weekday", weekday)):
        if value is not None and value != getattr(subscription, name):
            setattr(subscription, name, value)
            starts_anew = True
    if starts_anew:
        subscription.last_period, subscription.changed_at = "", clock.now()
    if hour is not None:
        subscription.hour = hour
    if alerts is not None:
        subscription.alerts = alerts
    subscription.next_at = None
    subscription.save()
    return subscription
