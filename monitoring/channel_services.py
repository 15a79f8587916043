"""What people do with channels: make, change, give a new secret, test, send again, remove."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.urls import reverse

from accounts import audit
from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import clock, errors
from monitoring import announcing, delivery, webhooks
from monitoring.channels import addresses
from monitoring.models import Channel, IncidentStatus, Notification, Severity
from serving.models import Deployment

MOST = 50  # of one organisation
OVERLAP = timedelta(hours=24)  # how long the secret before still signs, too
MOST_OVERLAP_HOURS = 7 * 24
KEPT = timedelta(days=30)  # deliveries
_Kind, _Event, _Status = Channel.Kind, Channel.Event, Notification.Status
FIRST_EVENTS = (_Event.OPENED, _Event.RESOLVED, _Event.RETRAINING)
_MOST_TOKEN = 200


def create(  # noqa: PLR0913  a row, field by field
    organization: Organization, caller: Caller, *, kind: str, name: str, address: str, token: str = "",
    deployments: Iterable[str] | None = None, least_severity: str = Severity.INFO, events: Iterable[str] = FIRST_EVENTS,
) -> tuple[Channel, str]:  # fmt: skip
    """A channel, switched on; and the secret of a webhook, which cannot be read again (else "").

    deployments: names; None or empty: all. token: of an ntfy topic that asks for one. Raises Invalid, Conflict, OutboundError.
    """
    row = Channel(organization=organization, kind=_kind(kind), created_by=caller.person)
    secret = webhooks.new_secret() if row.kind == _Kind.WEBHOOK else ""
    if secret:
        row.give_secret(secret)
    changes = {"name": name, "address": address, "least_severity": least_severity, "events": events, "token": token}
    chosen = _set(row, {**changes, "deployments": deployments})
    try:
        with transaction.atomic():
            if Channel.objects.filter(organization=organization).count() >= MOST:
                raise errors.Conflict(
                    f"There are {MOST} channels already.",
                    code="too_many_channels",
                    hint="Remove one that nobody needs.",
                )
            row.save(force_insert=True)
            row.deployments.set(chosen or [])
            audit.record(organization, caller, "channel.made", row, place=row.place, events=row.events)
    except IntegrityError as error:
        raise _name_taken(row.name) from error
    return row, secret


def change(channel: Channel, caller: Caller, **changes: Any) -> Channel:
    """name, address, token, deployments, least_severity, events, enabled; what is not named stays. Raises Invalid, Conflict."""
    try:
        with transaction.atomic():
            row = Channel.objects.select_for_update().get(pk=channel.pk)
            chosen = _set(row, changes)
            if "enabled" in changes:
                _switch(row, caller, on=bool(changes["enabled"]))
            row.save()
            if chosen is not None:
                row.deployments.set(chosen)
            audit.record(row.organization, caller, "channel.changed", row, changed=sorted(changes))
    except IntegrityError as error:
        raise _name_taken(changes.get("name", channel.name)) from error
    return row


def rotate(channel: Channel, caller: Caller, *, overlap: timedelta = OVERLAP) -> str:
    """A new secret of a webhook, shown once. Until ``overlap`` has passed every message is signed with both. Raises Conflict."""
    if channel.kind != _Kind.WEBHOOK:
        raise errors.Conflict("Only webhooks are signed.", code="no_secret", hint="Paste the new address instead.")
    secret = webhooks.new_secret()
    with transaction.atomic():
        row = Channel.objects.select_for_update().get(pk=channel.pk)
        row.give_secret(secret, previous_until=clock.now() + overlap)
        row.save(update_fields=["secret_sealed", "previous_secret_sealed", "previous_until"])
        audit.record(row.organization, caller, "channel.secret_rotated", row, until=row.previous_until)
    channel.refresh_from_db()
    return secret


def remove(channel: Channel, caller: Caller) -> None:
    """With its deliveries; what waits is not sent."""
    with transaction.atomic():
        audit.record(channel.organization, caller, "channel.removed", channel, place=channel.place)
        channel.delete()


def send_test(channel: Channel, caller: Caller) -> Notification:
    """One message, sent as soon as a worker is free, and tried once; a channel that is switched off gets it, too."""
    now, org = clock.now(), channel.organization
    page = settings.BASE_URL + reverse("channel_detail", kwargs={"org": org.slug, "channel_id": channel.pk})
    news = announcing.News(
        type=announcing.TEST,
        key=f"test:{now.timestamp()}",
        title=f"{org.slug}: a test of the channel {channel.name}",
        text=f"{caller.label} sends this to see whether it arrives. Nothing is wrong.\n{page}",
        data={"organization": org.slug, "channel": channel.name, "sent_by": caller.label, "links": {"channel": page}},
    )
    with transaction.atomic():
        announcing.write(org, news, [channel])
        delivery.deliver_soon()
        audit.record(org, caller, "channel.tested", channel)
    return Notification.objects.filter(target=channel, type=announcing.TEST).latest("pk")


def redeliver(notification: Notification, caller: Caller) -> Notification:
    """Send it once more, with the same id and all tries anew. Raises Conflict unless it was sent or has failed."""
    with transaction.atomic():
        ended = Notification.objects.filter(pk=notification.pk, status__in=(_Status.SENT, _Status.FAILED))
        if ended.update(status=_Status.WAITING, attempts=0, next_at=clock.now(), error="", sent_at=None) != 1:
            raise errors.Conflict(
                "This message is on its way.", code="delivery_under_way", hint="Wait until it was sent or has failed."
            )
        delivery.deliver_soon()
        audit.record(
            notification.organization, caller, "delivery.repeated", notification, channel=notification.recipient
        )
    notification.refresh_from_db()
    return notification


def forget_deliveries() -> int:
    """Messages and mails that ended long ago. Returns how many went."""
    old = Notification.objects.filter(created_at__lt=clock.now() - KEPT, status__in=(_Status.SENT, _Status.FAILED))
    ended = Q(incident__isnull=True) | Q(incident__status=IncidentStatus.RESOLVED)  # the end is told to who was told
    return old.filter(ended).delete()[0]


# -- what may be said ---------------------------------------------------------------------------------------------


def _set(row: Channel, changes: dict[str, Any]) -> list[Deployment] | None:
    """Put what was said into the row; returns the deployments to be chosen, None when nothing was said of them. Raises Invalid."""
    if "name" in changes:
        row.name = _name(changes["name"])
    if changes.get("address"):
        place = addresses.check(row.kind, changes["address"])
        if (
            row.kind == _Kind.NTFY
            and row.secret_sealed
            and not _same_server(addresses.read(row.kind, row.address), place)
        ):
            row.give_secret(
                ""
            )  # a token is for the server it was typed for: whoever changes the address need not know it
        row.address, row.place = changes["address"].strip(), place.shown[:200]
    elif not row.address_sealed:
        raise errors.Invalid(
            "The address is missing.", fields={"address": [f"It looks like {addresses.LOOKS[row.kind]}"]}
        )
    if row.kind == _Kind.NTFY and "token" in changes:
        row.give_secret(_token(changes["token"]))
    if "least_severity" in changes:
        row.least_severity = _one_of("least_severity", changes["least_severity"], Severity.values)
    if "events" in changes:
        wanted = {_one_of("events", each, _Event.values) for each in changes["events"]}
        row.events = [each for each in _Event.values if each in wanted]
        if not row.events:
            raise errors.Invalid("Choose at least one event.", fields={"events": ["Choose at least one."]})
    chosen = _chosen(row, changes["deployments"]) if "deployments" in changes else None
    if _Event.DIGEST in row.events and not row.all_deployments:
        text = "The digest tells of all deployments: choose none, or leave the digest out."
        raise errors.Invalid(text, fields={"events": [text]})
    return chosen


def _same_server(one: addresses.Place, other: addresses.Place) -> bool:
    return (one.host, one.port, one.options.get("secure")) == (other.host, other.port, other.options.get("secure"))


def _chosen(row: Channel, names: Iterable[str] | None) -> list[Deployment]:
    wanted = sorted(set(names or ()))
    found = list(Deployment.objects.filter(organization=row.organization_id, name__in=wanted))
    if missing := set(wanted) - {each.name for each in found}:
        text = f"There is no deployment {sorted(missing)[0]!r}."
        raise errors.Invalid(text, fields={"deployments": [text]})
    row.all_deployments = not wanted
    return found


def _switch(row: Channel, caller: Caller, *, on: bool) -> None:
    if on:
        row.disabled_at, row.disabled_reason, row.refused, row.failing_since = None, "", False, None
    elif row.disabled_at is None:
        row.disabled_at, row.disabled_reason = clock.now(), f"Switched off by {caller.label}."


def _kind(kind: str) -> str:
    return _one_of("kind", kind, _Kind.values)


def _one_of(name: str, value: Any, known: list[str]) -> str:
    if value not in known:
        text = f"One of {', '.join(known)}."
        raise errors.Invalid(f"{name}: {text}", fields={name: [text]})
    return str(value)


def _name(name: str) -> str:
    text = " ".join(name.split())
    if not 0 < len(text) <= 80 or not text.isprintable():
        raise errors.Invalid("The name has 1 to 80 characters.", fields={"name": ["1 to 80 characters, on one line."]})
    return text


def _token(token: str) -> str:
    text = token.strip()
    if len(text) > _MOST_TOKEN or not text.isascii() or not (text.isprintable() or not text) or " " in text:
        raise errors.Invalid("The access token is not valid.", fields={"token": ["This is not one."]})
    return text


def _name_taken(name: str) -> errors.Conflict:
    text = f"There is a channel {name!r} already."
    return errors.Conflict(text, code="channel_exists", hint="Choose another name.", fields={"name": [text]})
