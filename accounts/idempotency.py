"""``Idempotency-Key`` on calls that create something: the first answer is kept for 24 hours and given again, not made again.

    class Keys(APIView):
        @idempotent
        def post(self, request, org): ...

    @api_view(["POST"])
    @idempotent
    def push(request, org): ...

Without the header nothing changes. A key belongs to its caller. The same key with another request: 422 ``idempotency_key_reused``;
while the first call still runs: 409 ``idempotency_in_progress``. Only success is kept: after a refusal or a crash the key is free again.
A JSON body counts by its hash; a multipart body is streamed and counts by its length. A process killed between the deed and its
answer leaves the key taken for 15 minutes; the call that comes after that runs again.

Doors that are no DRF views (predictions: ``serving.once``) use ``check_key``, ``claim``, then ``keep`` or ``free``.
"""

from __future__ import annotations

import functools
import hashlib
import re
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import orjson
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.caller import Caller
from accounts.models import IdempotencyRecord
from accounts.sealing import seal, unseal
from mlops.core import clock, errors
from mlops.core.rendering import JsonRenderer

KEPT = timedelta(hours=24)
RUNS_AT_MOST = timedelta(minutes=15)  # an upload of some GB over a slow line
_KEY = re.compile(r"^[\x21-\x7e]{1,255}$")
_PURPOSE = "idempotency"

View = Callable[..., Response]


def idempotent(view: View) -> View:
    """For a DRF method or function view that creates something and answers with a ``Response``."""

    @functools.wraps(view)
    def once(*args: Any, **kwargs: Any) -> Response:
        request = next(each for each in args if isinstance(each, Request))
        key = request.headers.get("Idempotency-Key", "")
        if not key or not isinstance(request.user, Caller):
            return view(*args, **kwargs)
        check_key(key)
        record = claim(request.user.ref, key, _fingerprint(request))
        if record.status is not None:
            answer = orjson.loads(kept(record))
            return Response(answer, status=record.status, headers={"Idempotency-Replayed": "true"})
        return _run(record, view, args, kwargs)

    return once


def _run(record: IdempotencyRecord, view: View, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Response:
    try:
        response = view(*args, **kwargs)
    except BaseException:
        free(record)
        raise
    if 200 <= response.status_code < 300:
        keep(record, response.status_code, JsonRenderer().render(response.data).decode() or "null")
    else:
        free(record)
    return response


def keep(record: IdempotencyRecord, status: int, answer: str) -> None:
    """The claimed call was answered. Nothing happens when the claim was lost meanwhile."""
    _mine(record).update(status=status, body=seal(answer, _PURPOSE))


def free(record: IdempotencyRecord) -> None:
    """The claimed call came to nothing: its key is free again."""
    _mine(record).delete()


def kept(record: IdempotencyRecord) -> str:
    """The answer of a record with a status. Raises NotReady when the server's secret key has changed."""
    return unseal(record.body, _PURPOSE)


def _mine(record: IdempotencyRecord) -> QuerySet[IdempotencyRecord]:
    return IdempotencyRecord.objects.filter(pk=record.pk, claim=record.claim)


def check_key(key: str) -> None:
    """Raises BadRequest."""
    if not _KEY.match(key):
        raise errors.BadRequest(
            "Idempotency-Key must be 1 to 255 printable characters.",
            code="idempotency_key_invalid",
            hint="Use a UUID.",
        )


def _fingerprint(request: Request) -> str:
    whole = hashlib.sha256(f"{request.method} {request.get_full_path()}\n".encode())
    if digest := getattr(request, "body_sha256", ""):  # a body that its view has already brought to disk
        whole.update(digest.encode())
    elif (request.content_type or "").startswith("multipart/"):
        whole.update(f"multipart {request.META.get('CONTENT_LENGTH', '')}".encode())
    else:
        whole.update(request.body)
    return whole.hexdigest()


def claim(caller: str, key: str, fingerprint: str, runs_at_most: timedelta = RUNS_AT_MOST) -> IdempotencyRecord:
    """The record this call may fill (no status), or one that is filled. Raises Invalid or Conflict.

    ``runs_at_most``: a call that began longer ago and has no answer died.
    """
    mine, now = uuid.uuid4(), clock.now()
    try:
        with transaction.atomic():
            return IdempotencyRecord.objects.create(
                caller=caller, key=key, fingerprint=fingerprint, claim=mine, created_at=now
            )
    except IntegrityError:
        found = IdempotencyRecord.objects.filter(caller=caller, key=key).first()
    if found is None:  # just freed by the call that held it
        return claim(caller, key, fingerprint, runs_at_most)
    if found.created_at < now - (runs_at_most if found.status is None else KEPT):
        return _take_over(found, fingerprint, mine)
    if found.fingerprint != fingerprint:
        raise errors.Invalid(
            "This Idempotency-Key was used for another request.",
            code="idempotency_key_reused",
            hint="Use a fresh key for a new request.",
        )
    if found.status is None:
        raise _running()
    return found


def _take_over(found: IdempotencyRecord, fingerprint: str, claim: uuid.UUID) -> IdempotencyRecord:
    fresh = {"fingerprint": fingerprint, "claim": claim, "created_at": clock.now(), "status": None, "body": ""}
    if not IdempotencyRecord.objects.filter(pk=found.pk, claim=found.claim).update(**fresh):
        raise _running()
    found.refresh_from_db()
    return found


def _running() -> errors.Conflict:
    return errors.Conflict(
        "The first request with this Idempotency-Key still runs.",
        code="idempotency_in_progress",
        hint="Wait, then ask again.",
        retry_after_s=1,
    )
