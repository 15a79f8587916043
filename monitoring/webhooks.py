"""Webhooks that go out: a JSON message, signed as Standard Webhooks 1.0.0 says, sent by the guarded client.

Body: ``{"type": "incident.opened", "timestamp": "2026-11-21T14:05:00+00:00", "data": {...}}``. Headers: ``webhook-id`` (the same on every
try of one message), ``webhook-timestamp`` (seconds, of this try), ``webhook-signature`` (``v1,<base64>``, one for each secret that is good).
"""

from __future__ import annotations

import base64
import secrets as random_secrets
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson
from standardwebhooks import Webhook

from mlops.core import clock, outbound

TIMEOUT_S = 10.0
REPLY_BYTES = 64 << 10  # of the answer, more is not read
BODY_BYTES = 64 << 10


def new_secret() -> str:
    return "whsec_" + base64.b64encode(random_secrets.token_bytes(32)).decode()


def body_of(kind: str, data: dict[str, Any], at: datetime) -> bytes:
    """The message as it is signed and sent."""
    return orjson.dumps({"type": kind, "timestamp": at.isoformat(), "data": data})


def headers_for(body: bytes, secrets: Sequence[str], message_id: str, now: datetime) -> dict[str, str]:
    """Signed with every secret that is good: while one is rotated, receivers may hold either."""
    signed = " ".join(Webhook(each).sign(message_id, now, body.decode()) for each in secrets)
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signed,
    }


def call_signed(  # noqa: PLR0913  a message, field by field
    url: str, secret: str | Sequence[str], kind: str, data: dict[str, Any], *,
    message_id: str = "", at: datetime | None = None, timeout_s: float = TIMEOUT_S,
) -> outbound.Reply:  # fmt: skip
    """One try, whatever is answered; the answer's body is cut at ``REPLY_BYTES``.

    secret: ``whsec_...``, or several that are good, newest first. message_id: to be the same when the same message is tried again
    (receivers drop what they have had). at: when it happened. Raises errors.Invalid (where we may not go), outbound.OutboundError.
    """
    now = clock.now()
    body = body_of(kind, data, at or now)
    secrets = [secret] if isinstance(secret, str) else list(secret)
    headers = headers_for(body, secrets, message_id or f"msg_{uuid.uuid4().hex}", now)
    return outbound.call(
        "POST", url, headers=headers, body=body, timeout_s=timeout_s, limit_bytes=REPLY_BYTES, cut=True
    )
