"""What apps above do with the log's rows, told by themselves: each puts a line into this table when it starts (``apps.py``).

So the log can be thinned out and rows deleted on request without knowing who counts them, who judges them, and who draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Q

if TYPE_CHECKING:
    from serving.models import Deployment


@dataclass(frozen=True)
class Use:
    """An app's line.

    ``counted()``: the rows of PredictionLog that its counters need no more. ``kept()``: those that stay although the sample would leave
    them out. ``erase(deployment_id, ids)`` deletes what it keeps of these predictions, in the transaction that deletes them, and says how
    much of what. ``erased(deployment, since, until)``: rows of that time were deleted; what shows some of them goes. ``marks(deployment,
    since)``: marks for charts (docs/ui.md).
    """

    counted: Callable[[], Q] | None = None
    kept: Callable[[], Q] | None = None
    erase: Callable[[int, Sequence[UUID]], dict[str, int]] | None = None
    erased: Callable[[Deployment, datetime | None, datetime | None], dict[str, int]] | None = None
    marks: Callable[[Deployment, datetime], list[dict[str, Any]]] | None = None


_USES: dict[str, Use] = {}


def register(app: str, use: Use) -> None:
    _USES[app] = use


def counted() -> Q | None:
    """The rows that no counter needs; None while nobody has said so: then no row may be left out."""
    found = [use.counted() for use in _USES.values() if use.counted is not None]
    if not found:
        return None
    every = Q()
    for each in found:
        every &= each
    return every


def kept() -> Q | None:
    found = [use.kept() for use in _USES.values() if use.kept is not None]
    some = Q()
    for each in found:
        some |= each
    return some if found else None


def erase(deployment_id: int, ids: Sequence[UUID]) -> dict[str, int]:
    return _added(use.erase(deployment_id, ids) for use in _USES.values() if use.erase is not None)


def erased(deployment: Deployment, since: datetime | None, until: datetime | None) -> dict[str, int]:
    return _added(use.erased(deployment, since, until) for use in _USES.values() if use.erased is not None)


def marks(deployment: Deployment, since: datetime) -> list[dict[str, Any]]:
    return [mark for use in _USES.values() if use.marks is not None for mark in use.marks(deployment, since)]


def _added(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            total[name] = total.get(name, 0) + count
    return total
