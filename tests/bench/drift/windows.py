"""The windows: clean ones, and streams in which a shift begins, for every size and kind, from one seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tests.bench.drift.data import DataSet, Table
from tests.bench.drift.shifts import SHIFTS

SIZES = (300, 500, 2_000, 5_000)
CLEAN = "clean"


@dataclass(frozen=True)
class Plan:
    """How much is looked at. clean: windows of each size; streams: of each shift and size, up to so many windows long."""

    clean: int = 250
    streams: int = 12
    length: int = 4
    sizes: tuple[int, ...] = SIZES


@dataclass(frozen=True)
class Case:
    """All windows of one size and kind. Each is made when asked for, and always the same."""

    of: DataSet
    kind: str
    size: int
    count: int

    def __iter__(self) -> Iterator[Table]:
        for number in range(self.count):
            yield self.window(number)

    def window(self, number: int) -> Table:
        place = [CLEAN, *SHIFTS].index(self.kind)
        rng = np.random.default_rng([place, self.size, number])
        table = self.of.window(self.size, rng)
        return table if self.kind == CLEAN else SHIFTS[self.kind][1](table, self.of, rng)

    @property
    def name(self) -> str:
        return f"windows-{self.kind.replace(' ', '_')}-{self.size}"


def cases(of: DataSet, plan: Plan) -> Iterator[Case]:
    """Sizes that the pool can give."""
    for size in plan.sizes:
        if size * 2 <= of.pool_rows:
            yield Case(of, CLEAN, size, plan.clean)
            for kind in SHIFTS:
                yield Case(of, kind, size, plan.streams * plan.length)
