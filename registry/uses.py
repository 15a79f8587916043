"""What apps above do with versions, told by themselves: each puts a line into this table when it starts (``apps.py``).

So the registry can say where a version answers, take it out of there, and draw where it went, without knowing who they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accounts.caller import Caller
    from registry.lineage import Graph
    from registry.models import ModelVersion


@dataclass(frozen=True)
class Standing:
    """A place where a version answers now, and which version would answer there instead; None: there is no good one."""

    place: str
    weight: int
    back_to: int | None


@dataclass(frozen=True)
class Use:
    """An app's line.

    ``draw(graph, versions)`` adds what became of them to a lineage graph, in a number of queries that does not grow with them.
    ``standing(version)`` says where it answers. ``take_back(version, caller, to, why)`` makes ready whatever answers instead (``to``: a
    version's number, else the good one before) and returns the deed, to be called in the transaction of a revocation.
    """

    draw: Callable[[Graph, Sequence[ModelVersion]], None] | None = None
    standing: Callable[[ModelVersion], list[Standing]] | None = None
    take_back: Callable[[ModelVersion, Caller, int | None, str], Callable[[], None]] | None = None


_TABLE: dict[str, Use] = {}


def register(name: str, use: Use) -> None:
    _TABLE[name] = use


def every() -> list[Use]:
    return list(_TABLE.values())


def standing(version: ModelVersion) -> list[Standing]:
    """Everywhere it answers now."""
    return [place for use in every() if use.standing for place in use.standing(version)]
