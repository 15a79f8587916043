"""The budget over 90 days as a process of its own: ``python -m tests.bench.drift.kept NAME OUT --deployments 4``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from tests.bench.drift import budget, data, measure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("out", type=Path)
    parser.add_argument("--deployments", type=int, default=2)
    asked = parser.parse_args()
    of = data.all_sets(measure.nannyml_data(measure.nannyml_python()))[asked.name]()
    asked.out.write_text(json.dumps(asdict(budget.run(of, deployments=asked.deployments))), encoding="utf-8")


if __name__ == "__main__":
    main()
