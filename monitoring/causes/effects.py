"""What a moved column does to the predictions: the same version is asked again with the column put back as it was.

Neither logged nor counted as traffic. A column's effect is the share of rows whose class changes when it alone is put back;
of numbers the mean change, in standard deviations of what the model answers to these rows. What cannot be asked is said.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mlops.core import logs
from mlops.core.errors import SlipwayError
from mlops.runtime.errors import HostError
from mlops.runtime.schema import answers_labels
from monitoring.causes.rows import Evidence, LoggedRow
from monitoring.drift.causes import Cause
from monitoring.drift.causes.undo import undoer
from monitoring.drift.strange import is_strange, strangeness
from registry.models import ModelVersion
from serving.answering import Questions
from serving.comparing import Given, share_interval
from serving.redaction import redacted_columns

log = logs.get(__name__)
MOST_ROWS, MOST_COLUMNS = 300, 6
WHOLE = 0.9  # of the rows: what a cause explains so much of is taken back everywhere
_RANKED = ("range_shift", "scaled", "spread_change", "rescaled", "rounding", "clipped")
_Z95 = 1.959964


class _TimeIsUp(Exception):
    pass


class Asking:
    """How a job may ask: ``beat`` tells the queue that it lives; after ``seconds`` it is enough."""

    def __init__(self, beat: Callable[[], None], seconds: float) -> None:
        self._beat, self._seconds = beat, seconds
        self._until = math.inf

    def begin(self) -> None:
        self._until = time.monotonic() + self._seconds

    def beat(self) -> None:
        self._beat()
        if time.monotonic() > self._until:
            raise _TimeIsUp


def measure(
    version: ModelVersion,
    evidence: Evidence,
    moved: Sequence[str],
    causes: Mapping[str, Sequence[Cause]],
    places: set[int] | None,
    ask: Asking,
) -> dict[str, Any]:
    """{"state": "measured", "kind", "rows", "columns": {name: {"effect", "low", "high"}}, "together"} or {"state": "unasked", "why"}.

    places: which of the evidence's rows the causes hold for; None for all.
    """
    chosen = _chosen(evidence.rows)
    wanted = [name for name in moved if evidence.values(name)[1]][:MOST_COLUMNS]
    if not chosen or not wanted:
        return {"state": "unasked", "why": "the log keeps no rows that it could be asked again with"}
    back = {name: _put_back(evidence, name, next(iter(causes.get(name, ())), None), places) for name in wanted}
    ask.begin()
    try:
        with Questions(version, ask.beat) as questions:
            return _compare(questions, version, evidence.rows, chosen, back)
    except _TimeIsUp:
        return {"state": "late", "why": "the model took too long to answer"}
    except (SlipwayError, HostError) as error:
        log.info("effect_not_asked", version=version.pk, error=error.detail)
        return {"state": "unasked", "why": f"the model could not be asked: {error.detail}"[:300]}


def _chosen(rows: Sequence[LoggedRow]) -> list[int]:
    """Places of up to MOST_ROWS rows spread over all that the log keeps whole."""
    whole = [place for place, row in enumerate(rows) if not redacted_columns(row.features)]
    picked = np.unique(np.linspace(0, max(len(whole) - 1, 0), min(len(whole), MOST_ROWS)).astype(int))
    return [whole[place] for place in picked]


def _compare(
    questions: Questions,
    version: ModelVersion,
    rows: Sequence[LoggedRow],
    chosen: Sequence[int],
    back: Mapping[str, list[Any]],
) -> dict[str, Any]:
    as_is = questions.answers([rows[place].features for place in chosen])
    asked = [place for place, given in zip(chosen, as_is, strict=True) if given.error is None]
    as_is = [given for given in as_is if given.error is None]
    if not asked:
        return {"state": "unasked", "why": "the model refuses the rows of now"}
    labels = answers_labels(version.schema or {}) or not all(_is_number(given.prediction) for given in as_is)
    measured: dict[str, Any] = {}
    for name, values in back.items():
        put = [{**rows[place].features, name: values[place]} for place in asked]
        measured[name] = _effect(as_is, questions.answers(put), labels=labels)
    put = [{**rows[place].features, **{name: values[place] for name, values in back.items()}} for place in asked]
    together = _effect(as_is, questions.answers(put), labels=labels) if len(back) > 1 else next(iter(measured.values()))
    return {
        "state": "measured",
        "kind": "classes" if labels else "numbers",
        "rows": len(asked),
        "columns": measured,
        "together": together,
    }


def _effect(as_is: Sequence[Given], put_back: Sequence[Given], *, labels: bool) -> dict[str, float]:
    """The effect and its 95 % interval; a row that the model refuses once it is put back says nothing."""
    pairs = [(a.prediction, b.prediction) for a, b in zip(as_is, put_back, strict=True) if b.error is None]
    if labels:
        changed = sum(a != b for a, b in pairs)
        low, high = share_interval(changed, len(pairs))
        return {"effect": changed / len(pairs) if pairs else 0.0, "low": low, "high": high}
    numbers = np.array([pair for pair in pairs if all(map(_is_number, pair))], dtype=float).reshape(-1, 2)
    if numbers.shape[0] < 2:
        return {"effect": 0.0, "low": 0.0, "high": 0.0}
    spread = float(numbers[:, 1].std()) or float(numbers[:, 0].std()) or 1.0
    gaps = np.abs(numbers[:, 0] - numbers[:, 1]) / spread
    half = _Z95 * float(gaps.std(ddof=1)) / math.sqrt(gaps.size)
    mean = float(gaps.mean())
    return {"effect": mean, "low": max(0.0, mean - half), "high": mean + half}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


# -- a column as it was --------------------------------------------------------------------------------------------------


def _put_back(evidence: Evidence, name: str, cause: Cause | None, places: set[int] | None) -> list[Any]:
    """The column's value of every row as it would have been: the fault undone where it is known, else matched by rank, else drawn
    from the reference for the rows that are unlike it."""
    before, now = evidence.values(name)
    mine = [place for place in range(len(now)) if places is None or place in places]
    result = list(now)
    if cause is not None and cause.undo is not None:
        undo = undoer(cause.undo)
        undone = [undo(now[place]) for place in mine]
        everywhere = cause.share * len(now) > WHOLE * len(mine) or cause.undo["how"] == "levels"
        for place, value in zip(mine, undone, strict=True):
            result[place] = value if everywhere else _likelier(value, now[place], before)
    elif cause is not None and cause.code in _RANKED and _numeric(before) and _numeric(now):
        for place, value in zip(mine, _by_rank([now[place] for place in mine], before), strict=True):
            result[place] = value
    else:
        strange = is_strange(strangeness({name: before}, {name: now})[1])
        drawn = random.Random(name)  # noqa: S311  which rows, no secret
        known = [value for value in before if value is not None] or before
        for place in mine:
            if strange[place] or now[place] is None:
                result[place] = drawn.choice(known)
    return result


def _numeric(values: Sequence[Any]) -> bool:
    return bool(values) and sum(map(_is_number, values)) > 0.9 * len(values)


def _likelier(undone: Any, value: Any, before: Sequence[Any]) -> Any:
    """Of a value and its undone form the one nearer to the middle of the reference, by its quartiles."""
    if not (_is_number(undone) and _is_number(value)):
        return value
    numbers = np.array([each for each in before if _is_number(each)], dtype=float)
    low, middle, high = np.quantile(numbers, (0.25, 0.5, 0.75)) if numbers.size else (0.0, 0.0, 1.0)
    reach = max(high - low, 1e-300)
    return undone if abs(undone - middle) / reach < abs(value - middle) / reach else value


def _by_rank(now: Sequence[Any], before: Sequence[Any]) -> list[Any]:
    """Each number replaced by the reference's of the same rank; ties in the order they came. What is no number stays."""
    numbers = [(float(value), place) for place, value in enumerate(now) if _is_number(value)]
    reference = np.sort(np.array([value for value in before if _is_number(value)], dtype=float))
    whole = all(isinstance(value, int) for value in before if _is_number(value))
    result = list(now)
    for rank, (_, place) in enumerate(sorted(numbers)):
        value = float(np.quantile(reference, (rank + 0.5) / len(numbers), method="nearest"))
        result[place] = round(value) if whole else value
    return result
