"""What one call costs, in the runner itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_CALLS, _BUDGET_S, _AT_LEAST = 60, 0.25, 3


def microseconds(call: Callable[[], Any]) -> float:
    """The median of up to 60 calls within a quarter of a second, after one that warms up."""
    call()
    taken: list[float] = []
    until = time.perf_counter() + _BUDGET_S
    while len(taken) < _CALLS and (len(taken) < _AT_LEAST or time.perf_counter() < until):
        begun = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begun)
    taken.sort()
    return round(taken[len(taken) // 2] * 1e6, 1)
