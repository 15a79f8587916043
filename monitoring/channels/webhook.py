"""Webhook: the message as signed JSON (Standard Webhooks), the same id on every try."""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from mlops.core import errors
from monitoring import webhooks
from monitoring.channels import Answer, NotTaken
from monitoring.channels.answers import judge, not_reached
from monitoring.models import Notification


def send(notification: Notification) -> Answer:
    """One try. Raises NotTaken, Gone."""
    channel = notification.target
    if channel is None:
        raise NotTaken("Its channel is gone.")
    url = channel.address
    try:
        reply = webhooks.call_signed(
            url,
            channel.secrets(),
            notification.type,
            notification.payload,
            message_id=message_id(notification),
            at=notification.created_at,
        )
    except errors.SlipwayError as error:
        raise not_reached(error) from error
    return judge(reply, urlsplit(url).hostname or "The receiver")


def message_id(notification: Notification) -> str:
    """``webhook-id``: of the message, not of the try, so that a receiver can drop what it has had."""
    return "msg_" + hashlib.sha256(notification.dedupe_key.encode()).hexdigest()[:32]


def body(notification: Notification) -> bytes:
    """What was or will be sent, for the page about it."""
    return webhooks.body_of(notification.type, notification.payload, notification.created_at)
