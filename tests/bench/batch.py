"""A long file through a batch run: rows a second, and the memory of the worker and of the two sandboxed runners.

``python -m tests.bench.batch [rows ...]`` with a runner host, a database and a folder of its own; prints a line per run.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests import (
    environment,  # noqa: F401  a folder of its own
    tiny_models,
)
from tests.runner_host import running_host
from tests.serving.server import PROJECT, LocalServer

START = """
import django, json, sys
django.setup()
from accounts.caller import Caller
from accounts.models import User
from mlops.core.storage import Spool
from mlops.jobs import queue
from serving.batch_input import Sent
from serving.models import Deployment
from serving.services import batches
queue.send = lambda job_id: None
path, fmt, output = sys.argv[1:]
spool = Spool(limit_bytes=1 << 40, what="The file")
with open(path, "rb") as file:
    while chunk := file.read(1 << 20):
        spool.write(chunk)
spool.finish()
row = Deployment.objects.with_routes().get(name="flowers")
sent = Sent(f"rows.{fmt}", fmt, spool)
run = batches.start_run(deployment=row, version_id=row.live_version.pk, sent=sent, output=output, caller=Caller(user=User.objects.get()))
print(json.dumps({"batch": str(run.pk), "job": run.job_id}))
"""
WORK = """
import django, json, sys, time
django.setup()
from mlops.jobs import queue, runner
from mlops.jobs.models import Job
from serving.models import BatchRun
import serving.jobs
queue.send = lambda job_id: None

def peak_mb():  # not getrusage: that begins with what the parent had before exec
    return round(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024)

before, begun = peak_mb(), time.monotonic()
portions = 0
while Job.objects.get(pk=sys.argv[1]).status == "queued":
    runner.run(int(sys.argv[1]))
    portions += 1
run = BatchRun.objects.get(pk=sys.argv[2])
print(json.dumps({
    "status": run.status, "error": run.error, "rows": run.rows_done, "failed": run.rows_failed, "result_mb": round(run.result_bytes / 1e6, 1),
    "seconds": round(time.monotonic() - begun, 1), "rows_per_s": round(run.rows_done / run.busy_s), "portions": portions, "parts": run.parts.count(),
    "worker_start_mb": before, "worker_peak_mb": peak_mb(),
}))
"""


def write_rows(path: Path, fmt: str, count: int) -> None:
    draw, names = random.Random(1), tiny_models.IRIS
    with path.open("w") as file:
        if fmt == "csv":
            file.write(",".join(f'"{name}"' for name in names) + "\n")
        for number in range(count):
            row = [round(draw.uniform(0.1, 7.5), 2) for _ in names]
            bad = number % 100_000 == 99_999
            if fmt == "csv":
                file.write("1,2\n" if bad else ",".join(map(str, row)) + "\n")
            else:
                file.write(json.dumps(dict(zip(names, ["x", *row[1:]] if bad else row, strict=True))) + "\n")


class RunnerPeak(threading.Thread):
    """The largest memory of any runner, while the block lasts."""

    def __init__(self, host: object) -> None:
        super().__init__(daemon=True)
        self.host, self.peak_mb, self.ended = host, 0.0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.5):
            sizes = [
                entry["bytes"] for entry in self.host.status()["entries"] if str(entry["key"]).startswith("batch-")
            ]
            self.peak_mb = max(self.peak_mb, *(size / 1e6 for size in sizes), 0.0)


def main(counts: list[int]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-batch-"))
    models = tiny_models.build(folder / "tiny")
    with running_host(artifacts=[Path(os.environ["SLIPWAY_VAR"])]) as running:
        running.wait_for_verdict()
        with LocalServer(models["iris_joblib"], running.socket_path) as server:
            for count in counts:
                for fmt, output in (("csv", "csv"), ("jsonl", "parquet")):
                    path = folder / f"rows.{fmt}"
                    write_rows(path, fmt, count)
                    made = json.loads(server.python(START, str(path), fmt, output).strip().splitlines()[-1])
                    peak, begun = RunnerPeak(running.client), time.monotonic()
                    peak.start()
                    words = [sys.executable, "-c", WORK, str(made["job"]), made["batch"]]
                    found = subprocess.run(
                        words, cwd=PROJECT, env=server.environment, capture_output=True, text=True, check=False
                    )
                    peak.ended.set()
                    if found.returncode:
                        print(found.stderr[-3000:])
                        return
                    told = json.loads(found.stdout.strip().splitlines()[-1])
                    told |= {"in": fmt, "out": output, "input_mb": round(path.stat().st_size / 1e6, 1)}
                    told |= {"runner_peak_mb": round(peak.peak_mb), "wall_s": round(time.monotonic() - begun, 1)}
                    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [100_000, 1_000_000])
