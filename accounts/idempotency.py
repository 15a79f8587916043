"""``Idempotency-Key`` on creating calls: the same key gives the same answer for a day, whatever happened to the connection.

The same key with another body is refused (422), and so is a second call while the first is at work (409).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
from django.db import IntegrityError, transaction
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.caller import Caller
from accounts.models import IdempotentCall
from mlops.core import clock, errors

KEPT = timedelta(hours=24)
STUCK = timedelta(minutes=10)  # the web process died at work: the key may be used again
_LONGEST = 200


def idempotent(view: Callable[..., Response]) -> Callable[..., Response]:
    """Decorate a DRF handler method. Calls without the header pass through."""

    @functools.wraps(view)
    def handler(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get("Idempotency-Key", "").strip()
        if not key:
            return view(self, request, *args, **kwargs)
        if len(key) > _LONGEST:
            raise errors.BadRequest(f"Idempotency-Key is longer than {_LONGEST} characters.", code="idempotency_key_invalid")
        call, seen = _claim(request, key)
        if seen is not None:
            return seen
        try:
            response = view(self, request, *args, **kwargs)
        except BaseException:
            call.delete()  # nothing was made: the caller may mend the request and use the key again
            raise
        IdempotentCall.objects.filter(pk=call.pk).update(status=response.status_code, body=orjson.loads(orjson.dumps(response.data, default=str)))
        return response

    return handler


def _fingerprint(request: Request) -> str:
    """JSON bodies by content; an upload by its length and type, for its content is not read before it is stored."""
    digest = hashlib.sha256(f"{request.method} {request.path} ".encode())
    if request.content_type.startswith("multipart/"):
        digest.update(request.META.get("CONTENT_LENGTH", "").encode())
    else:
        digest.update(orjson.dumps(request.data, option=orjson.OPT_SORT_KEYS))
    return digest.hexdigest()


def _claim(request: Request, key: str) -> tuple[IdempotentCall, Response | None]:
    """This call's row, and the earlier answer if there is one. Raises Invalid, Conflict."""
    caller: Caller = request.user
    who = f"key:{caller.key.pk}" if caller.key is not None else f"user:{caller.user.pk}" if caller.user else "nobody"
    fingerprint, now = _fingerprint(request), clock.now()
    IdempotentCall.objects.filter(created_at__lt=now - KEPT).delete()
    IdempotentCall.objects.filter(status__isnull=True, created_at__lt=now - STUCK).delete()
    try:
        with transaction.atomic():
            return IdempotentCall.objects.create(caller=who, key=key, fingerprint=fingerprint), None
    except IntegrityError:
        call = IdempotentCall.objects.filter(caller=who, key=key).first()
    if call is None or call.status is None:
        raise errors.Conflict("A call with this Idempotency-Key is still at work.", code="idempotency_in_progress", hint="Wait a second and repeat it.", retry_after_s=1)
    if call.fingerprint != fingerprint:
        raise errors.Invalid(
            "This Idempotency-Key was used for another request.", code="idempotency_key_reused", hint="Use a new key for a new request."
        )
    return call, Response(call.body, status=call.status, headers={"Idempotent-Replayed": "true"})
