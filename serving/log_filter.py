"""Which rows of the log somebody wants to see: by state, time, version, request. The page, the export and the API ask alike."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from django.db.models import Q

from mlops.core import errors
from serving.models import Deployment, PredictionLog, PredictionQuerySet
from serving.periods import Period, period


def rows(deployment: Deployment, query: Mapping[str, str]) -> tuple[PredictionQuerySet, Period | None]:
    """Newest first, and the period when one was asked for. Raises Invalid.

    ``status`` ok or error, ``range`` or ``since`` and ``until``, ``version``, ``find`` (an id of a prediction or a request), ``before`` (an id).
    """
    found = PredictionLog.objects.filter(deployment=deployment).order_by("-pk")
    found = by_status(found, query.get("status", ""))
    chosen = None
    if any(query.get(name) for name in ("range", "since", "until")):
        chosen = period(query)
        found = found.since(chosen.since).filter(at__gte=chosen.since)
        if not chosen.open:
            found = found.filter(at__lt=chosen.until)
    if version := query.get("version", ""):
        found = found.filter(version__number=_number(version))
    if wanted := query.get("find", "").strip():
        same = Q(request_id=wanted)
        found = found.filter(same | Q(pk=pk) if (pk := as_uuid(wanted)) else same)
    if (before := as_uuid(query.get("before", ""))) is not None:
        found = found.filter(pk__lt=before)
    return found, chosen


def by_status(found: PredictionQuerySet, wanted: str) -> PredictionQuerySet:
    match wanted:
        case "":
            return found
        case "ok":
            return found.answered()
        case "error":
            return found.failed()
    raise errors.Invalid(f"status is ok or error, not {wanted!r}.", fields={"status": ["Use ok or error."]})


def _number(text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    raise errors.Invalid(f"version is a number, not {text!r}.", fields={"version": ["Use a number, such as 3."]})


def as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
