"""Why an answer: the way of a prediction (right, limits, version, body), but the runner is asked to explain, and nothing is logged."""

from __future__ import annotations

import random
from typing import Any

from django.db import DatabaseError

from mlops.core import errors
from mlops.core.errors import SlipwayError
from mlops.runtime.errors import ArtifactInvalid
from mlops.runtime.host import HostError, Reply, get_host
from registry.models import ModelVersion
from serving import predict, samples
from serving.predict import Answer, Call, Ticket
from serving.routing import snapshot

BACKGROUND_ROWS = 20
_SECONDS = 30.0  # the runner bounds itself to a few; this is for opening the model and the library
_KNOWN_VERSIONS = 200
_known: dict[int, list[Any]] = {}


def answer(call: Call, method: str = "") -> Answer:
    """SHAP values per row and column, in the dialect of the call. ``method``: permutation, or empty for the best that fits the model."""
    ticket = predict.begin(call)
    return predict.told(ticket, ticket.refused or _ask(ticket, method))


def _ask(ticket: Ticket, method: str) -> Reply | predict.Refused:
    call, line = ticket.call, ticket.line
    try:
        if line is None:
            raise errors.NotReady("Nothing answers here.")
        body = predict.body_of(call)
        args = {
            "dialect": call.dialect,
            "content_type": call.content_type,
            "method": method,
            "background": background(line.version_id),
        }
        try:
            found = get_host().call(line.spec, "explain", args, body, timeout_s=_SECONDS)
        except ArtifactInvalid:
            snapshot.restore(line)
            found = get_host().call(line.spec, "explain", args, body, timeout_s=_SECONDS)
    except (SlipwayError, HostError, DatabaseError) as error:
        return error
    if found.status == 200 and call.dialect == "kserve":
        return Reply(200, {}, b'{"explanations":' + found.body + b"}")
    return found


def background(version_id: int) -> list[Any]:
    """Rows to compare with, of the version's reference, sample or example. A version never changes: they are looked up once."""
    rows = _known.get(version_id)
    if rows is None:
        version = ModelVersion.objects.prefetch_related("datasets").get(pk=version_id)
        every = samples.rows_of(version)
        rows = random.Random(version_id).sample(every, min(BACKGROUND_ROWS, len(every)))  # noqa: S311  no secret
        if len(_known) >= _KNOWN_VERSIONS:
            _known.clear()
        _known[version_id] = rows
    return rows
