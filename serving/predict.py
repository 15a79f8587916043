"""The predict path, whole: route -> right -> throttle -> version -> body -> model -> answer -> log. No door adds rules of its own.

``answer`` is ``begin``, the model, ``finish``. The fast door (serving/door.py) calls the same two with an await between them: its
``begin(call, warm=True)`` looks into memory only. The web process does not parse the body: the bytes go to the runner, the runner's
bytes go back. Warm, nothing asks the database: keys, limits and routes come from short-lived caches (accounts.keys,
accounts.throttling, serving.routing).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db import DatabaseError

from accounts import throttling
from accounts.caller import Caller
from mlops.core import errors, ids, logs, problems
from mlops.core.errors import SlipwayError
from mlops.runtime.errors import ArtifactInvalid
from mlops.runtime.host import HostError, Reply, get_host
from serving import prediction_log
from serving.dialects import DIALECTS, JSON, parted
from serving.errors import NotDeployed, Paused, from_host
from serving.routing import Line, Table, choose, draw, snapshot
from serving.shadow import shadows

log = logs.get(__name__)

BODY_LIMIT_BYTES = 5 << 20
_STATUS = {
    400: 400,
    413: 413,
    415: 415,
    422: 422,
    501: 501,
}  # a runner's refusals that are the caller's to mend; all else is the model's failure: 502
Refused = (
    SlipwayError | HostError | DatabaseError
)  # what may go wrong on the way, to be told; everything else is a bug and raises


@dataclass(slots=True)
class Call:
    """What a door brings. ``read`` gives the body, or raises TooLarge; ``via``: api, page, job or preview.

    ``extras`` are the dialect's words for the runner's header; ``sticky`` keeps a client on one version; ``preview`` names the preview
    that is asked instead of the live versions.
    """

    caller: Caller
    organization: str
    deployment: str
    read: Callable[[], bytes]
    content_type: str
    request_id: str
    version: str = ""
    via: str = "api"
    dialect: str = "native"
    extras: dict[str, Any] | None = None
    sticky: str = ""
    preview: str = ""


@dataclass(slots=True)
class Ticket:
    """A call on its way. ``refused`` says why it ends before the model is asked."""

    call: Call
    base: uuid.UUID
    at: float
    started: float
    table: Table | None = None
    line: Line | None = None
    limits: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    refused: Refused | None = None


@dataclass(slots=True)
class Answer:
    """What every door sends, byte for byte. ``logged``: request and answer as if asked natively, of a call in another dialect."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON
    code: str = ""
    detail: str = ""
    logged: tuple[bytes, bytes] | None = None


def answer(call: Call) -> Answer:
    """Predict, and log it before the answer leaves. Expected failures become problems here; only bugs raise."""
    ticket = begin(call)
    return finish(ticket, ticket.refused or ask(ticket))


def begin(call: Call, *, warm: bool = False) -> Ticket:
    """Which version answers, if the caller may ask it now. ``warm``: from memory alone; raises NotWarm, with nothing taken, when it does not do."""
    ticket = Ticket(call, ids.prediction_base(), time.time(), time.perf_counter())
    try:
        ticket.table = _table(call, warm=warm)
        if warm and call.version:
            _line(ticket.table, call, ticket.base.int, warm=True)
        ticket.limits = _admitted(call.caller, ticket.table, warm=warm)
        ticket.line = _line(ticket.table, call, ticket.base.int, warm=warm)
    except (SlipwayError, DatabaseError) as error:
        ticket.refused = error
    return ticket


def check(call: Call) -> None:
    """Whether the caller may predict there, without asking for anything. Raises SlipwayError."""
    _table(call, warm=False)


def ask(ticket: Ticket) -> Reply | Refused:
    """Read the body unless a door has, and put it to the model. May load the model: takes as long as that takes."""
    try:
        ticket.body = ticket.body or body_of(ticket.call)
        try:
            return _predict(ticket)
        except ArtifactInvalid:  # its local copy is gone: bring it back, once
            snapshot.restore(_line_of(ticket))
            return _predict(ticket)
    except (SlipwayError, HostError, DatabaseError) as error:
        return error


