"""Messages to channels as lists show them: which, and what came of each try."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from django.db.models import QuerySet

from accounts.models import Organization
from mlops.core import clock, errors
from monitoring.channels import chat, webhook
from monitoring.models import Attempt, Channel, Notification

SPANS = {"1d": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
STATUSES = (Notification.Status.WAITING, Notification.Status.SENT, Notification.Status.FAILED)
COLUMNS = (
    "message_id", "channel", "kind", "type", "severity", "subject", "created_at", "state", "attempt", "at", "outcome", "http_status", "duration_ms",
    "reply", "error",
)  # fmt: skip


def messages(organization: Organization, wanted: dict[str, str]) -> QuerySet[Notification]:
    """Those of the last ``range`` (1d, 7d, 30d), of a ``channel`` (its id), ``state`` and ``type``. Raises Invalid for other values."""
    rows = Notification.objects.filter(organization=organization, target__isnull=False).select_related("target")
    if span := wanted.get("range"):
        rows = rows.filter(created_at__gte=clock.now() - SPANS[_one_of("range", span, tuple(SPANS))])
    if channel := wanted.get("channel"):
        rows = rows.filter(target=_uuid(channel))
    if state := wanted.get("state"):
        state = _one_of("state", state, tuple(each.value for each in STATUSES))
        waiting = (Notification.Status.WAITING, Notification.Status.SENDING)
        rows = rows.filter(status__in=waiting) if state == Notification.Status.WAITING else rows.filter(status=state)
    if kind := wanted.get("type"):
        rows = rows.filter(type=_one_of("type", kind, types()))
    return rows.defer("html", "headers").order_by("-pk")


def types() -> tuple[str, ...]:
    return (*Channel.Event.values, "test")


def body(notification: Notification) -> str:
    """What is sent: a webhook's JSON; of a chat the words, whose form the service's own rules make."""
    if notification.channel == Channel.Kind.WEBHOOK:
        return webhook.body(notification).decode()
    return f"{notification.subject[: chat.TITLE_CHARS]}\n\n{notification.text[: chat.TEXT_CHARS]}"


def body_to_read(notification: Notification) -> str:
    """The same, JSON with line breaks."""
    if notification.channel == Channel.Kind.WEBHOOK:
        return orjson.dumps(orjson.loads(webhook.body(notification)), option=orjson.OPT_INDENT_2).decode()
    return body(notification)


def lines(rows: QuerySet[Notification]) -> Iterator[list[Any]]:
    """One for each try; of a message that was never tried, one that says so."""
    yield list(COLUMNS)
    for row in rows.prefetch_related("tries").iterator(chunk_size=500):
        tries: list[Attempt | None] = [*row.tries.all()]
        for number, each in enumerate(tries or [None], 1):
            yield _line(row, number, each)


def _line(row: Notification, number: int, each: Attempt | None) -> list[Any]:
    told = [
        webhook.message_id(row),
        row.recipient,
        row.channel,
        row.type,
        row.severity,
        row.subject,
        _iso(row.created_at),
        row.status,
    ]
    if each is None:
        return [*told, 0, "", "", "", "", "", row.error]
    return [*told, number, _iso(each.at), each.outcome, each.status or "", each.duration_ms, each.reply, each.error]


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    if value not in known:
        text = f"One of {', '.join(known)}."
        raise errors.Invalid(f"{name}: {text}", fields={name: [text]})
    return value


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise errors.Invalid("channel: the id of a channel.", fields={"channel": ["This is not one."]}) from error
