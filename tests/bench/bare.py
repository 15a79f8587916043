"""The model alone, in a process of its own: microseconds a call of its own library and of its ONNX form, for one row and a hundred.

``python -m tests.bench.bare`` with the environment of a peer (``BENCH_MODEL``, ``BENCH_MODELS``) prints {"native": {"1": ...}, "onnx": {...}}.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from tests.bench.models import Case

_SECONDS, _CALLS = 0.4, 5


def measure(case: Case) -> dict[str, dict[str, float]]:
    variables = {"BENCH_MODEL": case.name, "BENCH_MODELS": str(case.folder.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-m", __name__]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def main() -> None:
    import numpy as np

    from tests.bench.peers import by_hand

    name, folder = by_hand.chosen()
    rows = Case(name, folder).rows
    native, onnx = by_hand.native(), by_hand.onnx()
    found: dict[str, dict[str, float]] = {"native": {}, "onnx": {}}
    for count in (1, 100):
        asked = np.asarray(rows[:count])
        few = asked.astype(np.float32)
        found["native"][str(count)] = _us(lambda asked=asked: native(asked))
        found["onnx"][str(count)] = _us(lambda few=few: onnx(few))
    print(json.dumps(found))


def _us(step: Callable[[], Any]) -> float:
    times, end = [], time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < end:
        for _ in range(_CALLS):
            step()
        times.append((time.perf_counter() - started) / _CALLS)
    return median(times) * 1e6


if __name__ == "__main__":
    main()