def finish(ticket: Ticket, found: Reply | Refused) -> Answer:
    """The answer to send, logged."""
    call, table, line = ticket.call, ticket.table, ticket.line
    said = told(ticket, found)
    request, response = said.logged or (ticket.body, said.body)
    if table is not None:
        prediction_log.append(
            base_id=ticket.base,
            organization_id=table.organization_id,
            deployment_id=table.deployment_id,
            version_id=line.version_id if line else None,
            at=ticket.at,
            latency_ms=round((time.perf_counter() - ticket.started) * 1e3, 3),
            status=said.status,
            code=said.code,
            detail=said.detail,
            key_prefix=call.caller.key.prefix if call.caller.key is not None else "",
            request_id=call.request_id,
            via=call.via,
            request=request,
            response=response,
            pinned=bool(call.version),
        )
        if table.shadows and said.status == 200 and not call.version and not call.preview:
            shadows.offer(ticket, request, response)
    return said


def told(ticket: Ticket, found: Reply | Refused) -> Answer:
    """The answer to send, of a call that is not a prediction and not logged."""
    try:
        said = _relay(found, ticket)
    except SlipwayError as error:
        said = _refusal(error, ticket.call)
    said.headers["X-Request-Id"] = ticket.call.request_id
    return said


def _table(call: Call, *, warm: bool) -> Table:
    """The deployment's route table, for a caller who may predict there. A stranger sees what he sees of a missing one."""
    table = snapshot.find(call.organization, call.deployment, warm=warm)
    caller = call.caller
    homes = table.homes_of(caller) if table is not None else []
    if table is None or not homes:
        raise errors.NotFound(f"There is no deployment {call.deployment!r} in {call.organization!r} that you may call.")
    if not any(caller.can("deployment.predict", home) for home in homes):
        raise errors.Forbidden(
            "This API key lacks the scope 'predict'.",
            code="scope_missing",
            hint="Make a key with that scope under Settings, API keys.",
        )
    bound = caller.key.deployment if caller.key is not None else ""
    if bound and (bound != table.name or homes != [table.organization_id]):
        raise errors.Forbidden(
            f"This API key is for the deployment {bound!r} only.",
            code="key_bound",
            hint="Use a key made for this deployment.",
        )
    return table


def _admitted(caller: Caller, table: Table, *, warm: bool) -> dict[str, str]:
    """The RateLimit headers of a call that its limits admit."""
    if not warm:
        return throttling.predict_allowed(caller, table)
    limits = throttling.predict_lease(caller, table)
    if limits is None:
        raise errors.NotWarm
    return limits


def _line(table: Table, call: Call, seed: int, *, warm: bool) -> Line:
    """The version that answers: the preview's, the pinned one, else one of the live lines by weight; for a guest only shared ones."""
    allowed = table.limit_of(call.caller)
    if call.preview and (table.live or table.paused):
        return _preview(table, call, allowed)
    if table.paused:
        raise Paused(f"{table.name} is paused.", hint="Try again later: it keeps its versions.", retry_after_s=30)
    if not table.live:
        raise NotDeployed(
            f"{table.name} is not live: nothing answers for it.",
            hint="Start it on its page, or deploy a version.",
            retry_after_s=30,
        )
    if call.version:
        return _pinned(table, call, allowed, warm=warm)
    lines = table.lines if allowed is None else [line for line in table.lines if line.version_id in allowed]
    line = choose(lines, draw(table, call.sticky, call.caller.ref, seed >> ids.ROW_BITS))
    if line is not None:
        return line
    if allowed is not None:
        raise _not_shared("the version that answers")
    raise NotDeployed(f"{table.name} has no live version.", hint="Deploy a version.", retry_after_s=30)


def _not_shared(what: str) -> errors.NotFound:
    """The same for what there is not and what is not shared: a guest does not learn which."""
    return errors.NotFound(
        f"You have no share of {what}.",
        code="version_not_found",
        hint="Ask for a version that is shared with you: ?version=3.",
    )


