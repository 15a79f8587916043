"""Counters that are killed (SIGKILL) in the middle of their transaction, two at once, on one database file: every row once, in its hour."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shared

ROOT = Path(__file__).resolve().parents[2]
TURNS = 4

PREPARE = """
from datetime import timedelta
from mlops.core import clock
from monitoring import baselines, counting
from tests.world import World
from tests.monitoring.scene import HOUR, Scene
world = World()
scene = Scene(world.acme)
scene.reference(400)
baselines.make(scene.deployment, scene.version)
second = scene.add_version(2)  # it has no baseline yet: the counter passes its rows over
now = clock.floor(clock.now(), HOUR)
for place in range(40):
    late = 100 if place % 7 == 3 else 0  # some rows come four days late
    version = second if place % 3 == 0 else scene.version
    scene.log(scene.rows(50), now - (place % 5 + late) * HOUR, version)
"""
# Children die by their own hand, as hard as by the kernel's: after so many writes of counts, before the transaction's end.
KILL = """
import os, random, signal, sys
from django.db import connections
from monitoring import stored_counts
from registry.models import ModelVersion
from serving.models import Deployment
counting.ROWS_AT_ONCE = 120
write = stored_counts._write

def child(work, writes):
    connections.close_all()
    pid = os.fork()
    if pid:
        return pid
    left = [writes]
    def write_and_die(rows):
        write(rows)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    stored_counts._write = write_and_die
    try:
        work()
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def count():
    counting.count_new()
    counting.merge_days()

def make():  # a baseline of the second version, while others count; its past is left to whoever counts next, or is killed at it
    counting.BACKFILL_STEPS = 0
    baselines.make(Deployment.objects.with_routes().get(), ModelVersion.objects.get(number=2))

draw, ends = random.Random(5), []
for turn in range(int(sys.argv[1])):
    pids = [child(count, draw.randint(1, 2)), child(count, draw.randint(1, 2))]
    if turn == 1:
        pids.append(child(make, -1))
    ends += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
ends += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in [child(count, -1), child(count, -1)]]
"""
REPORT = """
import json
from collections import defaultdict
from django.db.models import Sum
from mlops.core import clock
from monitoring import columns, packing, windows
from monitoring.models import Baseline, ColumnCount
from monitoring.windows import row_of
from serving.models import PredictionLog
answer = []
for baseline in Baseline.objects.order_by("version__number"):
    raw = PredictionLog.objects.filter(version=baseline.version_id)
    if baseline.learned_until is not None:
        first = list(raw.order_by("at", "pk").values_list("pk", flat=True)[:baseline.rows])
        raw = raw.exclude(pk__in=first)
    slots = defaultdict(list)
    for at, *row in raw.values_list("at", "features", "prediction", "probabilities"):
        slots[windows.start_of(baseline, at)].append(row_of(*row))
    watched = windows.watched(baseline)
    straight = {
        (column.name, start): column.bins.tally(columns.values_of(rows, [column])[column.name])
        for start, rows in slots.items() for column in watched
    }
    stored = {(row.column, row.hour): row for row in ColumnCount.objects.filter(baseline=baseline)}
    answer.append({
        "version": baseline.version.number,
        "source": baseline.source,
        "pending": baseline.backfill_before is not None,
        "spans": sorted({row.span for row in stored.values()}),
        "same_places": set(stored) == set(straight),
        "same_counts": all(packing.counts_of(stored[key].tally).tolist() == straight[key].counts.tolist() for key in straight),
        "rows": sum(row.rows for (name, _), row in stored.items() if name == "amount"),
    })
print(json.dumps({"ends": ends, "baselines": answer}))
"""


@pytest.mark.slow
def test_counters_that_are_killed_two_at_once_and_a_baseline_made_meanwhile_count_every_row_once(tmp_path):
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("SLIPWAY_", "DATABASE_", "EMAIL_"))}
    environment = kept | {
        "SLIPWAY_VAR": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "mlops.settings",
        "PYTHONPATH": str(ROOT),
    }
    shutil.copy(shared.migrated(), tmp_path / "db.sqlite3")
    code = "import django; django.setup()\n" + PREPARE + KILL + REPORT
    words = [sys.executable, "-c", code, str(TURNS)]
    done = subprocess.run(words, cwd=ROOT, env=environment, text=True, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])

    assert set(found["ends"]) == {0, -signal.SIGKILL}, done.stderr
    assert found["ends"].count(-signal.SIGKILL) >= 4
    assert [(each["version"], each["source"], each["rows"]) for each in found["baselines"]] == [
        (1, "reference", 26 * 50),
        (2, "live", 14 * 50 - 300),
    ]
    for each in found["baselines"]:
        assert (each["same_places"], each["same_counts"], each["pending"]) == (True, True, False)
    assert found["baselines"][0]["spans"] == [1, 24]
