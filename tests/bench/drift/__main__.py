"""``make bench-drift``: measure, and write the evidence into docs/drift.md. A data set to a process, as many at once as there are processors."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

REPORT = Path(__file__).parents[3] / "docs" / "drift.md"
BEGIN, END = "<!-- evidence: written by make bench-drift -->", "<!-- end of evidence -->"


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from tests.bench.drift import data, measure, report
    from tests.bench.drift.budget import Kept
    from tests.bench.drift.windows import Plan

    parser = argparse.ArgumentParser(prog="python -m tests.bench.drift", description=__doc__)
    parser.add_argument("--clean", type=int, default=Plan.clean, help="clean windows of each size and data set")
    parser.add_argument("--streams", type=int, default=Plan.streams, help="streams of each shift and size")
    parser.add_argument(
        "--deployments", type=int, default=2, help="watched for 90 days without drift, per data set of the budget"
    )
    parser.add_argument("--sets", type=lambda text: text.split(","), default=None)
    parser.add_argument(
        "--write", action="store_true", help="write the report although less was measured than by default"
    )
    asked = parser.parse_args()

    began = time.monotonic()
    python = measure.nannyml_python()
    names = asked.sets or list(data.all_sets(measure.nannyml_data(python)))
    folder = Path(tempfile.mkdtemp(prefix="slipway-drift-"))
    jobs = [
        ["measure", name, str(folder / f"{name}.json"), "--clean", str(asked.clean), "--streams", str(asked.streams)]
        for name in names
    ]
    jobs += [
        ["kept", name, str(folder / f"kept-{name}.json"), "--deployments", str(asked.deployments)] for name in names[:2]
    ]
    jobs += [["cbpe", str(folder / "cbpe.json")], ["causes", str(folder / "causes.json")]]
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        list(pool.map(_run, jobs))
    read = lambda name: json.loads((folder / name).read_text()) if (folder / name).exists() else None  # noqa: E731
    found = {name: read(f"{name}.json") for name in names}
    kept = [(name, Kept(**said)) for name in names if (said := read(f"kept-{name}.json"))]
    others = [said["text"] for name in ("cbpe.json", "causes.json") if (said := read(name))]
    plan = Plan(clean=asked.clean, streams=asked.streams)
    text = report.evidence(found, plan, kept, others)
    stamp = (
        f"Last on {datetime.now(UTC):%Y-%m-%d}: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{(time.monotonic() - began) / 60:.0f} minutes. Data sets: {', '.join(names)}."
    )
    print(text)
    if asked.write or (asked.clean, asked.streams, asked.sets) == (Plan.clean, Plan.streams, None):
        _write(f"{stamp}\n\n{text}")


def _run(job: list[str]) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.bench.drift.{job[0]}", *job[1:]], check=False, env=os.environ
    )
    print(
        f"{' '.join(job[:2])}: {'done' if done.returncode == 0 else 'FAILED'} after {time.monotonic() - began:.0f} s",
        flush=True,
    )


def _write(text: str) -> None:
    old = REPORT.read_text(encoding="utf-8")
    if BEGIN not in old:
        raise SystemExit(f"{REPORT} has no place for the evidence: {BEGIN}")
    REPORT.write_text(
        re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{text}\n{END}", old, flags=re.DOTALL),
        encoding="utf-8",
    )
    print(f"Written to {REPORT}.")


if __name__ == "__main__":
    main()
