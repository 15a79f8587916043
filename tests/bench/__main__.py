"""``make bench``: measure, and write docs/performance.md. Ratios from one run on one machine; nothing here is asserted in tests.

Parts: ``--only push,peers,resources,stages,home,faults``. A part that is measured in full replaces its section of the report; with fewer peers,
models, rounds or seconds it is only printed (``--write`` writes it all the same).
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

REPORT = Path(__file__).parents[2] / "docs" / "performance.md"
PARTS = {
    "peers": "Against the others",
    "stages": "Where the time goes",
    "resources": "Cold start and memory",
    "push": "Push to live",
    "home": "Home page",
    "faults": "Faults",
}
ROUNDS, SECONDS = 3, 1.0
# The limits of calls a minute would end a measurement within seconds; raised, they are checked all the same.
LIMITS = dict.fromkeys(
    ("SLIPWAY_PREDICT_RATE", "SLIPWAY_ORGANIZATION_PREDICT_RATE", "SLIPWAY_API_RATE"), "2000000000"
) | {"SLIPWAY_SPOOL_LIMIT_BYTES": str(60 << 30)}


def main() -> None:
    asked = _asked()
    folder = Path(tempfile.mkdtemp(prefix="slipway-bench-"))
    os.environ.update(
        SLIPWAY_VAR=str(folder),
        OMP_NUM_THREADS="1",
        DJANGO_SETTINGS_MODULE="mlops.settings",
        SLIPWAY_LOG_LEVEL="ERROR",
        **LIMITS,
    )
    try:
        sections = _measure(asked, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(sections.values()))
    if asked.write or not asked.partial:
        _write(sections)


def _asked() -> argparse.Namespace:
    from tests.bench import peers
    from tests.bench.models import MODELS

    words = lambda text: text.split(",")  # noqa: E731
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--only", type=words, default=list(PARTS), help=f"parts: {','.join(PARTS)}")
    parser.add_argument("--peers", type=words, default=list(peers.NAMES), help=f"of {','.join(peers.NAMES)}")
    parser.add_argument("--models", type=words, default=list(MODELS), help=f"of {','.join(MODELS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each load, whole seconds with wrk")
    parser.add_argument("--write", action="store_true", help="write the report although the measurement is not whole")
    asked = parser.parse_args()
    for given, known in ((asked.only, PARTS), (asked.peers, peers.NAMES), (asked.models, MODELS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    whole = {"peers": list(peers.NAMES), "models": list(MODELS), "rounds": ROUNDS, "seconds": SECONDS}
    asked.partial = any(getattr(asked, name) != value for name, value in whole.items())
    return asked


def _measure(asked: argparse.Namespace, folder: Path) -> dict[str, str]:
    """Title -> section."""
    import django

    django.setup()
    from tests.bench import faults, home, push, race, report, resources, stages
    from tests.bench.models import Case
    from tests.bench.product import Product

    found: dict[str, str] = {}
    if set(asked.only) - {"home", "faults"}:
        models = folder / "models"
        subprocess.run([sys.executable, "-W", "ignore", "-m", "tests.bench.models", str(models)], check=True)
        cases = [Case(name, models / name) for name in asked.models]
        with Product(folder) as product:
            if "push" in asked.only:
                found["push"] = push.measure(product)
            for case in cases if set(asked.only) - {"push", "home"} else []:
                product.push(case)
            if "resources" in asked.only:
                found["resources"] = report.resources(resources.measure(product, cases))
            if "stages" in asked.only:
                found["stages"] = report.stages(stages.measure(product, cases[0], asked.seconds), stages.before())
            if "peers" in asked.only:
                found["peers"] = report.race(race.run(product, cases, asked.peers, asked.rounds, asked.seconds))
    if "home" in asked.only:
        found["home"] = home.measure()
    if "faults" in asked.only:
        found["faults"] = faults.measure(folder)
    return {PARTS[name]: found[name] for name in PARTS if name in found}


def _write(sections: dict[str, str]) -> None:
    """These sections replace their like; the others stay."""
    old = REPORT.read_text(encoding="utf-8") if REPORT.exists() else ""
    kept = {part.partition("\n")[0]: f"## {part}" for part in re.split(r"^## ", old, flags=re.MULTILINE)[1:]}
    stamp = datetime.now(UTC).strftime("%Y-%m-%d")
    head = (
        "# Performance\n\n"
        f"Written by `make bench`, last on {stamp}: {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, everything on this one "
        "machine, clients included. Read the ratios; the absolute figures are this machine's.\n"
    )
    whole = {**kept, **sections}
    order = [title for title in PARTS.values() if title in whole] + [
        title for title in whole if title not in PARTS.values()
    ]
    REPORT.write_text("\n".join([head, *(whole[title].rstrip() + "\n" for title in order)]), encoding="utf-8")
    print(f"Written to {REPORT}.")


if __name__ == "__main__":
    main()
