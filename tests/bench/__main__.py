"""``make bench``: measure, and write docs/performance.md. Ratios from one run on one machine; nothing here is asserted in tests."""

from __future__ import annotations

import os
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

REPORT = Path(__file__).parents[2] / "docs" / "performance.md"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder:
        os.environ.update(
            SLIPWAY_VAR=folder,
            OMP_NUM_THREADS="1",
            DJANGO_SETTINGS_MODULE="mlops.settings",
            SLIPWAY_LOG_LEVEL="WARNING",
        )
        import django

        django.setup()
        from tests.bench import home, predict, push
        from tests.bench.product import Product

        with Product(Path(folder)) as product:
            sections = [push.measure(product), predict.measure(product)]
        sections.append(home.measure())
    stamp = datetime.now(UTC).strftime("%Y-%m-%d")
    cores = os.cpu_count()
    head = (
        "# Performance\n\n"
        f"Written by `make bench` on {stamp}: {platform.machine()}, {cores} cores, Python {platform.python_version()}, everything on this one machine, "
        "clients included. Read the ratios; the absolute figures are this machine's.\n"
    )
    REPORT.write_text("\n".join([head, *sections]), encoding="utf-8")
    print(REPORT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
