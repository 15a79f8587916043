"""The predict path, whole: route -> right -> throttle -> body -> model -> answer -> log. Every door calls ``answer``; none adds rules.

The web process does not parse the body: the bytes go to the runner, the runner's bytes go back. Warm, it asks the database
nothing: keys, limits and routes come from short-lived caches (accounts.keys, accounts.throttling, serving.routing).
"""

from __future__ import annotations

import time
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
from serving.errors import NotDeployed, from_host
from serving.routing import Line, Table, choose, snapshot

log = logs.get(__name__)

BODY_LIMIT_BYTES = 5 << 20
JSON = "application/json"
PROBLEM = "application/problem+json"
_TICKETS = 1 << 20
_STATUS = {
    400: 400,
    413: 413,
    415: 415,
    422: 422,
}  # a runner's refusals that are the caller's to mend; all else is the model's failure: 502
_SEND_JSON = 'Send {"inputs": [{"column": value}]} with Content-Type: application/json.'


@dataclass(slots=True)
class Call:
    """What a door brings. ``read`` gives the body, or raises TooLarge; ``via``: api, page or job."""

    caller: Caller
    organization: str
    deployment: str
    read: Callable[[], bytes]
    content_type: str
    request_id: str
    version: str = ""
    via: str = "api"


@dataclass(slots=True)
class Answer:
    """What every door sends, byte for byte."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = JSON
    code: str = ""
    detail: str = ""


def answer(call: Call) -> Answer:
    """Predict, and log it before the answer leaves. Expected failures become problems here; only bugs raise."""
    started, at, base = time.perf_counter(), time.time(), ids.prediction_base()
    table: Table | None = None
    line: Line | None = None
    body = b""
    try:
        table = _table(call)
        limits = throttling.predict_allowed(call.caller)
        line = _line(table, call, base.int)
        body = _body(call)
        found = _relay(_ask(line, body, base))
        found.headers.update(limits)
    except SlipwayError as error:
        found = _refusal(error, call)
    except HostError as error:
        found = _refusal(from_host(error), call)
    except DatabaseError as error:
        log.warning("predict_database_away", error=str(error))
        found = _refusal(
            errors.NotReady(
                "The database does not answer.", code="database_unavailable", hint="Try again.", retry_after_s=2
            ),
            call,
        )
    found.headers["X-Request-Id"] = call.request_id
    if table is not None:
        prediction_log.append(
            base_id=base,
            organization_id=table.organization_id,
            deployment_id=table.deployment_id,
            version_id=line.version_id if line else None,
            at=at,
            latency_ms=round((time.perf_counter() - started) * 1e3, 3),
            status=found.status,
            code=found.code,
            detail=found.detail,
            key_prefix=call.caller.key.prefix if call.caller.key is not None else "",
            request_id=call.request_id,
            via=call.via,
            request=body,
            response=found.body,
        )
    return found


def _table(call: Call) -> Table:
    """The deployment's route table, for a caller who may predict there. A stranger sees what he sees of a missing one."""
    table = snapshot.find(call.organization, call.deployment)
    caller = call.caller
    if table is None or caller.role_in(table.organization_id) is None:
        raise errors.NotFound(f"There is no deployment {call.deployment!r} in {call.organization!r} that you may call.")
    if not caller.can("deployment.predict", table.organization_id):
        raise errors.Forbidden(
            "This API key lacks the scope 'predict'.",
            code="scope_missing",
            hint="Make a key with that scope under Settings, API keys.",
        )
    if caller.key is not None and caller.key.deployment and caller.key.deployment != table.name:
        raise errors.Forbidden(
            f"This API key is for the deployment {caller.key.deployment!r} only.",
            code="key_bound",
            hint="Use a key made for this deployment.",
        )
    return table


def _line(table: Table, call: Call, seed: int) -> Line:
    """The version that answers: the pinned one, else one of the live lines by weight."""
    if not table.live:
        raise NotDeployed(
            f"{table.name} is not live: nothing answers for it.",
            hint="Start it on its page, or deploy a version.",
            retry_after_s=30,
        )
    if not call.version:
        line = choose(table.lines, (seed >> ids.ROW_BITS) % _TICKETS / _TICKETS)
        if line is None:
            raise NotDeployed(f"{table.name} has no live version.", hint="Deploy a version.", retry_after_s=30)
        return line
    number = int(call.version) if call.version.isascii() and call.version.isdigit() and len(call.version) < 9 else -1
    pinned = snapshot.version(table, number) if number >= 0 else None
    if pinned is None:
        raise errors.NotFound(
            f"{table.name} has no ready version {call.version!r}.",
            code="version_not_found",
            hint="Leave ?version= out for the live one.",
        )
    return pinned


def _body(call: Call) -> bytes:
    if call.content_type.partition(";")[0].strip().lower() != JSON:
        raise errors.UnsupportedMediaType(
            f"Predictions take {JSON}, not {call.content_type or 'a body without a type'!r}.", hint=_SEND_JSON
        )
    body = call.read()
    if not body:
        raise errors.BadRequest("The body is empty.", code="invalid_json", hint=_SEND_JSON)
    return body


def _ask(line: Line, body: bytes, base: Any) -> Reply:
    try:
        return get_host().predict(line.spec, body, base_id=base)
    except ArtifactInvalid:  # its local copy is gone: bring it back, once
        snapshot.restore(line)
        return get_host().predict(line.spec, body, base_id=base)


def _relay(reply: Reply) -> Answer:
    """A 200 as it is; a runner's problem in our frame. What a runner says is its tenant's claim: only known statuses pass."""
    if reply.status == 200:
        return Answer(200, reply.body)
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


def _refusal(error: SlipwayError, call: Call) -> Answer:
    problem = problems.body_of(error, call.request_id)
    if error.status in (400, 413, 415, 422):
        problem["schema_url"] = f"/api/v1/predict/{call.organization}/{call.deployment}/schema"
    return Answer(error.status, orjson.dumps(problem), problems.headers_of(error), PROBLEM, error.code, error.detail)


def refuse(error: SlipwayError, call_request_id: str) -> Answer:
    """An error found before there is a call: who is asking is unknown."""
    body = orjson.dumps(problems.body_of(error, call_request_id))
    return Answer(
        error.status,
        body,
        {**problems.headers_of(error), "X-Request-Id": call_request_id},
        PROBLEM,
        error.code,
        error.detail,
    )
