"""The audit log: who did what, in the same transaction as the deed, each event hash-chained to the one before it.

The chain shows any later change: ``verify`` recomputes it. It does not stop somebody who may write the database from making a whole
new chain; whoever needs that keeps ``AuditHead.hash`` elsewhere, too.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import math
from datetime import UTC
from typing import Any

from django.db import models, transaction

from accounts.caller import Caller
from accounts.models import AuditEvent, AuditHead, Organization
from mlops.core import clock

_EXACT = 1e15  # above it a JSON column may turn a float into an integer, and the hash would no longer match


def record(
    organization: Organization,
    caller: Caller | None,
    action: str,
    subject: models.Model | None = None,
    /,
    **detail: Any,
) -> AuditEvent:
    """Append an event; ``caller`` None is the system itself. Call it last in the deed's transaction: it holds the chain until the commit."""
    with transaction.atomic():
        AuditHead.objects.get_or_create(organization=organization)
        head = AuditHead.objects.select_for_update().get(organization=organization)
        event = AuditEvent(
            organization=organization,
            number=head.number + 1,
            at=clock.now(),
            action=action,
            detail=_plain(detail),
            previous_hash=head.hash,
            **_actor(caller),
            **_subject(subject),
        )
        event.hash = digest(event)
        event.save()
        head.number, head.hash = event.number, event.hash
        head.save(update_fields=["number", "hash"])
    return event


def verify(organization: Organization) -> int | None:
    """The number of the first event that is missing or was changed; None when the whole chain holds."""
    number, previous = 0, ""
    for event in AuditEvent.objects.filter(organization=organization).order_by("number").iterator(chunk_size=1000):
        number += 1
        if event.number != number or event.previous_hash != previous or event.hash != digest(event):
            return number
        previous = event.hash
    head = AuditHead.objects.filter(organization=organization).first()
    if (head.number, head.hash) != (number, previous) if head is not None else number:
        return number + 1
    return None


def digest(event: AuditEvent) -> str:
    """sha256 over the event's facts as canonical JSON, and the hash before it. Row ids of other tables are left out: those rows may go."""
    facts = {
        "organization": event.organization_id,
        "number": event.number,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": event.actor,
        "actor_ref": event.actor_ref,
        "action": event.action,
        "subject": [event.subject_type, event.subject_id, event.subject_label],
        "detail": event.detail,
        "ip": str(ipaddress.ip_address(event.ip)) if event.ip else None,
        "previous": event.previous_hash,
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _actor(caller: Caller | None) -> dict[str, Any]:
    if caller is None:
        return {"actor": "system", "actor_ref": "system"}
    return {
        "actor": _text(caller.label)[:200],
        "actor_ref": caller.ref,
        "actor_user": caller.user,
        "actor_key": caller.key,
        "ip": caller.ip or None,
    }


def _subject(subject: models.Model | None) -> dict[str, str]:
    if subject is None:
        return {}
    return {
        "subject_type": str(subject._meta.model_name),
        "subject_id": str(subject.pk)[:40],
        "subject_label": _text(str(subject))[:200],
    }


def _text(value: str) -> str:
    return value.replace("\x00", "")  # PostgreSQL keeps no NUL


def _plain(value: Any) -> Any:
    """JSON that comes back from either database exactly as it went in."""
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) and abs(value) < _EXACT else repr(value)
        case dict():
            return {_text(str(name)): _plain(each) for name, each in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(each) for each in value]
        case _:
            return _text(str(value))
