"""Evidently's full drift report: ``python -m monitoring.evidently_report in.json out.html``. The only import of Evidently.

A process of its own, without Django, database or secrets: it takes 3 s and 300 MB to import, and its parent may kill it.
``in.json``: ``{"reference": {column: [values]}, "current": {...}, "numeric": [names], "categorical": [names], "title": text}``.
Exit status 0 and the HTML on success; 3 and one line on stderr that people may read otherwise.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any

LIMIT_S = 150
CPU_LIMIT_S = 120


def write_report(source: Path, target: Path) -> None:
    """Draw the report. Raises whatever Evidently or pandas raise."""
    given: dict[str, Any] = json.loads(source.read_text(encoding="utf-8"))

    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=given["numeric"], categorical_columns=given["categorical"])

    def dataset(columns: dict[str, list[Any]]) -> Dataset:
        frame = pd.DataFrame(columns)
        for name in given["numeric"]:
            frame[name] = pd.to_numeric(frame[name], errors="coerce").astype(float)
        for name in given["categorical"]:
            frame[name] = frame[name].map(lambda value: None if value is None else str(value)).astype("object")
        return Dataset.from_pandas(frame, data_definition=definition)

    report = Report([DataDriftPreset(num_method="psi", cat_method="psi")], include_tests=False)
    result = report.run(dataset(given["current"]), dataset(given["reference"]))
    result.save_html(str(target))


def main(arguments: list[str]) -> int:
    source, target = map(Path, arguments)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S + 5))
    signal.alarm(LIMIT_S)  # when the parent is gone, nobody else would end this process
    part = target.with_suffix(".part")
    try:
        write_report(source, part)
    except Exception as error:  # noqa: BLE001  whatever it is, the parent gets one line instead of a stack trace
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\n")
        return 3
    part.replace(target)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
