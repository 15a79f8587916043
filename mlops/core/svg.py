"""Geometry of the small charts that pages draw on the server: numbers in, SVG coordinates out. No markup, no Django."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SPARK_WIDTH, SPARK_HEIGHT, _EDGE = 120, 28, 2.0
BAR_HEIGHT = 100.0


def real(value: object) -> float | None:
    """The value as a finite float; None for missing, NaN and infinite ones."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def spark_paths(values: Sequence[object]) -> tuple[str, str]:
    """SVG path data ``(line, area)`` of a sparkline in a 120 x 28 box; a missing value breaks the line. ``("", "")`` without data."""
    numbers = [real(value) for value in values]
    known = [number for number in numbers if number is not None]
    if not known:
        return "", ""
    low, high = min(min(known), 0.0), max(known)
    scale = (SPARK_HEIGHT - 2 * _EDGE) / ((high - low) or 1.0)
    step = (SPARK_WIDTH - 2 * _EDGE) / max(len(numbers) - 1, 1)
    line, area = [], []
    for run in _runs(numbers):
        points = [(_EDGE + index * step, SPARK_HEIGHT - _EDGE - (number - low) * scale) for index, number in run]
        if len(points) == 1:  # a lone value shows as a short dash
            points.append((points[0][0] + 1, points[0][1]))
        drawn = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        line.append(f"M{drawn}")
        area.append(f"M{points[0][0]:.1f} {SPARK_HEIGHT}L{drawn}L{points[-1][0]:.1f} {SPARK_HEIGHT}Z")
    return "".join(line), "".join(area)


def _runs(numbers: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    runs: list[list[tuple[int, float]]] = [[]]
    for index, number in enumerate(numbers):
        if number is None:
            runs.append([])
        else:
            runs[-1].append((index, number))
    return [run for run in runs if run]


@dataclass(frozen=True)
class Bin:
    """One bin of a histogram: shares are 0 to 1 of all rows, heights 0 to 100 of the tallest bar, x and width in the chart's units."""

    label: str
    reference: float
    current: float
    x: float
    width: float
    reference_height: float
    current_height: float

    @property
    def reference_y(self) -> float:
        return BAR_HEIGHT - self.reference_height

    @property
    def current_y(self) -> float:
        return BAR_HEIGHT - self.current_height

    @property
    def current_x(self) -> float:
        return self.x + self.width * 0.25

    @property
    def current_width(self) -> float:
        return self.width * 0.5


def bins(reference: Sequence[object], current: Sequence[object], labels: Sequence[object]) -> list[Bin]:
    """Reference and current counts (or shares) of the same bins side by side; each is turned into shares of its own sum."""
    if not len(reference) == len(current) == len(labels):
        raise ValueError(
            f"A histogram needs as many labels as bins: {len(reference)} reference, {len(current)} current, {len(labels)} labels."
        )
    before, now = _shares(reference), _shares(current)
    top = max([*before, *now, 1e-12])
    gap = 0.12
    return [
        Bin(str(label), r, c, index * 10 + 10 * gap / 2, 10 * (1 - gap), r / top * BAR_HEIGHT, c / top * BAR_HEIGHT)
        for index, (r, c, label) in enumerate(zip(before, now, labels, strict=True))
    ]


def _shares(counts: Sequence[object]) -> list[float]:
    numbers = [real(count) or 0.0 for count in counts]
    total = sum(numbers)
    return [number / total if total > 0 else 0.0 for number in numbers]


# --- Graphs ---------------------------------------------------------------------------------------------------------------
BOX_WIDTH, BOX_HEIGHT, _GAP_X, _GAP_Y = 172.0, 50.0, 52.0, 14.0


@dataclass(frozen=True)
class Placed:
    """A graph from left to right: the upper left corner of each node's box, and one path of each edge, in a box of this size."""

    width: float
    height: float
    corners: dict[str, tuple[float, float]]
    paths: dict[tuple[str, str], str]


def layered(ranks: dict[str, int], edges: Sequence[tuple[str, str]]) -> Placed:
    """A column a rank. Within its column a node stands as high as what leads to it, so that few lines cross."""
    columns: dict[int, list[str]] = {}
    for node, rank in ranks.items():
        columns.setdefault(rank, []).append(node)
    tallest = max((len(nodes) for nodes in columns.values()), default=0)
    height = max(tallest * (BOX_HEIGHT + _GAP_Y) - _GAP_Y, 0.0)
    corners: dict[str, tuple[float, float]] = {}
    for place, rank in enumerate(sorted(columns)):
        nodes = sorted(columns[rank], key=lambda node: _middle(node, edges, corners))  # stable: as they came
        top = (height - (len(nodes) * (BOX_HEIGHT + _GAP_Y) - _GAP_Y)) / 2
        for index, node in enumerate(nodes):
            corners[node] = (place * (BOX_WIDTH + _GAP_X), top + index * (BOX_HEIGHT + _GAP_Y))
    paths = {(source, target): _curve(corners[source], corners[target]) for source, target in edges}
    return Placed(max(len(columns) * (BOX_WIDTH + _GAP_X) - _GAP_X, 0.0), height, corners, paths)


def _middle(node: str, edges: Sequence[tuple[str, str]], corners: dict[str, tuple[float, float]]) -> float:
    """The mean height of what leads to it, as far as that is placed."""
    found = [corners[source][1] for source, target in edges if target == node and source in corners]
    return sum(found) / len(found) if found else 0.0


def _curve(source: tuple[float, float], target: tuple[float, float]) -> str:
    """From the right side of one box to the left side of the other."""
    x1, y1, x2, y2 = source[0] + BOX_WIDTH, source[1] + BOX_HEIGHT / 2, target[0], target[1] + BOX_HEIGHT / 2
    bend = min((x2 - x1) / 2, _GAP_X / 2)
    return f"M{x1:.1f} {y1:.1f}C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
