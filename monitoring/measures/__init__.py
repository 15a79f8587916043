"""What a rule can be made about: a measure reads one number of a deployment over any stretch of time, from counts.

A measure is a module's ``MEASURE`` and a line in ``known``. It reads what has been counted, never raw rows, so that a rule costs the
same for a thousand predictions and for ten million, and so that its past can be asked for ("would have fired 3 times").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


@dataclass(frozen=True)
class Measure:
    """code: stable name for API and rows. title, unit: for people. params: name -> help of what its rules may set.

    read(deployment, version or None for all that answer, start, end, params) -> Measured. Raises Invalid when a parameter
    (a column, say) is unknown.
    """

    code: str
    title: str
    unit: str
    read: Callable[[Deployment, ModelVersion | None, datetime, datetime, Mapping[str, Any]], Measured]
    params: Mapping[str, str]
    high_is_bad: bool = True


def known() -> dict[str, Measure]:
    """Every measure by its code."""
    return {}
