"""Does the budget hold as the product runs it? Deployments without any drift, hour after hour for 90 days, on counts.

Each hour a fresh draw of rows per column from the reference's own shares; each hour the verdict over the last hour, the last
24 hours and the last seven days, as ``monitoring.checks`` asks for it. Windows overlap, so alarms come in runs: what counts is
how many times a deployment that was calm begins to alarm.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from monitoring.drift.tally import Tally
from monitoring.drift.verdict import judge
from monitoring.drift.window import ColumnWindow
from tests.bench.drift.data import DataSet, take
from tests.bench.drift.rules import Ours, plain, policy

DAYS = 90
HOURS = (1, 24, 168)


@dataclass(frozen=True)
class Kept:
    """checks: judged windows; begun: alarms that began, said (a warning or more) and as incidents."""

    deployments: int
    days: int
    checks: int
    said: int
    incidents: int


def run(of: DataSet, *, deployments: int, days: int = DAYS, rows_an_hour: int = 400, seed: int = 0) -> Kept:
    ours = Ours(of)
    checks = said = incidents = 0
    for number in range(deployments):
        rng = np.random.default_rng([seed, number])
        past: deque[dict[str, Tally]] = deque(maxlen=max(HOURS))
        before = dict.fromkeys(HOURS, "ok")
        for _ in range(days * 24):
            past.append(_hour(of, ours, rows_an_hour, rng))
            for hours in HOURS:
                severity = _judge(ours, list(past)[-hours:])
                checks += 1
                said += severity in ("warning", "drift") and before[hours] not in ("warning", "drift")
                incidents += severity == "drift" and before[hours] != "drift"
                before[hours] = severity
    return Kept(deployments, days, checks, said, incidents)


def _hour(of: DataSet, ours: Ours, rows: int, rng: np.random.Generator) -> dict[str, Tally]:
    window = take(of.pool, rng.integers(0, of.pool_rows, rows))
    return {name: ours.bins[name].tally(plain(values)) for name, values in window.items()}


def _judge(ours: Ours, hours: list[dict[str, Tally]]) -> str:
    columns = [
        ColumnWindow(name, bins, ours.before[name], Tally.total(hour[name] for hour in hours), name in ours.of.outputs)
        for name, bins in ours.bins.items()
    ]
    return judge(columns, policy()).severity
