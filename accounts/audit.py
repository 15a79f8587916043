"""The audit log: who did what, in the transaction of what was done, each event chained to the one before by its hash.

``hash`` = SHA-256 over the canonical JSON (sorted keys, no spaces) of the event's fields and the previous hash.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.db import models, transaction

from accounts.caller import Caller
from accounts.models import AuditEvent, Organization


def record(organization: Organization, caller: Caller | None, action: str, subject: models.Model | None = None, **detail: Any) -> AuditEvent:
    """Append an event; call it inside the transaction of the change. ``caller`` None is the system itself."""
    with transaction.atomic():
        Organization.objects.select_for_update().get(pk=organization.pk)  # one writer per chain (SQLite locks the database itself)
        last = AuditEvent.objects.filter(organization=organization).order_by("-number").values("number", "hash").first()
        event = AuditEvent(
            organization=organization,
            number=last["number"] + 1 if last else 1,
            actor=caller.label if caller else "system",
            actor_user=caller.user if caller else None,
            actor_key=caller.key if caller else None,
            action=action,
            subject_type=subject._meta.model_name if subject is not None else "",
            subject_id=str(subject.pk) if subject is not None else "",
            subject_label=str(subject)[:200] if subject is not None else "",
            detail=detail,
            ip=caller.ip if caller else None,
            previous_hash=last["hash"] if last else "",
        )
        event.hash = _hash(event)
        event.save(force_insert=True)
    return event


def _hash(event: AuditEvent) -> str:
    told = {
        "organization": event.organization_id,
        "number": event.number,
        "at": event.at.isoformat(),
        "actor": event.actor,
        "action": event.action,
        "subject": [event.subject_type, event.subject_id, event.subject_label],
        "detail": event.detail,
        "ip": event.ip,
        "previous": event.previous_hash,
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def verify(organization: Organization) -> int | None:
    """The number of the first event that was changed, removed or put in between; None when the chain is whole."""
    previous, expected = "", 1
    for event in AuditEvent.objects.filter(organization=organization).order_by("number").iterator(2000):
        if event.number != expected or event.previous_hash != previous or event.hash != _hash(event):
            return expected
        previous, expected = event.hash, expected + 1
    return None