def _pinned(table: Table, call: Call, allowed: frozenset[int] | None, *, warm: bool) -> Line:
    number = int(call.version) if call.version.isascii() and call.version.isdigit() and len(call.version) < 9 else -1
    pinned = snapshot.version(table, number, warm=warm) if number >= 0 else None
    if allowed is not None and (pinned is None or pinned.version_id not in allowed):
        raise _not_shared(f"version {call.version!r}")
    if pinned is None:
        raise errors.NotFound(
            f"{table.name} has no ready version {call.version!r}.",
            code="version_not_found",
            hint="Leave ?version= out for the live one.",
        )
    return pinned


def _preview(table: Table, call: Call, allowed: frozenset[int] | None) -> Line:
    line = snapshot.preview(table, call.preview)
    if allowed is not None and (line is None or line.version_id not in allowed):
        raise _not_shared(f"the preview {call.preview!r}")
    if line is None:
        raise errors.NotFound(
            f"{table.name} has no preview {call.preview!r}.",
            code="preview_not_found",
            hint="It may have expired or been deleted. v3 is the preview of version 3, if that is ready.",
        )
    return line


def body_of(call: Call) -> bytes:
    """Raises SlipwayError."""
    dialect = DIALECTS[call.dialect]
    dialect.check(call.content_type)
    body = call.read()
    if not body:
        raise errors.BadRequest("The body is empty.", code="invalid_json", hint=dialect.hint)
    return body


def _predict(ticket: Ticket) -> Reply:
    call = ticket.call
    return get_host().predict(
        _line_of(ticket).spec,
        ticket.body,
        content_type=call.content_type,
        base_id=ticket.base,
        dialect=call.dialect,
        extras=call.extras,
    )


def _line_of(ticket: Ticket) -> Line:
    if ticket.line is None:
        raise RuntimeError("a refused call was put to a model")
    return ticket.line


def _expected(found: Refused) -> SlipwayError:
    """What went wrong, in the product's words."""
    if isinstance(found, SlipwayError):
        return found
    if isinstance(found, HostError):
        return from_host(found)
    log.warning("predict_database_away", error=str(found))
    return errors.NotReady(
        "The database does not answer.", code="database_unavailable", hint="Try again.", retry_after_s=2
    )


def _relay(reply: Reply | Refused, ticket: Ticket) -> Answer:
    """A 200 as it is; everything else raises. What a runner says is its tenant's claim: only known statuses and headers pass."""
    if not isinstance(reply, Reply):
        raise _expected(reply)
    if reply.status == 200:
        if ticket.call.dialect == "native":
            return Answer(200, reply.body, dict(ticket.limits))
        return _translated(reply, ticket)
    try:
        said = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        said = None
    said = said if isinstance(said, dict) else {}
    fields = said.get("errors")
    raise SlipwayError(
        str(said.get("detail") or "The model failed."),
        code=str(said.get("code") or "model_error"),
        hint=str(said.get("hint") or ""),
        status=413 if said.get("code") == "too_many_rows" else _STATUS.get(reply.status, 502),
        fields=fields if isinstance(fields, list) else None,
    )


def _translated(reply: Reply, ticket: Ticket) -> Answer:
    """A 200 in another dialect: the client's part of it, and what the log keeps."""
    dialect, said = DIALECTS[ticket.call.dialect], reply.header
    body, logged = parted(reply.body, said.get("log"))
    headers = {**ticket.limits, **dialect.headers(said.get("headers")), "X-Prediction-Id": str(ticket.base)}
    return Answer(200, body, headers, dialect.content_type(said.get("content_type")), logged=logged)


def _refusal(error: SlipwayError, call: Call) -> Answer:
    problem = problems.body_of(error, call.request_id)
    if error.status in (400, 413, 415, 422):
        problem["schema_url"] = f"/api/v1/predict/{call.organization}/{call.deployment}/schema"
    status, body, content_type = DIALECTS[call.dialect].refuse(error, problem)
    return Answer(status, body, problems.headers_of(error), content_type, error.code, error.detail)


def refuse(error: SlipwayError, call_request_id: str, dialect: str = "native") -> Answer:
    """An error found before there is a call: who is asking is unknown."""
    status, body, content_type = DIALECTS[dialect].refuse(error, problems.body_of(error, call_request_id))
    headers = {**problems.headers_of(error), "X-Request-Id": call_request_id}
    return Answer(status, body, headers, content_type, error.code, error.detail)
