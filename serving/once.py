"""A prediction with an ``Idempotency-Key``: the model is asked once, the log has it once, and asking again gives the same bytes again.

As for every other call with such a key (``accounts.idempotency``): it belongs to its caller, another request under it is 422, a second one
while the first runs is 409 with Retry-After, and after 24 hours, or a refusal or failure of any kind, the key is free again.

An answer above 1 MB is given and not kept: it says so with ``Idempotency-Kept: false``, and asking again asks the model again. A process that
dies at work leaves the key taken for as long as a prediction may last at all; then the same request runs anew, with prediction ids of its
own. Had the first one come as far as the log, its row stays there, as that of any answer which the client never saw.

Calls that are answered again count against the limits like any other: they cost the database a look. They are not logged.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

import orjson
from django.conf import settings
from django.db import DatabaseError

from accounts import idempotency
from accounts.models import IdempotencyRecord
from mlops.core import errors, logs
from mlops.core.errors import SlipwayError
from mlops.runtime.limits import PREDICT_CEILING_S
from serving import predict
from serving.predict import Answer, Call, Ticket

log = logs.get(__name__)

LARGEST_KEPT_BYTES = 1 << 20
_MARGIN_S = 30
_OF_THIS_CALL = frozenset(("X-Request-Id", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"))


def answer(call: Call, key: str) -> Answer:
    """Like ``predict.answer``, once for each ``key`` of the caller. Without a key nothing is remembered."""
    if not key:
        return predict.answer(call)
    ticket = predict.begin(call)
    if ticket.refused is not None:
        return predict.finish(ticket, ticket.refused)
    try:
        idempotency.check_key(key)
        ticket.body = predict.body_of(call)
        record = idempotency.claim(call.caller.ref, key, _fingerprint(ticket), _runs_at_most())
        if record.status is not None:
            return _again(record, ticket)
    except errors.Conflict as error:  # it is being answered: no second line in the log
        return predict.refuse(error, call.request_id, call.dialect)
    except (SlipwayError, DatabaseError) as error:
        return predict.finish(ticket, error)
    return _first(record, ticket)


def _first(record: IdempotencyRecord, ticket: Ticket) -> Answer:
    try:
        found = predict.finish(ticket, predict.ask(ticket))
    except BaseException:
        idempotency.free(record)
        raise
    keepable = found.status == 200 and len(found.body) <= LARGEST_KEPT_BYTES
    try:
        if keepable:
            idempotency.keep(record, found.status, _packed(found))
        else:
            idempotency.free(record)
    except DatabaseError as error:  # the answer is there and logged: the client gets it
        log.warning("idempotent_answer_not_kept", error=str(error))
        keepable = False
    if found.status == 200 and not keepable:
        found.headers["Idempotency-Kept"] = "false"
    return found


def _again(record: IdempotencyRecord, ticket: Ticket) -> Answer:
    head, _, body = idempotency.kept(record).partition("\n")
    said = orjson.loads(head)
    headers = {
        **said["headers"],
        **ticket.limits,
        "Idempotency-Replayed": "true",
        "X-Request-Id": ticket.call.request_id,
    }
    return Answer(int(record.status or 200), body.encode("latin-1"), headers, said["content_type"])


def _packed(found: Answer) -> str:
    """Content type and headers as a line of JSON, then the body: bytes of any kind, each as the character of its number."""
    headers = {name: value for name, value in found.headers.items() if name not in _OF_THIS_CALL}
    head = orjson.dumps({"content_type": found.content_type, "headers": headers})
    return f"{head.decode()}\n{found.body.decode('latin-1')}"


def _fingerprint(ticket: Ticket) -> str:
    """What must be the same: where it goes, which version is asked for, how the body is to be read, and the body."""
    call = ticket.call
    asked = [call.organization, call.deployment, call.version, call.dialect, call.content_type, call.extras]
    if call.preview:
        asked.append(call.preview)
    return hashlib.sha256(b"\n".join((orjson.dumps(asked), ticket.body))).hexdigest()


def _runs_at_most() -> timedelta:
    """No prediction lasts longer: loading the model, asking it, and some time to get there."""
    return timedelta(seconds=settings.MODEL_LOAD_S + PREDICT_CEILING_S + _MARGIN_S)
