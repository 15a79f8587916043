"""All rules on all windows of one data set. Run as a process of its own per data set: ``python -m tests.bench.drift.measure NAME OUT``."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from tests import venvs
from tests.bench.drift import data
from tests.bench.drift.data import DataSet, Table
from tests.bench.drift.rules import Evidently, Ours, PlainRules, Together
from tests.bench.drift.windows import CLEAN, Case, Plan, cases

Alarms = dict[str, list[bool]]  # rule -> window by window
# The test of columns together costs ten times the others: it is asked where it matters.
TOGETHER_CLEAN = 60
HERE = Path(__file__).parent


def nannyml_python() -> Path | None:
    """NannyML's own environment; None where it cannot be installed."""
    try:
        return venvs.python_of("nannyml")
    except venvs.NotInstalled as error:
        print(f"NannyML is left out: {error}", flush=True)
        return None


def nannyml_data(python: Path | None) -> Path | None:
    found = sorted(python.parents[1].glob("lib/*/site-packages/nannyml/datasets/data")) if python else []
    return found[0] if found else None


def measure(of: DataSet, plan: Plan, python: Path | None) -> dict[str, Alarms]:
    """Case name -> alarms of every rule."""
    ours = Ours(of)
    rules: list[Callable[[Table], dict[str, bool]]] = [ours, PlainRules(ours), Evidently(of)]
    together = Together(ours)
    found: dict[str, Alarms] = {}
    folder = Path(tempfile.mkdtemp(prefix="slipway-drift-"))
    try:
        for case in cases(of, plan):
            found[case.name] = _case(case, rules, together, folder if python else None)
        if python:
            _nannyml(of, folder, python, found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return found


def _case(
    case: Case, rules: list[Callable[[Table], dict[str, bool]]], together: Together, folder: Path | None
) -> Alarms:
    alarms: Alarms = defaultdict(list)
    tables = []
    for number, window in enumerate(case):
        asked = list(rules)
        if case.kind == "relation" or (case.kind == CLEAN and number < TOGETHER_CLEAN):
            asked.append(together)
        for rule in asked:
            for name, alarm in rule(window).items():
                alarms[name].append(bool(alarm))
        if folder is not None:
            tables.append(window)
    if folder is not None:
        _frame(tables).to_parquet(folder / f"{case.name}.parquet")
    return dict(alarms)


def _frame(tables: list[Table]):  # noqa: ANN202  a pandas frame; pandas is imported late
    import pandas as pd

    return pd.concat([pd.DataFrame(table) for table in tables], ignore_index=True)


def _nannyml(of: DataSet, folder: Path, python: Path, found: dict[str, Alarms]) -> None:
    _frame([of.history]).to_parquet(folder / "reference.parquet")
    subprocess.run([str(python), str(HERE / "nanny.py"), "drift", str(folder)], check=True, capture_output=True)
    for case, alarms in json.loads((folder / "drift.json").read_text()).items():
        found[case]["NannyML"] = alarms


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--clean", type=int, default=Plan.clean)
    parser.add_argument("--streams", type=int, default=Plan.streams)
    asked = parser.parse_args()
    python = nannyml_python()
    of = data.all_sets(nannyml_data(python))[asked.name]()
    plan = Plan(clean=asked.clean, streams=asked.streams)
    asked.out.write_text(json.dumps(measure(of, plan, python)), encoding="utf-8")


if __name__ == "__main__":
    main()
