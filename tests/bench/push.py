"""From the first byte of the upload to the first answer of the deployed model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.product import Product


def measure(product: Product) -> str:
    lines = [
        "## Push to live",
        "",
        "Upload by HTTP, every check, deploy, first correct answer; with a reference data set and a sample.",
        "",
    ]
    lines += ["| model | file | seconds |", "|---|---|---|"]
    scenario = product.demo()
    for name in product.demo_models:
        started = time.perf_counter()
        scenario.push(name)
        scenario.compare(name)
        seconds = time.perf_counter() - started
        file = scenario.folder / {"diabetes": "diabetes.joblib", "tumour": "tumour.ubj", "wine": "wine.pt2"}[name]
        lines.append(f"| {name} | {file.name}, {file.stat().st_size / 1024:.0f} kB | {seconds:.1f} |")
    return "\n".join([*lines, ""])
