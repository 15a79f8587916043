"""What watching costs: CPU of a drift check at a thousand, a hundred thousand and ten million predictions, and of counting one.

    .venv/bin/python -m tests.bench.drift_cost            # some minutes; --rows 1000 100000 for a quick look

Rows are counted by the product's own code, an hour's rows at a time, spread over seven days and merged to days as the worker does.
Of the larger numbers only the newest 20,000 rows lie in the prediction log (a check reads counts, and of raw rows a bounded sample);
the others are counted without being stored, drawn from a pool of 60,000 different ones. CPU seconds of this one process, no network.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from tests import environment  # noqa: F401  a folder of its own

os.environ["DATABASE_URL"] = ""
os.environ["DJANGO_SETTINGS_MODULE"] = "mlops.settings"

import django

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from accounts.models import Organization  # noqa: E402
from mlops.core import clock  # noqa: E402
from monitoring import alert_rules, checks, columns, counting, windows  # noqa: E402
from monitoring.models import Baseline, ColumnCount, CountCursor  # noqa: E402
from registry.models import ModelVersion  # noqa: E402
from serving.models import PredictionLog, ShippedBatch  # noqa: E402
from tests.monitoring.scene import HOUR, Scene  # noqa: E402

ROWS = (1_000, 100_000, 10_000_000)
HOURS = 7 * 24
POOL = 60_000
KEPT = 20_000
REFERENCE = 2_000
TIMES = 5


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def median(work: Callable[[], Any]) -> float:
    return sorted(cpu(work) for _ in range(TIMES))[TIMES // 2]


class Table:
    """A deployment whose rows have ``width`` columns: numbers, whole numbers, levels, and numbers of which a tenth is missing."""

    def __init__(self, name: str, width: int) -> None:
        organization, _ = Organization.objects.get_or_create(slug="bench", defaults={"name": "Bench"})
        self.scene = Scene(organization, name)
        self.draw, self.width = random.Random(width), width
        types = ("double", "long", "string", "double")
        inputs = [{"name": f"c{place}", "type": types[place % 4], "nullable": True} for place in range(width)]
        output = {"task": "classifier", "classes": ["no", "yes"], "probabilities": True}
        schema = {"kind": "table", "inputs": inputs, "tensor": None, "output": output}
        ModelVersion.objects.filter(pk=self.scene.version.pk).update(schema=schema)
        self.scene.version.refresh_from_db()
        self.scene.go_live(self.scene.version)
        rows = [self.answer() for _ in range(REFERENCE)]
        features = {name: [row[0][name] for row in rows] for name in rows[0][0]}
        watched = columns.fit_all(features, [row[1] for row in rows], [row[2] for row in rows], schema)
        self.baseline = Baseline.objects.create(
            organization=organization, deployment=self.scene.deployment, version=self.scene.version, source="reference",
            rows=REFERENCE, columns={column.name: column.to_json() for column in watched},
        )  # fmt: skip
        self.watched = watched

    def answer(self) -> tuple[dict[str, Any], str, list[float]]:
        draw = self.draw
        makers = (
            lambda: draw.lognormvariate(4, 0.6),
            lambda: draw.randint(18, 80),
            lambda: draw.choices(["red", "green", "blue"], [5, 3, 2])[0],
            lambda: None if draw.random() < 0.1 else draw.gauss(0, 1),
        )
        chance = draw.random()
        features = {f"c{place}": makers[place % 4]() for place in range(self.width)}
        return features, "yes" if chance > 0.5 else "no", [1 - chance, chance]

    def store(self, count: int, at: datetime) -> None:
        """Rows in the log, as shipped batches."""
        for start in range(0, count, 5_000):
            size = min(5_000, count - start)
            batch = ShippedBatch.objects.create(rows=size)
            logged = []
            for place in range(size):
                features, prediction, probabilities = self.answer()
                logged.append(
                    PredictionLog(
                        organization=self.scene.organization,
                        deployment=self.scene.deployment,
                        version=self.scene.version,
                        batch=batch,
                        at=at + timedelta(microseconds=start + place),
                        request_id="bench",
                        latency_ms=3.0,
                        features=features,
                        prediction=prediction,
                        probabilities=probabilities,
                    )  # fmt: skip
                )
            PredictionLog.objects.bulk_create(logged, batch_size=1_000)

    def count_unstored(self, total: int, now: datetime) -> float:
        """Count ``total`` rows over the last seven days, oldest hour first. Returns the CPU seconds of counting alone."""
        key = (self.scene.deployment.pk, self.scene.version.pk)
        pool = [self.answer() for _ in range(min(POOL, total))]
        spent, done = 0.0, 0
        for hour in range(HOURS):
            at, upto = now - (HOURS - hour) * HOUR, total * (hour + 1) // HOURS
            while done < upto:
                size = min(counting.ROWS_AT_ONCE, upto - done)
                rows = [(*key, at, *pool[(done + place) % len(pool)]) for place in range(size)]
                with transaction.atomic():
                    counting.locked_cursor()
                    spent += cpu(lambda rows=rows: counting._count(rows, {key: [self.baseline]}))
                done += size
        return spent


def measure_counting(width: int) -> None:
    table = Table(f"counting-{width}", width)
    now = clock.floor(clock.now(), HOUR)
    many = 20_000 if width <= 100 else 2_000
    table.store(many, now)
    spent = cpu(counting.count_new)
    print(
        f"counting, {width} columns: {spent / many * 1e6:.1f} us of CPU a row ({many:,} rows at once, read from the log)"
    )
    for size in (1, 100, 1_000):
        spent = []
        for _ in range(TIMES):
            table.store(size, now)
            spent.append(cpu(counting.count_new))
        print(
            f"counting, {width} columns: {sorted(spent)[TIMES // 2] * 1e3:.1f} ms of CPU for a minute of {size:,} rows"
        )
    sizes = [
        len(json.dumps(stored))
        for stored in ColumnCount.objects.filter(baseline=table.baseline).values_list("tally", flat=True)
    ]
    print(
        f"stored, {width} columns: {sum(sizes) / len(sizes):.0f} bytes a column and hour, {sum(sizes) / 1e3:.0f} kB an hour in all"
    )


def measure_check(total: int, width: int = 20) -> float:
    table = Table(f"check-{total}", width)
    alert_rules.ensure_rules(table.scene.deployment)
    now, stored = clock.floor(clock.now(), HOUR), min(KEPT, total // 2)
    spent = table.count_unstored(total - stored, now)
    table.store(stored, now)
    counting.count_new()
    counting.merge_days()
    deployment = type(table.scene.deployment).objects.with_routes().get(pk=table.scene.deployment.pk)
    seconds = median(lambda: checks.run(deployment))
    with_queries = _queries(lambda: checks.run(deployment))
    rows = ColumnCount.objects.filter(baseline=table.baseline).count()
    each = spent / (total - stored) * 1e6
    print(
        f"check at {total:,} predictions: {seconds * 1e3:.0f} ms of CPU, {with_queries} queries; {rows:,} rows of counts, counting took {each:.1f} us a row"
    )
    return seconds


def measure_windows(width: int) -> None:
    """Ninety days of traffic: how many rows a window reads, and what that costs. One hour is counted; the others are its copies."""
    table = Table(f"windows-{width}", width)
    now = clock.floor(clock.now(), HOUR)
    key = (table.scene.deployment.pk, table.scene.version.pk)
    with transaction.atomic():
        counting._count([(*key, now, *table.answer()) for _ in range(1_000)], {key: [table.baseline]})
    counted = list(ColumnCount.objects.filter(baseline=table.baseline))
    copied = [now - hours * HOUR for hours in range(1, 5 * 24)]
    copied += [clock.floor(now, windows.DAY) - timedelta(days=days) for days in range(6, 91)]
    for at in copied:
        rows = [
            ColumnCount(baseline=table.baseline, column=row.column, hour=at, rows=row.rows, tally=row.tally)
            for row in counted
        ]
        ColumnCount.objects.bulk_create(rows)
    before = ColumnCount.objects.filter(baseline=table.baseline).count()
    merged = cpu(counting.merge_days)
    table.baseline.refresh_from_db()
    after = ColumnCount.objects.filter(baseline=table.baseline).count()
    print(f"merging, {width} columns: {before:,} rows to {after:,}, {merged:.1f} s of CPU")
    for days in (1, 7, 90):
        start = now - timedelta(days=days)
        inside = ColumnCount.objects.filter(baseline=table.baseline, hour__gte=windows.start_of(table.baseline, start))
        seconds = median(lambda start=start: windows.total(table.baseline, table.watched, start, now + HOUR))
        print(f"window of {days} d, {width} columns: {inside.count():,} rows read, {seconds * 1e3:.0f} ms of CPU")


def _queries(work: Callable[[], Any]) -> int:
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as seen:
        work()
    return len(seen)


def main() -> None:
    wanted = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    wanted.add_argument("--rows", type=int, nargs="+", default=ROWS)
    wanted.add_argument("--wide", type=int, default=500, help="columns of the wide table")
    options = wanted.parse_args()
    call_command("migrate", verbosity=0)
    call_command("createcachetable")
    CountCursor.objects.all().delete()
    for width in (20, options.wide):
        measure_counting(width)
        measure_windows(width)
    seconds = [measure_check(total) for total in options.rows]
    print(f"a check at {options.rows[-1]:,} costs {seconds[-1] / seconds[0]:.2f} times one at {options.rows[0]:,}")


if __name__ == "__main__":
    main()
