"""Simulated drift: shifted rows through the real predict path, so that one can see the alarm go off before it matters."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from accounts.caller import Caller
from mlops.core import errors, ids
from serving import predict, samples
from serving.models import Deployment
from serving.predict import JSON, Call

ROWS_PER_CALL = 25
LEAST_ROWS, MOST_ROWS = 400, 5_000
FACTOR = 3.0


def send(
    deployment: Deployment, rows_in_window: int, caller: Caller, on_progress: Callable[[float], None]
) -> tuple[int, str]:
    """As many shifted rows as the window holds (400 to 5,000), logged like any others. (rows answered, what was shifted).

    Raises Conflict when nothing is live, or nothing of what the model takes can be shifted.
    """
    version = deployment.live_version
    if version is None:
        raise errors.Conflict(f"{deployment.name} is not live.", code="not_live", hint="Start it first.")
    known = samples.rows_of(version)
    change, what = shift_of(known)
    count = min(max(rows_in_window, LEAST_ROWS), MOST_ROWS)
    drawn = random.Random(version.pk).choices(known, k=count)  # noqa: S311  which rows, no secret
    answered = 0
    for start in range(0, count, ROWS_PER_CALL):
        chunk = [change(row) for row in drawn[start : start + ROWS_PER_CALL]]
        if _predict(deployment, chunk, caller):
            answered += len(chunk)
        on_progress((start + len(chunk)) / count)
    return answered, what


def shift_of(rows: list[Any]) -> tuple[Callable[[Any], Any], str]:
    """How to shift rows like these: the column of fractions (or else whole numbers) that is largest, times three; without
    numbers, always the rarest text. Raises Conflict when there is neither."""
    named = isinstance(rows[0], dict)
    places = list(rows[0]) if named else list(range(len(rows[0])))
    for kind in (float, int):
        if numbers := [place for place in places if _all(rows, place, kind)]:
            place = max(numbers, key=lambda each: sum(abs(row[each] or 0) for row in rows))
            return _changing(place, partial(_times, kind)), f"{_name(place)} times {FACTOR:g}"
    for place in places:
        texts = [row[place] for row in rows if isinstance(row[place], str)]
        if len(set(texts)) > 1:
            rarest = min(sorted(set(texts)), key=texts.count)
            return _changing(place, partial(_always, rarest)), f"{_name(place)} always “{rarest}”"
    raise errors.Conflict("This model takes no numbers or texts that could be shifted.", code="nothing_to_shift")


def _times(kind: type, value: Any) -> Any:
    return None if value is None else kind(value * FACTOR)


def _always(text: str, value: Any) -> str:
    return text


def _all(rows: list[Any], place: Any, kind: type) -> bool:
    values = [row[place] for row in rows if row[place] is not None]
    return bool(values) and all(type(value) is kind for value in values) and any(values)


def _name(place: Any) -> str:
    return f"f{place}" if isinstance(place, int) else str(place)


def _changing(place: Any, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(row: Any) -> Any:
        copy = dict(row) if isinstance(row, dict) else list(row)
        copy[place] = change(copy[place])
        return copy

    return changed


def _predict(deployment: Deployment, rows: list[Any], caller: Caller) -> bool:
    body = orjson.dumps({"inputs": rows})
    call = Call(
        caller=caller,
        organization=deployment.organization.slug,
        deployment=deployment.name,
        read=lambda: body,
        content_type=JSON,
        request_id=str(ids.uuid7()),
        via="job",
    )
    return predict.answer(call).status == 200
