"""Are causes named rightly? Every fault of tests/monitoring/faults.py, on bundled real data and on made-up data.

    .venv/bin/python -m tests.bench.causes            # table, and a confusion table of what was said instead
    .venv/bin/python -m tests.bench.causes --quick    # fewer seeds
    .venv/bin/python -m tests.bench.causes --misses   # each miss with its sentence

What is judged is the first thing an alert says: the first cause of the whole table, else of the column that moved most.
"""

from __future__ import annotations

import argparse
import copy
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from monitoring.drift.bins import fit, kind_for
from monitoring.drift.causes.whole import Sampled, explain
from monitoring.drift.verdict import judge
from monitoring.drift.window import ColumnWindow
from tests.monitoring import shop
from tests.monitoring.faults import FAULTS, Rows

REFERENCE_ROWS = 2000
MOST_COLUMNS = 10
TYPES = {"seen": "datetime"}


def real(name: str) -> Callable[[int, random.Random], Rows]:
    """Rows drawn from one of scikit-learn's bundled sets, each moved by a little noise so that none is an exact copy."""
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")(as_frame=True, **({"scaled": False} if name == "diabetes" else {}))
    frame = loaded.data.iloc[:, :MOST_COLUMNS]
    stored = frame.to_numpy(dtype=float)
    names = [str(each).replace(" ", "_") for each in frame.columns]
    whole = (stored == np.round(stored)).all(axis=0)
    digits = [
        0 if is_whole else 1 + max(len(f"{value:.10g}".partition(".")[2]) for value in column)
        for is_whole, column in zip(whole, stored.T, strict=True)
    ]
    spread = stored.std(axis=0)

    def draw(count: int, generator: random.Random) -> Rows:
        rows = []
        for _ in range(count):
            picked = stored[generator.randrange(len(stored))]
            made = {}
            for place, each in enumerate(names):
                noise = 0.0 if whole[place] and spread[place] < 3 else generator.gauss(0, 0.05 * spread[place])
                value = round(float(picked[place] + noise), digits[place])
                made[each] = int(value) if whole[place] else value
            rows.append(made)
        return rows

    return draw


def data_sets() -> dict[str, Callable[[int, random.Random], Rows]]:
    return {"shop": shop.rows} | {name: real(name) for name in ("breast_cancer", "wine", "diabetes", "iris")}


@dataclass(frozen=True)
class Case:
    data: str
    fault: str
    share: float
    rows: int
    seed: int


@dataclass(frozen=True)
class Said:
    """What the alert says first. alerted: whether there was one at all."""

    alerted: bool
    code: str = ""
    columns: frozenset[str] = frozenset()
    sentence: str = ""


def say(reference: Rows, now: Rows) -> Said:
    """The verdict and its causes, as a check makes them."""
    sampled = []
    for name in reference[0]:
        before, current = [row[name] for row in reference], [row[name] for row in now]
        bins = fit(before, kind_for(before, TYPES.get(name)))
        sampled.append(Sampled(name, bins, bins.tally(before), bins.tally(current), before, current))
    windows = [ColumnWindow(each.name, each.bins, each.reference, each.current) for each in sampled]
    moved = [column.name for column in judge(windows).moved]
    if not moved:
        return Said(alerted=False)
    found = explain(sampled, moved)
    if found.table:
        names = found.table[0].numbers.get("columns") or moved
        return Said(True, found.table[0].code, frozenset(names), found.table[0].sentence)
    first = found.causes[moved[0]]
    if not first:
        return Said(True, "none", frozenset(moved[:1]))
    return Said(True, first[0].code, frozenset(moved[:1]), first[0].sentence)


def run(case: Case, draw: Callable[[int, random.Random], Rows]) -> tuple[bool, set[str], Said] | None:
    """(named rightly, what it should be called, what was said); None when the data has no column for this fault."""
    generator = random.Random(f"{case.data} {case.fault} {case.share} {case.rows} {case.seed}")
    reference, now = draw(REFERENCE_ROWS, generator), draw(case.rows, generator)
    told = FAULTS[case.fault](now, case.share, generator)
    if told is None:
        return None
    hit, codes = told
    said = say(copy.deepcopy(reference), now)
    return said.alerted and said.code in codes and bool(said.columns & hit), codes, said


def cases(seeds: int) -> Iterator[Case]:
    for data in data_sets():
        for fault in FAULTS:
            for share in (1.0, 0.5, 0.25):
                for rows in (300, 1000):
                    for seed in range(seeds):
                        yield Case(data, fault, share, rows, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--misses", action="store_true")
    parser.add_argument("--seeds", type=int, default=0)
    wanted = parser.parse_args()
    draws = data_sets()
    right: dict[str, Counter[str]] = defaultdict(Counter)
    instead: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases(wanted.seeds or (1 if wanted.quick else 4)):
        found = run(case, draws[case.data])
        if found is None:
            continue
        good, codes, said = found
        outcome = "silent" if not said.alerted else "right" if good else "wrong"
        right[case.fault][outcome] += 1
        right[f"~{case.data}"][outcome] += 1
        right[f"~{case.share:.0%} of {case.rows} rows"][outcome] += 1
        right["~all"][outcome] += 1
        if outcome == "wrong":
            instead[case.fault][said.code if said.code not in codes else "right code, other column"] += 1
            if wanted.misses:
                print(case, sorted(codes), said.code, sorted(said.columns)[:3], said.sentence, sep=" | ")
    print(f"{'fault':24} {'alerts':>7} {'named':>7} {'share':>7} {'silent':>7}   said instead")
    for name, counts in right.items():
        alerts = counts["right"] + counts["wrong"]
        share = f"{counts['right'] / alerts:.0%}" if alerts else "-"
        others = ", ".join(f"{code} {count}" for code, count in instead[name].most_common())
        print(f"{name.lstrip('~'):24} {alerts:7} {counts['right']:7} {share:>7} {counts['silent']:7}   {others}")
    print(f"clean windows with causes: {clean(draws)}")


def clean(draws: dict[str, Callable[[int, random.Random], Rows]], windows: int = 20) -> str:
    alerted = total = 0
    for name, draw in draws.items():
        generator = random.Random(f"clean {name}")
        reference = draw(REFERENCE_ROWS, generator)
        for _ in range(windows):
            alerted += say(reference, draw(500, generator)).alerted
            total += 1
    return f"{alerted} of {total}"


if __name__ == "__main__":
    main()
