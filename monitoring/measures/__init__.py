"""What a rule can be made about: a measure reads one number of a deployment over any stretch of time, from counts.

A measure is a module's ``MEASURE`` and a line in ``known``. It reads what has been counted, never raw rows, so that a rule costs the
same for a thousand predictions and for ten million, and so that its past can be asked for ("would have fired 3 times").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.models import ModelVersion
    from serving.models import Deployment


@dataclass(frozen=True)
class Measured:
    """value: in the measure's unit, None when there is nothing to measure. rows: what it was measured on (requests, rows or
    labelled rows), compared with the rule's minimum_rows."""

    value: float | None
    rows: int


Window = tuple[datetime, datetime]
One = Callable[["Deployment", "ModelVersion | None", datetime, datetime, Mapping[str, Any]], Measured]
Past = Callable[["Deployment", "ModelVersion | None", Sequence[Window], Mapping[str, Any]], list[Measured]]


@dataclass(frozen=True)
class Measure:
    """code: stable name for API and rows. title, unit: for people (unit share is shown in per cent). params: name -> help of what
    its rules may set.

    past: its values of many windows at once, for charts and back-tests; where that is no cheaper, ``one`` for a single window, which is
    then asked for a bounded number of them. One of the two is there. Both raise Invalid when a parameter (a column, say) is unknown.
    least, greatest: what the value can be, where that is known: a threshold lies between them.
    needs_rows: whether a rule's minimum_rows applies; a count of requests is told by few of them, too.
    every_minutes: how often its rules are evaluated. page: the deployment's page that shows it: traffic, drift or quality.
    default: (threshold, window_minutes, minimum_rows) that a new rule begins with.
    """

    code: str
    title: str
    unit: str
    params: Mapping[str, str]
    past: Past | None = None
    one: One | None = None
    high_is_bad: bool = True
    least: float | None = None
    greatest: float | None = None
    needs_rows: bool = True
    every_minutes: int = 1
    page: str = "traffic"
    default: tuple[float, int, int] = (1.0, 60, 100)

    def read(
        self,
        deployment: Deployment,
        version: ModelVersion | None,
        start: datetime,
        end: datetime,
        params: Mapping[str, Any],
    ) -> Measured:
        """Its value of one window; version: None for all that answer."""
        if self.past is not None:
            return self.past(deployment, version, [(start, end)], params)[0]
        assert self.one is not None
        return self.one(deployment, version, start, end, params)


def known() -> dict[str, Measure]:
    """Every measure by its code."""
    from monitoring.measures import counts, quality, traffic

    return {each.code: each for each in (*traffic.MEASURES, *counts.MEASURES, *quality.MEASURES)}
