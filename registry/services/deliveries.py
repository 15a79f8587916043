"""A webhook call becomes a row and a job, once. Nothing is fetched here."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts.buckets import take
from accounts.throttling import refusal
from mlops.core import errors, logs
from registry import hooks
from registry.hooks import Call, Event
from registry.models import Source, SourceDelivery, SourcePush
from registry.services import pushes

log = logs.get(__name__)
_NOBODYS = ["whsec_bm9ib2R5J3Mgc2VjcmV0LCBjb21wYXJlZCBhbGwgdGhlIHNhbWU="]


def accept(source_id: str, headers: Mapping[str, str], body: bytes) -> tuple[str, SourcePush | None, str]:
    """(status, push, reason): status is queued, closed, ignored or duplicate.

    Raises TooLarge, Unauthenticated (the same for an unknown source, a wrong signature and an old time), RateLimited, Gone (disabled),
    BadRequest and Invalid.
    """
    if len(body) > hooks.LIMIT_BYTES:
        raise too_large()
    source, call = _verified(source_id, headers, body)
    taken = take(f"hook {source.pk}", settings.HOOK_RATE)
    if not taken.allowed:
        raise refusal(taken, "webhook calls of this source")
    if source.disabled_at is not None:
        raise errors.SlipwayError(
            "This source is switched off.",
            code="source_disabled",
            status=410,
            hint="Switch it on, or delete the webhook.",
        )
    if SourceDelivery.objects.filter(source=source, delivery_id=call.delivery_id).exists():
        return "duplicate", None, ""
    event = hooks.event_of(call, github=source.kind == Source.Kind.GITHUB, clone_url=source.clone_url)
    try:
        with transaction.atomic():
            row = SourceDelivery.objects.create(
                source=source, delivery_id=call.delivery_id, event=call.event, outcome="received"
            )
            status, push, reason = _act(source, event)
            row.outcome = f"{status} {reason}".strip()[:200]
            row.save(update_fields=["outcome"])
    except IntegrityError:
        if not SourceDelivery.objects.filter(source=source, delivery_id=call.delivery_id).exists():
            raise
        return "duplicate", None, ""
    log.info("hook", source=str(source.pk), what=call.event, outcome=row.outcome)
    return status, push, reason


def too_large() -> errors.TooLarge:
    return errors.TooLarge(
        "A webhook's body is at most 1 MB.", hint="Send fewer events, or only push and pull request."
    )


def _verified(source_id: str, headers: Mapping[str, str], body: bytes) -> tuple[Source, Call]:
    source = _source(source_id)
    verify = hooks.verify_github if "X-Hub-Signature-256" in headers else hooks.verify_generic
    if source is not None and (source.kind == Source.Kind.GITHUB) != (verify is hooks.verify_github):
        source = None
    call = verify(headers, body, source.secrets() if source is not None else _NOBODYS)
    if source is None or call is None:
        raise errors.Unauthenticated(
            "The webhook's signature is not good.",
            code="signature_invalid",
            hint="Check the address and the secret of the webhook; a rotated secret is good for a day only.",
        )
    return source, call


def _source(source_id: str) -> Source | None:
    try:
        key = uuid.UUID(source_id)
    except ValueError:
        return None
    return Source.objects.select_related("organization", "created_by").filter(pk=key).first()


def _act(source: Source, event: Event) -> tuple[str, SourcePush | None, str]:
    if event.what == "closed":
        count = pushes.close(source, branch=event.branch, pull_request=event.pull_request)
        return "closed", None, f"{count} push{'' if count == 1 else 'es'}"
    if event.what == "nothing":
        return "ignored", None, event.reason
    push, reason = pushes.receive(
        source,
        branch=event.branch,
        sha=event.sha,
        ref=event.ref,
        pull_request=event.pull_request,
        message=event.message,
        author=event.author,
    )
    return ("queued", push, "") if push is not None and reason == "queued" else ("ignored", push, reason)
